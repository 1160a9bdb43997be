//! The engine's errors as Python's.

use pyo3::exceptions::{PyException, PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

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
        PyRuntimeError::new_err(format!(
            "{error}; a task or a worker has written over it; make a new pool"
        ))
    } else {
        PyOSError::new_err(error.to_string())
    }
}

/// Tells whether an error may be a signal handler's, such as `KeyboardInterrupt`, and not of the code
/// that was called: it is no `Exception`, and this is the main thread, where alone handlers run.
pub(crate) fn may_be_a_signals(py: Python<'_>, error: &PyErr) -> bool {
    let is_main = || -> PyResult<bool> {
        let threading = py.import("threading")?;
        let main = threading.call_method0("main_thread")?.getattr("ident")?;
        threading.call_method0("get_ident")?.eq(main)
    };
    // If Python cannot tell, the error is not to be lost.
    !error.is_instance_of::<PyException>(py) && is_main().unwrap_or(true)
}
