//! The hook of a worker's pickler that lends a result's buffers to the parent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millpond_engine::Lent;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::hook::answer;
use super::source::Source;
use crate::worker_parts::WorkerDesk;

/// Bytes of one buffer's description in a result's note.
pub(super) const LENT_LEN: usize = 32;

/// The pickler's `reducer_override` while a result is pickled that may have buffers in it.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct ResultHook {
    desk: Py<WorkerDesk>,
    lent: Mutex<Vec<Lent>>,
    has_failed: AtomicBool,
}

impl ResultHook {
    pub(crate) fn new(desk: Py<WorkerDesk>) -> Self {
        Self { desk, lent: Mutex::default(), has_failed: AtomicBool::new(false) }
    }

    /// Tells whether an error that ended the pickling came of the lending of buffers.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Returns the description of what was lent, for the result's note.
    pub(crate) fn note(&self) -> Vec<u8> {
        let numbers = |lent: &Lent| [lent.offset, lent.len, lent.index, lent.turn];
        self.lent().iter().flat_map(numbers).flat_map(u64::to_le_bytes).collect()
    }

    /// Takes everything back, for a result that is not sent.
    pub(crate) fn unlend(&self) {
        let all = std::mem::take(&mut *self.lent());
        let mut desk = self.desk.get().lock();
        for lent in all {
            desk.worker.unlend(lent);
        }
    }

    fn lent(&self) -> MutexGuard<'_, Vec<Lent>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = object.py();
        // What does not answer as an array does is left to its own pickling.
        let Ok(Some(source)) = Source::of(object) else { return Ok(None) };
        // Too many are lent, or there is no memory: the bytes go the way of all others.
        let Ok(Some(lent)) = self.desk.get().lock().worker.lend(source.bytes()) else {
            return Ok(None);
        };
        let number = {
            let mut all = self.lent();
            all.push(lent);
            all.len() - 1
        };
        source.lent(py, number).map(Some)
    }
}

#[pymethods]
impl ResultHook {
    fn __call__<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        answer(object, &self.has_failed, || self.reduce(object))
    }
}
