//! `millpond.share(value)`: the rung by the user's word.
//!
//! A handle may stand anywhere in a callable or in arguments. Its value is pickled once for each pool,
//! at the first task that brings it; each worker loads it once, keeps its live copy, and gives it to
//! every task that names it. What a task does to it stays there, as with a default argument.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use millpond_engine::StoreId;
use millpond_sys::process;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors;
use crate::live::Live;
use crate::names::Names;
use crate::pack::Packer;
use crate::packed::PartKind;
use crate::parts::{PersistentId, SHARED};

/// Handles that are alive in this process. While there are none, no pickler needs to look for them.
static HANDLE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Numbers that tell the copies of equal values apart.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(0);

/// Tells whether there may be a handle in what is pickled.
pub(crate) fn any() -> bool {
    HANDLE_COUNT.load(Ordering::Relaxed) > 0
}

/// A value that is sent once to each worker of a pool, and shared by the tasks that run there.
#[pyclass(frozen, module = "millpond", name = "Shared", generic)]
pub(crate) struct Shared {
    value: Py<PyAny>,
    number: u32,
    /// The process whose pools have stored it; a forked child holds nothing of it.
    maker: u32,
    /// Where it lies in each pool's store.
    stored: Mutex<Vec<(Weak<Live>, StoreId)>>,
}

#[pymethods]
impl Shared {
    #[new]
    fn new(value: Py<PyAny>) -> Self {
        HANDLE_COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            value,
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            maker: process::id(),
            stored: Mutex::default(),
        }
    }

    /// The value, in the process that shares it.
    #[getter]
    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.value.clone_ref(py)
    }

    /// Elsewhere than on its way to a worker of Millpond's, a handle is pickled as its value.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Py<PyAny>,))> {
        let module = py.import("millpond.sharing")?;
        Ok((module.getattr("value_of")?, (self.value.clone_ref(py),)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("millpond.share({})", self.value.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.value)
    }
}

impl Shared {
    /// Returns the id by which a task names the value; it is stored if the pool does not have it yet.
    pub(crate) fn name(&self, py: Python<'_>, live: &Arc<Live>) -> PyResult<PersistentId> {
        let known = {
            let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let is_it = |(other, _): &&(Weak<Live>, StoreId)| other.as_ptr() == Arc::as_ptr(live);
            stored.iter().find(is_it).map(|(_, id)| *id)
        };
        let id = match known {
            Some(id) => id,
            None => self.store(py, live)?,
        };
        // Above all numbers of copies that plans give: equal bytes are stored once.
        Ok((id.entry, id.turn, self.number | 1 << 31, SHARED))
    }

    fn store(&self, py: Python<'_>, live: &Arc<Live>) -> PyResult<StoreId> {
        let begin = Instant::now();
        let value = self.value.bind(py);
        let record = live.parts.records.of(
            "millpond.share",
            &format!("handle {}", self.number),
            value.get_type().name()?.to_string_lossy().into_owned(),
        );
        // Pickling may run code of the user's, so no lock is held.
        let mut packer = Packer::new(py, &Names::get(py)?.connection)?;
        let packed = packer.pack(value, false)?;
        let bytes = packed.as_bytes();
        let stored = live.engine.store(bytes, PartKind::Pickle.bits(), record.tag);
        let id = stored.map_err(|error| errors::to_python(&error))?;
        record.note_stored("shared", "by the user's word", bytes.len() as u64, begin);
        drop(packed);
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.retain(|(other, _)| other.strong_count() > 0);
        stored.push((Arc::downgrade(live), id));
        Ok(id)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.maker != process::id() {
            return;
        }
        HANDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
        let stored = self.stored.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (live, id) in stored.drain(..) {
            if let Some(live) = live.upgrade() {
                // The engine's lock is never held where Python can run, so not by this thread.
                live.engine.let_go(id);
            }
        }
    }
}
