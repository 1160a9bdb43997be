//! Heavy parts, worker's side: live copies, and the proof that a task has left them as they were.
#![allow(unsafe_code, reason = "reference counts are read, and packed bytes unpacked")]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millpond_engine::{StoreId, View, Worker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::buffers::{BufferId, Leases};
use crate::deliver::{load_view, memory_view};
use crate::errors;
use crate::graph::{self, NoCollection, Proof, Side};
use crate::items::Items;
use crate::names::Names;
use crate::packed::{self, PartKind};
use crate::parts::{ROOT_FIRST, SHARED, WHOLE_ONCE, counted};
use crate::witness::{Tracking, Witness};

/// Indices of `millpond_engine::Seat::COUNTS`.
const LOADED: usize = 1;
const VERIFIED: usize = 2;
const CHANGED: usize = 3;

/// A live copy of a stored part.
struct Copy {
    /// The list or tuple, or the tuple of graphs: the only reference that may be left after a task.
    live: Py<PyAny>,
    evidence: Evidence,
    /// What pickle remembered when it was loaded, by number, if that was asked for.
    memo: Option<Py<PyDict>>,
    is_used: bool,
    /// Idle seconds since its last use.
    idle_s: u32,
}

enum Evidence {
    /// The copy serves one task.
    None,
    /// The copy serves all tasks, whatever they do to it: the user has asked for that.
    Shared,
    /// A list or tuple of atoms, with a list's allocated length after loading, which
    /// `sys.getsizeof` shows.
    Flat {
        witness: Witness,
        allocated: isize,
    },
    Graph(Box<Proof>),
}

/// A part, and which of its copies: equal parts of one task are stored once and arrive as many.
type CopyId = (StoreId, u32);

/// The worker, and what it has loaded, where both the loop and the unpickler's hook reach them.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct WorkerDesk {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) worker: Worker,
    copies: HashMap<CopyId, Copy>,
    /// Those that the task has used, each at least once.
    used: Vec<CopyId>,
    buffers: Leases,
    tracking: Tracking,
    /// Whether the task names objects by their numbers in pickle's memo.
    pub(crate) wants_memo: bool,
}

impl WorkerDesk {
    pub(crate) fn new(worker: Worker) -> Self {
        let inner = Inner {
            worker,
            copies: HashMap::new(),
            used: Vec::new(),
            buffers: Leases::default(),
            tracking: Tracking::default(),
            wants_memo: false,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// No code of the user's may run under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl WorkerDesk {
    /// The unpickler's `persistent_load`: a root of a part, or a node in it.
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        id: (u32, u64, u32, i64),
    ) -> PyResult<Bound<'py, PyAny>> {
        let (entry, turn, copy, index) = id;
        let id = (StoreId { entry, turn }, copy);
        let zones = self.lock().zones_of(py, id);
        if !graph::zones_hold(&zones) {
            let removed = self.lock().copies.remove(&id);
            drop(removed);
        }
        // A statement of its own: the guard of a match would be held in its arms.
        let found = self.lock().copy(py, id);
        let (live, memo) = match found {
            Some(found) => found,
            None => self.load(py, id, index)?,
        };
        if index == SHARED {
            return Ok(live);
        }
        let is_graph = self.lock().is_graph(id);
        if index >= 0 && is_graph {
            let memo = memo.ok_or_else(|| PyRuntimeError::new_err("a part has no memo"))?;
            let node = memo.get_item(index)?.ok_or_else(|| {
                PyRuntimeError::new_err(format!("a part remembers no object {index}"))
            })?;
            if !node.is_exact_instance_of::<PyString>() && !node.is_exact_instance_of::<PyBytes>() {
                // Pickle remembers objects that are no longer in the graph, such as the state of an
                // instance. What a task does to such a one would not be noticed.
                self.lock().spoil(id);
            }
            return Ok(node);
        }
        if is_graph {
            return live.cast::<PyTuple>()?.get_item((ROOT_FIRST - index) as usize);
        }
        if index < 0 {
            return Ok(live);
        }
        // Not of the list: a `__setstate__` that was called before this may have changed it.
        let atom = self.lock().atom(py, id, index as usize);
        atom.ok_or_else(|| PyRuntimeError::new_err(format!("a part has no object {index}")))
    }
}

impl Copy {
    /// Proves that nothing has changed in the copy since it was loaded, and that nobody else refers to
    /// anything in it.
    fn is_as_loaded(&self, py: Python<'_>) -> bool {
        let live = self.live.bind(py);
        // SAFETY: the object is alive and the GIL is held.
        let is_ours_alone = unsafe { ffi::Py_REFCNT(live.as_ptr()) } == 1;
        match &self.evidence {
            Evidence::None | Evidence::Shared => false,
            Evidence::Flat { witness, allocated } => {
                is_ours_alone
                    && Items::of(live)
                        .is_some_and(|items| items.allocated == *allocated && witness.holds(&items))
            }
            Evidence::Graph(proof) => {
                let roots = roots_of(live);
                let roots: Vec<_> = roots.iter().collect();
                is_ours_alone && proof.holds(py, &roots)
            }
        }
    }
}

