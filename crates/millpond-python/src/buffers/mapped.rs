//! A `bytes` object over mapped memory.
#![allow(unsafe_code, reason = "a bytes object is made in place")]

use std::mem::offset_of;

use millpond_sys::private_copy::PrivateCopy;
use pyo3::ffi;
use pyo3::prelude::*;

/// Where the bytes begin in a `bytes` object.
const HEAD_LEN: usize = offset_of!(ffi::PyBytesObject, ob_sval);

/// A `bytes` object whose head lies at the end of a copy's front page, so that its bytes are those of
/// the copy. A copy ends with the zero that every `bytes` object has behind its last byte.
///
/// One reference to it is this one's, and is never given up: so the interpreter never frees the
/// object, and when no other reference is left, nobody can read the memory any more.
#[derive(Debug)]
pub(crate) struct MappedBytes(*mut ffi::PyObject);

// SAFETY: the pointer is used only by code that holds the GIL.
unsafe impl Send for MappedBytes {}
// SAFETY: as above.
unsafe impl Sync for MappedBytes {}

impl MappedBytes {
    /// Makes the object. The caller keeps the copy as long as [`Self::is_free`] is false.
    pub(crate) fn new(py: Python<'_>, copy: &PrivateCopy) -> Self {
        let made = {
            // SAFETY: the front page ends where the bytes begin and is longer than the head, whose
            // alignment divides the page's.
            let place = unsafe { copy.as_ptr().sub(HEAD_LEN) }.cast::<ffi::PyObject>();
            Self(place)
        };
        made.begin(py, copy);
        made
    }

    /// Writes the head anew, for bytes that are new.
    pub(crate) fn begin(&self, _: Python<'_>, copy: &PrivateCopy) {
        let len = (copy.len() - 1) as ffi::Py_ssize_t;
        // SAFETY: the head lies in the front page, writable memory that nothing else refers to; the
        // GIL is held. A bytes object is its head, its hash (-1 for none yet), and the bytes.
        unsafe {
            let object = self.0.cast::<ffi::PyVarObject>();
            ffi::PyObject_InitVar(object, &raw mut ffi::PyBytes_Type, len);
            #[allow(deprecated, reason = "the hash is a field of the object all the same")]
            {
                (*self.0.cast::<ffi::PyBytesObject>()).ob_shash = -1;
            }
        }
    }

    /// Returns a reference to the object.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: the object lives as long as this one's reference, which is never given up.
        unsafe { Bound::from_borrowed_ptr(py, self.0) }
    }

    /// Tells whether nothing but this one refers to the object.
    pub(crate) fn is_free(&self, _: Python<'_>) -> bool {
        // SAFETY: as above, and the GIL is held.
        unsafe { ffi::Py_REFCNT(self.0) == 1 }
    }
}
