//! The hook of the parent's pickler that names buffers in place of their bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millpond_engine::StoreId;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::source::{Source, any_known};
use crate::live::Live;
use crate::names::Names;

/// Stands for a buffer's bytes in what makes an object again; it is pickled as the call that returns
/// them.
#[pyclass(frozen, module = "millpond._native")]
pub(super) struct BufferName {
    call: Py<PyTuple>,
}

/// The pickler's `reducer_override` while a task is pickled that may have buffers in it.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct BufferHook {
    live: Arc<Live>,
    callable: String,
    /// The number of the first copy of a buffer.
    first_copy: u64,
    /// The buffers that the task names, in order, each held once for this hook.
    named: Mutex<Vec<(StoreId, usize)>>,
    has_failed: AtomicBool,
}

/// Returns a function of this module.
pub(super) fn native<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(crate::intern!(py, "millpond._native"))?.getattr(name)
}

/// Tells whether a task that is about to be pickled may have buffers in it that can be named.
pub(crate) fn may_occur(py: Python<'_>) -> PyResult<bool> {
    // With a higher protocol the objects that arrive are others.
    Ok(Names::get(py)?.has_protocol_4 && any_known(py))
}

impl BufferHook {
    pub(crate) fn new(live: &Arc<Live>, callable: String, first_copy: u64) -> Self {
        Self {
            live: Arc::clone(live),
            callable,
            first_copy,
            named: Mutex::default(),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Returns the ids of the buffers that the task names.
    pub(crate) fn ids(&self) -> Vec<StoreId> {
        self.named().iter().map(|(id, _)| *id).collect()
    }

    /// Returns their bytes, which the standard library would have pickled.
    pub(crate) fn counted_len(&self) -> u64 {
        self.named().iter().map(|(_, len)| *len as u64).sum()
    }

    /// Tells whether an error that ended the pickling came of the naming of buffers.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Lets go of the buffers, once the task that names them holds them, or is not published.
    pub(crate) fn let_go(&self) {
        for (id, _) in self.named().drain(..) {
            self.live.engine.let_go(id);
        }
    }

    fn named(&self) -> std::sync::MutexGuard<'_, Vec<(StoreId, usize)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = object.py();
        // What does not answer as an array does is left to its own pickling.
        let Ok(Some(source)) = Source::of(object) else { return Ok(None) };
        let Some(id) = self.live.buffers.name(&self.live, &source, &self.callable) else {
            return Ok(None);
        };
        let copy = {
            let mut named = self.named();
            let copy = named.iter().filter(|(known, _)| *known == id).count() as u64;
            named.push((id, source.bytes().len()));
            self.first_copy + copy
        };
        let function = native(py, "stored_buffer")?;
        let name = name_for(&function, &(id.entry, id.turn, copy).into_pyobject(py)?)?;
        source.reduced(py, &name).map(Some)
    }
}

/// Answers a pickler that asks how an object is made: by the call for which it stands, if it is a
/// name, by what `reduce` says, or not at all. Notes an error of `reduce`.
pub(super) fn answer<'py>(
    object: &Bound<'py, PyAny>,
    has_failed: &AtomicBool,
    reduce: impl FnOnce() -> PyResult<Option<Bound<'py, PyTuple>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if let Some(call) = call_of(object) {
        return Ok(call);
    }
    let reduced = reduce();
    has_failed.fetch_or(reduced.is_err(), Ordering::Relaxed);
    Ok(match reduced? {
        Some(reduced) => reduced.into_any(),
        None => py.NotImplemented().into_bound(py),
    })
}

/// Returns the call for which an object stands, if it is a name.
fn call_of<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let name = object.cast_exact::<BufferName>().ok()?;
    Some(name.get().call.bind(object.py()).clone().into_any())
}

/// Makes the name that stands for the call `function(*args)`.
pub(super) fn name_for<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let call = PyTuple::new(function.py(), [function, args.as_any()])?.unbind();
    Ok(Bound::new(function.py(), BufferName { call })?.into_any())
}

#[pymethods]
impl BufferHook {
    fn __call__<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        answer(object, &self.has_failed, || self.reduce(object))
    }
}