type Live<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyDict>>);

impl WorkerDesk {
    /// Returns the bytes of a stored buffer, pristine.
    pub(crate) fn buffer<'py>(&self, py: Python<'py>, id: BufferId) -> PyResult<Bound<'py, PyAny>> {
        let begin = Instant::now();
        let mut inner = self.lock();
        let Inner { worker, buffers, .. } = &mut *inner;
        let (bytes, is_new) = buffers.bytes(py, worker, id)?;
        if is_new {
            worker.count(LOADED, 1);
            worker.count_part(id.0, counted::LOADED, 1);
            worker.count_part(id.0, counted::LOADED_NS, elapsed_ns(begin));
        }
        Ok(bytes)
    }

    /// Makes a live copy. The lock is not held while it is loaded: the first instance of a class may
    /// have its module imported.
    fn load<'py>(&self, py: Python<'py>, id: CopyId, index: i64) -> PyResult<Live<'py>> {
        let begin = Instant::now();
        let (stored, wants_memo) = {
            let mut inner = self.lock();
            let stored = inner.worker.stored(id.0).map_err(|error| errors::to_python(&error))?;
            (stored, inner.wants_memo)
        };
        let Some((view, kind)) = stored else {
            return Err(PyRuntimeError::new_err(format!("part {:?} is not in the store", id.0)));
        };
        let kind = PartKind::from_bits(kind);
        let (live, memo) = match kind {
            PartKind::Graph if wants_memo => load_with_memo(py, &view)?,
            PartKind::Graph | PartKind::Pickle | PartKind::Buffer => {
                (load_view(py, Names::get(py)?.loads.bind(py), &view, 0)?.into_bound(py), None)
            }
            // SAFETY: the view's bytes are readable as long as it lives.
            PartKind::Numbers { .. } | PartKind::Texts { .. } => unsafe {
                (packed::unpack(py, kind, view.as_ptr(), view.len())?, None)
            },
        };
        let mut inner = self.lock();
        let evidence = match index {
            WHOLE_ONCE => Evidence::None,
            SHARED => Evidence::Shared,
            _ => inner.evidence(py, kind, &live),
        };
        let copy = Copy {
            live: live.clone().unbind(),
            evidence,
            memo: memo.clone().map(Bound::unbind),
            is_used: true,
            idle_s: 0,
        };
        let replaced = inner.copies.insert(id, copy);
        inner.used.push(id);
        inner.worker.count(LOADED, 1);
        inner.worker.count_part(id.0, counted::LOADED, 1);
        inner.worker.count_part(id.0, counted::LOADED_NS, elapsed_ns(begin));
        drop(inner);
        drop(replaced);
        Ok((live, memo))
    }
}

/// Loads a pickle, and returns what it remembered, by number.
fn load_with_memo<'py>(py: Python<'py>, view: &View) -> PyResult<Live<'py>> {
    let names = Names::get(py)?;
    let memory = memory_view(py, view, 0)?;
    let file = names.bytes_io.bind(py).call1((&memory,));
    memory.call_method0(crate::intern!(py, "release"))?;
    let unpickler = names.unpickler.bind(py).call1((file?,))?;
    let live = unpickler.call_method0(crate::intern!(py, "load"))?;
    let memo = unpickler.getattr(crate::intern!(py, "memo"))?;
    let memo = memo.call_method0(crate::intern!(py, "copy"))?;
    Ok((live, Some(memo.cast_into()?)))
}

/// Returns the roots of a graph's copy. Each call holds them in the same way, so that they have the
/// same reference counts.
fn roots_of<'py>(live: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    live.cast::<PyTuple>().map(|tuple| tuple.iter().collect()).unwrap_or_default()
}

