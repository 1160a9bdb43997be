//! Heavy parts, parent's side: which there are, whether they have changed, and the ids they have in
//! the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millpond_engine::StoreId;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::deliver::Ticket;
use crate::errors;
use crate::items::Items;
use crate::names::Names;
use crate::pack::{PLAIN_COUNT_MAX, Packer, is_plain};
use crate::packed::{PartKind, StoredNumbers, store_numbers};
use crate::saved;
use crate::witness::{Tracking, Witness};

/// Items from which on a flat list or tuple of atoms is a heavy part. Below it, its pickle of some
/// kilobytes is made and loaded in the time that the store's bookkeeping takes.
pub(crate) const HEAVY_LEN_MIN: usize = 2048;

/// How long a saved part may lie unused: what it holds are the user's atoms.
const UNUSED_TIME_MAX: Duration = Duration::from_secs(1);

/// The most parts that are kept for a next dispatch.
const PART_COUNT_MAX: usize = 16;

/// How deep, and how wide, a callable is searched for heavy parts.
const SEARCH_DEPTH_MAX: usize = 8;
const SEARCH_COUNT_MAX: usize = 256;

/// A part that lies in the store, and what proves that a list or tuple is the one that was stored.
pub(crate) struct Part {
    /// Where the root was last seen. It tells which part to compare with first, and proves nothing.
    address_hint: usize,
    is_list: bool,
    witness: Witness,
    /// Address and position of atoms that pickle memoizes.
    memoized: HashMap<usize, u32>,
    pub(crate) id: StoreId,
    pub(crate) counted_len: u64,
    last_used: Mutex<Instant>,
}

impl Part {
    fn is(&self, items: &Items<'_>) -> bool {
        self.is_list == items.is_list && self.witness.holds(items)
    }
}

/// The parts that are kept, and what was done for them.
#[derive(Default)]
pub(crate) struct Parts {
    kept: Mutex<Vec<Arc<Part>>>,
    tracking: Tracking,
    pub(crate) pickled: AtomicU64,
    pub(crate) pickled_bytes: AtomicU64,
    pub(crate) verified: AtomicU64,
    /// Parts that were write-tracked when they were stored.
    pub(crate) tracked: AtomicU64,
}

/// What a search through a callable found.
pub(crate) struct Candidates<'py> {
    found: Vec<Bound<'py, PyAny>>,
    /// Whether nothing of the user's can run while the callable is pickled, so that what was
    /// verified before is what the pickler meets.
    is_simple: bool,
    budget: usize,
}

