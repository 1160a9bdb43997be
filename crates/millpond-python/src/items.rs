//! The items of exact lists and tuples, read in place.
#![allow(unsafe_code, reason = "CPython's own list and tuple structures are read")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// The items of an exact list or tuple, borrowed as long as nothing can change it: while the GIL is
/// held and no Python runs.
pub(crate) struct Items<'a> {
    start: *const *mut ffi::PyObject,
    len: usize,
    /// A list's allocated length; the length of a tuple.
    pub(crate) allocated: isize,
    pub(crate) is_list: bool,
    _owner: std::marker::PhantomData<&'a ()>,
}

impl<'a> Items<'a> {
    /// Returns the items of an exact list or an exact tuple, or `None` for anything else.
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> Option<Self> {
        if object.is_exact_instance_of::<PyList>() {
            let list = object.as_ptr().cast::<ffi::PyListObject>();
            // SAFETY: the object is an exact list, alive as long as the borrow.
            let (start, len, allocated) =
                unsafe { ((*list).ob_item, ffi::Py_SIZE(object.as_ptr()), (*list).allocated) };
            Some(Self {
                start: start.cast_const(),
                len: len as usize,
                allocated,
                is_list: true,
                _owner: std::marker::PhantomData,
            })
        } else if object.is_exact_instance_of::<PyTuple>() {
            let tuple = object.as_ptr().cast::<ffi::PyTupleObject>();
            // SAFETY: the object is an exact tuple, alive as long as the borrow; its items follow
            // its head.
            let (start, len) =
                unsafe { ((&raw const (*tuple).ob_item).cast(), ffi::Py_SIZE(object.as_ptr())) };
            Some(Self {
                start,
                len: len as usize,
                allocated: len,
                is_list: false,
                _owner: std::marker::PhantomData,
            })
        } else {
            None
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[*mut ffi::PyObject] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `of` read start and length of one live list or tuple, and the type's contract says
        // that nothing changes it.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// Tells whether pickle remembers an atom, so that two references to it arrive as one. `atom` is a
/// live object.
pub(crate) unsafe fn is_memoized(atom: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller gives a live object; exact type checks read its type pointer only.
    unsafe { ffi::PyUnicode_CheckExact(atom) != 0 || ffi::PyBytes_CheckExact(atom) != 0 }
}

/// Tells whether an object is an atom. `item` is a live object.
pub(crate) unsafe fn is_atom(item: *mut ffi::PyObject) -> bool {
    // SAFETY: as in `is_memoized`.
    unsafe {
        ffi::PyLong_CheckExact(item) != 0
            || ffi::PyFloat_CheckExact(item) != 0
            || item == ffi::Py_None()
            || ffi::PyBool_Check(item) != 0
            || is_memoized(item)
    }
}