impl Inner {
    fn copy<'py>(&mut self, py: Python<'py>, id: CopyId) -> Option<Live<'py>> {
        let wants_memo = self.wants_memo;
        let copy = self.copies.get_mut(&id)?;
        if matches!(copy.evidence, Evidence::Graph(_))
            && wants_memo
            && copy.memo.is_none()
            && !copy.is_used
        {
            // It is loaded anew, with its memo.
            return None;
        }
        if let Evidence::Graph(proof) = &copy.evidence
            && !copy.is_used
            && !proof.names_hold(py)
        {
            // A task that did not name the part has led a name elsewhere, or changed a class. By now
            // unpickling would find what is there.
            return None;
        }
        if !copy.is_used {
            copy.is_used = true;
            self.used.push(id);
        }
        copy.idle_s = 0;
        let memo = copy.memo.as_ref().map(|memo| memo.bind(py).clone());
        Some((copy.live.bind(py).clone(), memo))
    }

    /// Returns the time zones in a copy that this task has not used yet.
    fn zones_of<'py>(&self, py: Python<'py>, id: CopyId) -> Vec<Bound<'py, PyAny>> {
        match self.copies.get(&id) {
            Some(Copy { evidence: Evidence::Graph(proof), is_used: false, .. }) => proof.zones(py),
            _ => Vec::new(),
        }
    }

    /// Returns an atom as it was loaded in a flat copy.
    fn atom<'py>(&self, py: Python<'py>, id: CopyId, index: usize) -> Option<Bound<'py, PyAny>> {
        match &self.copies.get(&id)?.evidence {
            Evidence::Flat { witness: Witness::Saved(saved), .. } => saved.get(py, index),
            _ => None,
        }
    }

    /// Tells whether a copy is one of graphs: a tuple of roots.
    fn is_graph(&self, id: CopyId) -> bool {
        self.worker.stored_kind(id.0).map(PartKind::from_bits) == Some(PartKind::Graph)
    }

    fn evidence(&self, py: Python<'_>, kind: PartKind, live: &Bound<'_, PyAny>) -> Evidence {
        if kind == PartKind::Graph {
            // This may run Python, which knows nothing of the new copy.
            graph::prepare(py);
            let roots = roots_of(live);
            let roots: Vec<_> = roots.iter().collect();
            // What is opaque here, for example because of a class that is another in this process,
            // is loaded for each task.
            return Proof::take(py, &roots, Side::Worker)
                .map_or(Evidence::None, |proof| Evidence::Graph(Box::new(proof)));
        }
        let Some(items) = Items::of(live) else { return Evidence::None };
        // Texts may be named by their positions, so they are saved.
        let are_numbers = matches!(kind, PartKind::Numbers { .. });
        let tracking = if are_numbers { Witness::track(&self.tracking, &items) } else { None };
        match tracking.or_else(|| Witness::save(&items)) {
            Some(witness) => Evidence::Flat { witness, allocated: items.allocated },
            None => Evidence::None,
        }
    }

    /// A copy is not to be used by another task.
    fn spoil(&mut self, id: CopyId) {
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.evidence = Evidence::None;
        }
    }

    /// After a task, and after all that it left has been dropped: keeps the copies that are proved
    /// to be as they were after loading, and returns the others, to be dropped without the lock.
    pub(crate) fn verify(&mut self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let worker = &self.worker;
        self.buffers.settle(py, worker, |id, has_escaped| {
            worker.count_part(id, counted::PROVED, 1);
            worker.count_part(id, counted::CHANGED, u64::from(has_escaped));
        });
        let _still = NoCollection::begin(py);
        let mut changed = Vec::new();
        let worker = &self.worker;
        for id in self.used.drain(..) {
            // It may have been loaded anew since, and stand here twice.
            let Some(copy) = self.copies.get_mut(&id).filter(|copy| copy.is_used) else { continue };
            copy.is_used = false;
            if matches!(copy.evidence, Evidence::Shared) {
                continue;
            }
            let begin = Instant::now();
            let is_same = copy.is_as_loaded(py);
            if !matches!(copy.evidence, Evidence::None) {
                worker.count(VERIFIED, 1);
                worker.count(CHANGED, u64::from(!is_same));
                worker.count_part(id.0, counted::PROVED, 1);
                worker.count_part(id.0, counted::PROVED_NS, elapsed_ns(begin));
                worker.count_part(id.0, counted::CHANGED, u64::from(!is_same));
            }
            if !is_same && let Some(copy) = self.copies.remove(&id) {
                changed.push(copy.live);
                changed.extend(copy.memo.map(Py::into_any));
            }
        }
        changed
    }

    pub(crate) fn has_used_copies(&self) -> bool {
        self.buffers.has_used() || !self.used.is_empty()
    }

    /// Takes out the copies whose part is gone, and, after an idle second, those that were not used
    /// for one, to be dropped without the lock.
    pub(crate) fn forget(&mut self, is_idle: bool) -> Vec<Py<PyAny>> {
        let worker = &self.worker;
        Python::attach(|py| self.buffers.forget(py, worker, is_idle));
        let mut forgotten = Vec::new();
        self.copies.retain(|(id, _), copy| {
            copy.idle_s += u32::from(is_idle);
            // What is shared stays until its handle goes.
            let is_fresh = copy.idle_s < 2 || matches!(copy.evidence, Evidence::Shared);
            let is_kept = is_fresh && worker.is_listed(*id);
            if !is_kept {
                // Moved, not cloned: the only reference goes along.
                let nothing = Python::attach(|py| py.None());
                forgotten.push(std::mem::replace(&mut copy.live, nothing));
                forgotten.extend(copy.memo.take().map(Py::into_any));
            }
            is_kept
        });
        forgotten
    }

    /// Leaves the copies to the process's end, which frees them faster.
    pub(crate) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.copies));
        self.buffers.abandon();
    }
}

/// The desk of the worker that this process is.
static CURRENT: Mutex<Option<Py<WorkerDesk>>> = Mutex::new(None);

/// Makes a desk this process's: a worker that was forked by another has one of its own.
pub(crate) fn set_current(desk: &Bound<'_, WorkerDesk>) {
    let desk = desk.clone().unbind();
    let former = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).replace(desk);
    // It belongs to the process that this one was forked from.
    std::mem::forget(former);
}

/// Returns the desk of the worker that this process is, if it is one.
pub(crate) fn current(py: Python<'_>) -> Option<Bound<'_, WorkerDesk>> {
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    current.as_ref().map(|desk| desk.bind(py).clone())
}

fn elapsed_ns(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
