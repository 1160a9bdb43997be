//! Values that are made once in a process, also in one that is forked while they are made.
//!
//! PyO3's own cells let go of the GIL while a value is being made. If the keeper forks a worker just then,
//! the worker has a cell that another thread is filling, which is not there, and waits for it for ever.
//! Here a value is made first and put into its cell after; that is one step under the GIL, without which
//! nothing of Python's forks. Two threads may both make it: the first one's stays.

use std::sync::OnceLock;

use pyo3::prelude::*;

/// A cell for such a value.
pub(crate) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Returns the value, if it is made.
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.0.get()
    }

    /// Returns the value, made by `make` if it is not there yet.
    pub(crate) fn get_or_make(&self, _py: Python<'_>, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.0.get() {
            return value;
        }
        let value = make();
        self.0.get_or_init(|| value)
    }

    /// As [`Self::get_or_make`], for what may fail: it is then tried again the next time.
    pub(crate) fn get_or_try_make<E>(
        &self,
        py: Python<'_>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let value = make()?;
        Ok(self.get_or_make(py, || value))
    }
}

/// Interns a text that is written in the source, once in a process.
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static NAME: $crate::once::Once<pyo3::Py<pyo3::types::PyString>> =
            $crate::once::Once::new();
        let py: pyo3::Python<'_> = $py;
        NAME.get_or_make(py, || pyo3::types::PyString::intern(py, $text).unbind()).bind(py)
    }};
}

pub(crate) use intern;
