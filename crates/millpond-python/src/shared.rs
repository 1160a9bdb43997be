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
use pyo3::exceptions::{PyRecursionError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::buffers::{self, BufferHook};
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
    /// Where it lies in each pool's store: its pickle first, then the buffers that this names.
    stored: Mutex<Vec<(Weak<Live>, Vec<StoreId>)>>,
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
    /// Returns the id by which a task names the value, and the parts that it has to hold; it is stored
    /// if the pool does not have it yet.
    pub(crate) fn name(
        &self,
        py: Python<'_>,
        live: &Arc<Live>,
    ) -> PyResult<(PersistentId, Vec<StoreId>)> {
        let known = {
            let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let is_it =
                |(other, _): &&(Weak<Live>, Vec<StoreId>)| other.as_ptr() == Arc::as_ptr(live);
            stored.iter().find(is_it).map(|(_, ids)| ids.clone())
        };
        let ids = match known {
            Some(ids) => ids,
            None => self.store(py, live)?,
        };
        let id = *ids.first().ok_or_else(|| PyRuntimeError::new_err("nothing is stored"))?;
        // Above all numbers of copies that plans give: equal bytes are stored once.
        Ok(((id.entry, id.turn, self.number | 1 << 31, SHARED), ids))
    }

    fn store(&self, py: Python<'_>, live: &Arc<Live>) -> PyResult<Vec<StoreId>> {
        let begin = Instant::now();
        let value = self.value.bind(py);
        let record = live.parts.records.of(
            "millpond.share",
            &format!("handle {}", self.number),
            value.get_type().name()?.to_string_lossy().into_owned(),
        );
        // Pickling may run code of the user's, so no lock is held.
        let mut packer = Packer::new(py, &Names::get(py)?.connection)?;
        let hook = if buffers::may_occur(py)? && packer.is_stock()? {
            // Above the copies of tasks, and apart from those of every other handle.
            let first_copy = (u64::from(self.number) + 1) << 32;
            let hook = BufferHook::new(live, "millpond.share".to_owned(), first_copy);
            Some(Bound::new(py, hook)?)
        } else {
            None
        };
        let packed = match &hook {
            Some(hook) => match packer.pack_with_hooks(value, None, Some(hook.as_any())) {
                Ok(()) => packer.packed(),
                Err(error) => {
                    hook.get().let_go();
                    if !error.is_instance_of::<PyRecursionError>(py) && !hook.get().has_failed() {
                        return Err(error);
                    }
                    packer.pack(value, false)?
                }
            },
            None => packer.pack(value, false)?,
        };
        let bytes = packed.as_bytes();
        let stored = live.engine.store(bytes, PartKind::Pickle.bits(), record.tag);
        if stored.is_err()
            && let Some(hook) = &hook
        {
            hook.get().let_go();
        }
        let mut ids = vec![stored.map_err(|error| errors::to_python(&error))?];
        // The hook's holds are the handle's from here on.
        ids.extend(hook.iter().flat_map(|hook| hook.get().ids()));
        record.note_stored("shared", "by the user's word", bytes.len() as u64, begin);
        drop(packed);
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.retain(|(other, _)| other.strong_count() > 0);
        stored.push((Arc::downgrade(live), ids.clone()));
        Ok(ids)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.maker != process::id() {
            return;
        }
        HANDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
        let stored = self.stored.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (live, ids) in stored.drain(..) {
            if let Some(live) = live.upgrade() {
                // The engine's lock is never held where Python can run, so not by this thread.
                for id in ids {
                    live.engine.let_go(id);
                }
            }
        }
    }
}
