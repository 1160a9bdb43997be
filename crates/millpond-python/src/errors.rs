//! The engine's errors as Python's.

use pyo3::PyErr;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};

/// The error of bytes from shared memory that cannot be true.
pub(crate) fn damaged() -> PyErr {
    PyRuntimeError::new_err("a payload in shared memory is damaged")
}

/// Maps an engine error to the built-in class that fits.
pub(crate) fn to_python(error: &millpond_engine::Error) -> PyErr {
    if error.is_out_of_memory() {
        PyMemoryError::new_err(format!(
            "{error}; free memory, raise the limit, or send less at a time"
        ))
    } else if error.is_damaged() {
        PyRuntimeError::new_err(format!("{error}; a worker has overwritten the pool's memory"))
    } else {
        PyOSError::new_err(error.to_string())
    }
}
