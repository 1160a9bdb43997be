//! Encoding and decoding as Python functions, for tests and diagnosis.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{Encoder, NameCache, read_result, read_task};
use crate::names::Names;

/// Returns the bytes of a task, or of a result if `func` is None; None for what is left to pickle.
///
/// `value` is the argument tuple of a call, the chunk of a map, or the result, a list being a chunk's
/// results; `kwds` belongs to a call.
#[pyfunction]
pub(crate) fn encode<'py>(
    func: Option<&Bound<'py, PyAny>>,
    value: &Bound<'py, PyAny>,
    kwds: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = value.py();
    let mut encoder = Encoder::default();
    let is_written = match func {
        Some(func) => encoder.task(Names::get(py)?, func, value, kwds),
        None => encoder.result(value, true),
    };
    Ok(is_written.then(|| PyBytes::new(py, encoder.bytes())))
}

/// Makes (callable, argument tuple, keywords or None) of a task's bytes, or the value of a result's.
///
/// Raises RuntimeError if they cannot be true.
#[pyfunction]
pub(crate) fn decode<'py>(
    frame: &Bound<'py, PyBytes>,
    is_task: bool,
    has_keywords: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, bytes) = (frame.py(), frame.as_bytes());
    if !is_task {
        return read_result(py, bytes);
    }
    let names = Names::get(py)?;
    let call = read_task(py, names, &mut NameCache::default(), bytes, has_keywords)?;
    (call.func, call.second, call.kwds).into_bound_py_any(py)
}