impl<'py> Candidates<'py> {
    /// Searches a callable for flat heavy lists and tuples. What is not found is pickled with the
    /// task, so the search need not be complete.
    pub(crate) fn of(callable: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut search = Self { found: Vec::new(), is_simple: true, budget: SEARCH_COUNT_MAX };
        search.visit(callable, 0)?;
        Ok(search)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn visit(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        if is_plain(object, &mut 1) {
            return Ok(());
        }
        if depth > SEARCH_DEPTH_MAX || self.budget == 0 {
            self.is_simple = false;
            return Ok(());
        }
        self.budget -= 1;
        let py = object.py();
        if let Some(items) = Items::of(object) {
            if items.len() >= HEAVY_LEN_MIN {
                self.found.push(object.clone());
                return Ok(());
            }
            for item in object.try_iter()? {
                self.visit(&item?, depth + 1)?;
            }
            return Ok(());
        }
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            if dict.len() > self.budget {
                self.is_simple = false;
                return Ok(());
            }
            for (key, value) in dict.iter() {
                self.visit(&key, depth + 1)?;
                self.visit(&value, depth + 1)?;
            }
            return Ok(());
        }
        if object.get_type().is(&Names::get(py)?.partial) {
            for name in ["func", "args", "keywords"] {
                self.visit(&object.getattr(name)?, depth + 1)?;
            }
            return Ok(());
        }
        // Pickling anything else may run code of the user's. Its attributes are looked at without
        // running any: a bound method's self, and an instance's own dict.
        self.is_simple = false;
        if object.get_type().is(&Names::get(py)?.method_type) {
            return self.visit(&object.getattr("__self__")?, depth + 1);
        }
        if let Some(dict) = instance_dict(object) {
            for (_, value) in dict.iter() {
                self.visit(&value, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// Returns an instance's own dict, without running code of the user's.
#[allow(unsafe_code, reason = "PyObject_GenericGetDict has no safe wrapper")]
fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is alive. The call returns a new reference or null with an error set; it
    // does not go through the type's own `__getattribute__`.
    let dict = unsafe {
        Bound::from_owned_ptr_or_opt(
            object.py(),
            pyo3::ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut()),
        )
    };
    if dict.is_none() {
        drop(PyErr::take(object.py()));
    }
    dict?.cast_into_exact::<PyDict>().ok()
}

/// One list or tuple that a dispatch names.
struct PlannedRoot {
    address: usize,
    part: Arc<Part>,
    /// Tells roots apart that are equal: they share the stored bytes, and arrive as two.
    copy: u32,
}

/// The parts that one dispatch names.
pub(crate) struct Plan {
    roots: Vec<PlannedRoot>,
    is_simple: bool,
}

impl Plan {
    /// Lets go of the parts, once the task that names them holds them, or is not published.
    pub(crate) fn let_go(&self, engine: &millpond_engine::Engine<Ticket>) {
        for root in &self.roots {
            engine.let_go(root.part.id);
        }
    }

    fn shares_atoms(&self, part: &Part) -> bool {
        self.roots.iter().any(|known| {
            let (few, many) = if known.part.memoized.len() < part.memoized.len() {
                (&known.part.memoized, &part.memoized)
            } else {
                (&part.memoized, &known.part.memoized)
            };
            few.keys().any(|address| many.contains_key(address))
        })
    }

    pub(crate) fn ids(&self) -> Vec<StoreId> {
        self.roots.iter().map(|root| root.part.id).collect()
    }

    pub(crate) fn counted_len(&self) -> u64 {
        self.roots.iter().map(|root| root.part.counted_len).sum()
    }
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies the candidates, or stores what is new or has changed. A candidate that is not a flat
    /// part, or cannot be stored, is left to the pickler.
    pub(crate) fn plan<'py>(
        &self,
        engine: &millpond_engine::Engine<Ticket>,
        candidates: &Candidates<'py>,
        packer: &mut Packer<'py>,
    ) -> PyResult<Plan> {
        let mut plan = Plan { roots: Vec::new(), is_simple: candidates.is_simple };
        for root in &candidates.found {
            let address = root.as_ptr().addr();
            if plan.roots.iter().any(|known| known.address == address) {
                continue;
            }
            let part = match self.verify(engine, root) {
                Some(part) => Some(part),
                None => match self.store(engine, root, packer) {
                    Ok(part) => part,
                    Err(error) => {
                        plan.let_go(engine);
                        return Err(error);
                    }
                },
            };
            if let Some(part) = part {
                // An atom that is memoized may stand in the callable before the part does; whether
                // the part will then be met unchanged is certain for simple callables only.
                // Two parts that hold one such atom would arrive with one of it each; so the second
                // stays in the stream, where its atoms name those of the first.
                if part.memoized.is_empty() || (plan.is_simple && !plan.shares_atoms(&part)) {
                    let equals = plan.roots.iter().filter(|known| known.part.id == part.id);
                    let copy = equals.count() as u32;
                    // What is planned next may push this one out of those that are kept.
                    engine.hold(part.id);
                    plan.roots.push(PlannedRoot { address, part, copy });
                }
            }
        }
        Ok(plan)
    }

    /// Returns the kept part that this live root is, by comparing its pointers with the saved ones.
    fn verify(
        &self,
        engine: &millpond_engine::Engine<Ticket>,
        root: &Bound<'_, PyAny>,
    ) -> Option<Arc<Part>> {
        let address = root.as_ptr().addr();
        let items = Items::of(root)?;
        let mut kept = self.lock();
        kept.sort_by_key(|part| part.address_hint != address);
        let found = kept.iter().position(|part| part.is(&items));
        let mut outdated = None;
        if found != Some(0) && kept.first().is_some_and(|part| part.address_hint == address) {
            // The root has changed since, or another object lies there now.
            outdated = Some(kept.remove(0));
        }
        let part = match (found, &outdated) {
            (None, _) => None,
            (Some(at), None) => Some(Arc::clone(&kept[at])),
            (Some(at), Some(_)) => Some(Arc::clone(&kept[at - 1])),
        };
        drop(kept);
        if let Some(outdated) = outdated {
            engine.let_go(outdated.id);
        }
        if let Some(part) = &part {
            self.verified.fetch_add(1, Ordering::Relaxed);
            *part.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        part
    }

    fn store<'py>(
        &self,
        engine: &millpond_engine::Engine<Ticket>,
        root: &Bound<'py, PyAny>,
        packer: &mut Packer<'py>,
    ) -> PyResult<Option<Arc<Part>>> {
        let Some(items) = Items::of(root) else { return Ok(None) };
        let is_list = items.is_list;
        // The GIL is kept: were it let go, the root could change before its task is pickled.
        let tracking = Witness::track(&self.tracking, &items);
        let (witness, stored) = match store_numbers(engine, &items) {
            Ok(Some(stored)) => {
                let Some(witness) = tracking.or_else(|| Witness::save(&items)) else {
                    return Ok(None);
                };
                (witness, Ok((stored, HashMap::new())))
            }
            Ok(None) => {
                // Atoms that have an identity are known by their addresses, also after the list has
                // changed, so they are saved.
                let Some(saved) = saved::save(&items) else { return Ok(None) };
                let packed = packer.pack(root, true)?;
                let len = packed.as_bytes().len() as u64;
                let id = engine.store(packed.as_bytes(), PartKind::Pickle.bits());
                let stored = |id| StoredNumbers { id, stored_len: len, counted_len: len };
                let memoized = saved.memoized();
                (Witness::Saved(saved), id.map(|id| (stored(id), memoized)))
            }
            Err(error) if error.is_out_of_memory() => return Ok(None),
            Err(error) => return Err(errors::to_python(&error)),
        };
        let (StoredNumbers { id, stored_len, counted_len }, memoized) = match stored {
            Ok(stored) => stored,
            Err(error) if error.is_out_of_memory() => return Ok(None),
            Err(error) => return Err(errors::to_python(&error)),
        };
        self.pickled.fetch_add(1, Ordering::Relaxed);
        self.tracked.fetch_add(u64::from(witness.is_tracked()), Ordering::Relaxed);
        self.pickled_bytes.fetch_add(stored_len, Ordering::Relaxed);
        let part = Arc::new(Part {
            address_hint: root.as_ptr().addr(),
            is_list,
            witness,
            memoized,
            id,
            counted_len,
            last_used: Mutex::new(Instant::now()),
        });
        let mut kept = self.lock();
        kept.push(Arc::clone(&part));
        let surplus = (kept.len() > PART_COUNT_MAX).then(|| kept.remove(0));
        drop(kept);
        if let Some(surplus) = surplus {
            engine.let_go(surplus.id);
        }
        Ok(Some(part))
    }

    /// Lets parts go that have not been used for a second. Returns whether any are kept.
    pub(crate) fn expire(&self, engine: &millpond_engine::Engine<Ticket>, all: bool) -> bool {
        let now = Instant::now();
        let is_old = |part: &Arc<Part>| {
            let used = *part.last_used.lock().unwrap_or_else(PoisonError::into_inner);
            all || now.saturating_duration_since(used) >= UNUSED_TIME_MAX
        };
        let mut kept = self.lock();
        let (old, rest): (Vec<_>, Vec<_>) = kept.drain(..).partition(is_old);
        *kept = rest;
        let any_left = !kept.is_empty();
        drop(kept);
        for part in old {
            engine.let_go(part.id);
        }
        any_left
    }
}

/// The pickler's `persistent_id` while a task is pickled that names parts.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct PartHook {
    plan: Plan,
    /// For each root: not met, named, or pickled in the stream because it had changed.
    met: Mutex<Vec<Met>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    NotYet,
    Named,
    InStream,
}

/// Entry and turn of a part, which of its copies, and the index of an atom in it; -1 for the whole.
type PersistentId = (u32, u64, u32, i64);

impl PartHook {
    pub(crate) fn new(plan: Plan) -> Self {
        let met = Mutex::new(vec![Met::NotYet; plan.roots.len()]);
        Self { plan, met }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    fn root(&self, object: &Bound<'_, PyAny>) -> Option<PersistentId> {
        let address = object.as_ptr().addr();
        let index = self.plan.roots.iter().position(|known| known.address == address)?;
        let PlannedRoot { part, copy, .. } = &self.plan.roots[index];
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        if met[index] == Met::NotYet {
            // Once it is in the stream, later references mean what it was then, as with pickle's
            // memo; before that, code that the pickler ran may have changed it.
            let is_same = self.plan.is_simple || Items::of(object).is_some_and(|it| part.is(&it));
            met[index] = if is_same { Met::Named } else { Met::InStream };
        }
        (met[index] == Met::Named).then_some((part.id.entry, part.id.turn, *copy, -1))
    }

    fn atom(&self, object: &Bound<'_, PyAny>) -> Option<PersistentId> {
        let address = object.as_ptr().addr();
        self.plan.roots.iter().find_map(|PlannedRoot { part, copy, .. }| {
            let index = part.memoized.get(&address)?;
            Some((part.id.entry, part.id.turn, *copy, i64::from(*index)))
        })
    }
}

#[pymethods]
impl PartHook {
    fn __call__(&self, object: &Bound<'_, PyAny>) -> Option<PersistentId> {
        if object.is_exact_instance_of::<PyList>() || object.is_exact_instance_of::<PyTuple>() {
            return self.root(object);
        }
        if object.is_exact_instance_of::<PyString>() || object.is_exact_instance_of::<PyBytes>() {
            return self.atom(object);
        }
        None
    }
}

/// Tells whether a task of this callable and these arguments is plain.
pub(crate) fn is_plain_task(objects: &[&Bound<'_, PyAny>]) -> bool {
    let mut budget = PLAIN_COUNT_MAX;
    objects.iter().all(|object| is_plain(object, &mut budget))
}
