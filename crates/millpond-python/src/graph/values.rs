//! Values of instances of `int`, `float`, `complex`, `str`, `bytes` and `bytearray` subclasses.
#![allow(unsafe_code, reason = "the built-in types' own functions are called, past any subclass")]

use pyo3::ffi;
use pyo3::prelude::*;

use super::classes::Base;

/// Returns the value as an object of the exact built-in type.
///
/// # Safety
/// `node` is a live instance of a subclass of the type that `base` names.
pub(super) unsafe fn copy_of(
    py: Python<'_>,
    node: *mut ffi::PyObject,
    base: Base,
) -> Option<Bound<'_, PyAny>> {
    // SAFETY: the caller's duty. These functions take subclasses for what they are, and call no
    // method of theirs; they give a new reference, or null with an error set.
    let copy = unsafe {
        let copy = match base {
            Base::Int => {
                let numbers = &*ffi::PyLong_Type.tp_as_number;
                numbers.nb_int.map_or(std::ptr::null_mut(), |exact| exact(node))
            }
            Base::Float => ffi::PyFloat_FromDouble(ffi::PyFloat_AS_DOUBLE(node)),
            Base::Str => ffi::PyUnicode_FromObject(node),
            Base::Bytes => {
                ffi::PyBytes_FromStringAndSize(ffi::PyBytes_AS_STRING(node), ffi::Py_SIZE(node))
            }
            Base::Complex => ffi::PyComplex_FromCComplex(ffi::PyComplex_AsCComplex(node)),
            Base::ByteArray => {
                let bytes = bytes_of(node);
                ffi::PyBytes_FromStringAndSize(
                    bytes.as_ptr().cast(),
                    bytes.len() as ffi::Py_ssize_t,
                )
            }
            _ => std::ptr::null_mut(),
        };
        Bound::from_owned_ptr_or_opt(py, copy)
    };
    if copy.is_none() {
        drop(PyErr::take(py));
    }
    copy
}

/// Tells whether an instance's value is that of a copy which was made of one: to the bit, so that a NaN
/// is itself, and the two zeros are not one.
///
/// # Safety
/// As for [`copy_of`], which has made `copy`.
pub(super) unsafe fn is_same(
    py: Python<'_>,
    node: *mut ffi::PyObject,
    base: Base,
    copy: *mut ffi::PyObject,
) -> bool {
    // SAFETY: the caller's duty. The comparisons are the built-in types' own.
    unsafe {
        match base {
            Base::Int => {
                let Some(compare) = ffi::PyLong_Type.tp_richcompare else { return false };
                let outcome = compare(node, copy, ffi::Py_EQ);
                Bound::from_owned_ptr_or_opt(py, outcome)
                    .is_some_and(|outcome| outcome.as_ptr() == ffi::Py_True())
            }
            Base::Float => {
                let bits = |float| ffi::PyFloat_AS_DOUBLE(float).to_bits();
                bits(node) == bits(copy)
            }
            // 0 for equal texts. (-1 may also be an error, which two strings do not have.)
            Base::Str => ffi::PyUnicode_Compare(node, copy) == 0,
            Base::Bytes => {
                let bytes = |object| {
                    let start = ffi::PyBytes_AS_STRING(object).cast::<u8>();
                    std::slice::from_raw_parts(start, ffi::Py_SIZE(object) as usize)
                };
                bytes(node) == bytes(copy)
            }
            Base::Complex => {
                let bits = |complex| {
                    let value = ffi::PyComplex_AsCComplex(complex);
                    [value.real.to_bits(), value.imag.to_bits()]
                };
                bits(node) == bits(copy)
            }
            Base::ByteArray => {
                let start = ffi::PyBytes_AS_STRING(copy).cast::<u8>();
                bytes_of(node) == std::slice::from_raw_parts(start, ffi::Py_SIZE(copy) as usize)
            }
            _ => false,
        }
    }
}

/// # Safety
/// `node` is a live `bytearray`, or of a subclass, and nothing changes it meanwhile.
unsafe fn bytes_of<'a>(node: *mut ffi::PyObject) -> &'a [u8] {
    // SAFETY: the caller's duty.
    unsafe {
        match ffi::Py_SIZE(node) as usize {
            0 => &[],
            len => {
                let start = (*node.cast::<ffi::PyByteArrayObject>()).ob_start;
                std::slice::from_raw_parts(start.cast::<u8>().cast_const(), len)
            }
        }
    }
}
