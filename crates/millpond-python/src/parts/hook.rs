//! The pickler's hook that names parts in place of objects.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::plan::{Plan, PlannedRoot};
use super::{PersistentId, WHOLE, WHOLE_ONCE};
use crate::items::Items;

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
        let whole = if part.witness.is_some() { WHOLE } else { WHOLE_ONCE };
        (met[index] == Met::Named).then_some((part.id.entry, part.id.turn, *copy, whole))
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
