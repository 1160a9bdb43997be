//! The pickler's hook that names parts in place of objects.
//!
//! In a simple task nothing of the user's runs while it is pickled, so what was verified is what the
//! pickler meets, and everything in a part can be named whenever it comes. Otherwise a part is proved
//! once more when its root is met. From then on its nodes stand in pickle's memo, as it were: they
//! are named as they were then, whatever becomes of them, and are kept alive as the memo would keep
//! them. A node that comes before its root leaves the whole part to the stream. Atoms can always be
//! named: they do not change, and the part holds them.
#![allow(unsafe_code, reason = "exact types are told by their type pointers")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millpond_engine::StoreId;
use pyo3::ffi;
use pyo3::prelude::*;

use super::memo::memo_numbers;
use super::part::Evidence;
use super::plan::{Plan, Planned};
use super::{PersistentId, ROOT_FIRST, WHOLE_ONCE};
use crate::live::Live;
use crate::shared::Shared;

/// The pickler's `persistent_id` while a task is pickled that names parts.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct PartHook {
    plan: Plan,
    /// For each part: not met, named, or pickled in the stream because it had changed.
    met: Mutex<Vec<Met>>,
    live: Arc<Live>,
    /// What the user shares, as far as it was met.
    shared: Mutex<Vec<StoreId>>,
    /// Whether a node inside of a part was named, and the worker needs pickle's memo of it.
    has_indices: AtomicBool,
    /// Whether an error came of the naming, so that the task may be pickled without.
    has_failed: AtomicBool,
}

enum Met {
    NotYet,
    Named,
    /// Named in a task that is not simple: what the part holds is kept alive.
    Kept {
        _nodes: Vec<Py<PyAny>>,
    },
    InStream,
}

impl PartHook {
    pub(crate) fn new(live: &Arc<Live>, plan: Plan) -> Self {
        let met = Mutex::new(plan.parts.iter().map(|_| Met::NotYet).collect());
        let (live, shared) = (Arc::clone(live), Mutex::default());
        Self {
            plan,
            met,
            live,
            shared,
            has_indices: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Returns the ids of all that the pickled task names, and counts that they are sent.
    pub(crate) fn send(&self) -> Vec<StoreId> {
        let mut all = self.plan.send();
        all.extend(self.shared.lock().unwrap_or_else(PoisonError::into_inner).iter());
        all
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn has_indices(&self) -> bool {
        self.has_indices.load(Ordering::Relaxed)
    }

    /// Tells whether an error that ended the pickling came of the naming of parts.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn met(&self) -> MutexGuard<'_, Vec<Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self, object: &Bound<'_, PyAny>) -> Option<Option<PersistentId>> {
        let (at, number) = self.plan.parts.iter().enumerate().find_map(|(at, planned)| {
            let number = planned.roots.iter().position(|root| root.is(object))?;
            Some((at, number))
        })?;
        let Planned { part, copy, .. } = &self.plan.parts[at];
        let mut met = self.met();
        if matches!(met[at], Met::NotYet) {
            met[at] = self.meet(object.py(), at);
        }
        let is_named = !matches!(met[at], Met::InStream);
        let index = match part.evidence {
            Evidence::Once => WHOLE_ONCE,
            _ => ROOT_FIRST - number as i64,
        };
        Some(is_named.then_some((part.id.entry, part.id.turn, *copy, index)))
    }

    /// Settles what becomes of a part whose root is met first.
    fn meet(&self, py: Python<'_>, at: usize) -> Met {
        let Planned { part, roots, .. } = &self.plan.parts[at];
        if self.plan.is_simple {
            return Met::Named;
        }
        // What serves one task only has nothing to prove it, and is pickled as it is now.
        let roots: Vec<_> = roots.iter().map(|root| root.bind(py)).collect();
        if !part.is(py, &roots) {
            return Met::InStream;
        }
        match &part.evidence {
            Evidence::Graph { proof, .. } => Met::Kept { _nodes: proof.nodes(py) },
            _ => Met::Named,
        }
    }

    fn node(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<PersistentId>> {
        let address = object.as_ptr().addr();
        let planned = &self.plan.parts;
        let found = planned.iter().enumerate().find(|(_, planned)| planned.part.contains(address));
        let Some((at, Planned { part, copy, roots })) = found else { return Ok(None) };
        let index = match &part.evidence {
            Evidence::Once => None,
            Evidence::Flat { memoized, .. } => memoized.get(&address).copied(),
            // In a task that is not simple it was made before. In a simple one the part is still what
            // it was when it was verified.
            Evidence::Graph { memo, .. } => self
                .can_go_without_parts(memo_numbers(object.py(), memo, roots))?
                .get(&address)
                .copied(),
        };
        let Some(index) = index else { return Ok(None) };
        if !is_text(object) && !self.plan.is_simple {
            let mut met = self.met();
            if matches!(met[at], Met::NotYet) {
                met[at] = Met::InStream;
            }
            if matches!(met[at], Met::InStream) {
                return Ok(None);
            }
        }
        self.has_indices.store(true, Ordering::Relaxed);
        Ok(Some((part.id.entry, part.id.turn, *copy, i64::from(index))))
    }

    /// Notes that an error is one of the hook's and not of the task's.
    fn can_go_without_parts<T>(&self, outcome: PyResult<T>) -> PyResult<T> {
        self.has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }
}

#[pymethods]
impl PartHook {
    fn __call__(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<PersistentId>> {
        if is_without_identity(object) {
            return Ok(None);
        }
        if let Ok(shared) = object.cast_exact::<Shared>() {
            let (id, parts) = shared.get().name(object.py(), &self.live)?;
            self.shared.lock().unwrap_or_else(PoisonError::into_inner).extend(parts);
            return Ok(Some(id));
        }
        match self.root(object) {
            Some(answer) => Ok(answer),
            None => self.node(object),
        }
    }
}

fn is_text(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive.
    unsafe {
        ffi::PyUnicode_CheckExact(object.as_ptr()) != 0
            || ffi::PyBytes_CheckExact(object.as_ptr()) != 0
    }
}

/// Tells whether pickle remembers nothing of an object, or finds it by its name.
fn is_without_identity(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is alive; exact types are told by their type pointers.
    unsafe {
        let class = ffi::Py_TYPE(object.as_ptr());
        class == &raw mut ffi::PyLong_Type
            || class == &raw mut ffi::PyFloat_Type
            || class == &raw mut ffi::PyBool_Type
            || object.is_none()
            || class == &raw mut ffi::PyFunction_Type
            || class == &raw mut ffi::PyType_Type
    }
}
