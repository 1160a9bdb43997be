//! Bytes into texts. What is read was written by another process: every length is checked.
#![allow(unsafe_code, reason = "texts are made of memory that others may write")]

use pyo3::ffi;
use pyo3::prelude::*;

use super::{HEAD_LEN, REPEAT, Text, WORD_LEN};
use crate::errors;
use crate::packed::{Made, fill};

/// Makes the list or tuple that was packed.
///
/// # Safety
/// `address` is valid for reads of `len` bytes, which another process may change at any time.
pub(in crate::packed) unsafe fn unpack_texts<'py>(
    py: Python<'py>,
    is_list: bool,
    text: Text,
    address: *const u8,
    len: usize,
) -> PyResult<Bound<'py, PyAny>> {
    // Each word is read once, and is checked as it was read.
    // SAFETY: the words lie inside of `len`, as the callers of this see to.
    let word = |at: usize| unsafe { address.add(at).cast::<u32>().read_unaligned() };
    if len < HEAD_LEN {
        return Err(errors::damaged());
    }
    let count = word(0) as usize;
    let words_len = count.checked_mul(WORD_LEN).filter(|words| *words <= len - HEAD_LEN);
    let mut at = HEAD_LEN + words_len.ok_or_else(errors::damaged)?;
    let make = |index, made: &Made| {
        let word = word(HEAD_LEN + WORD_LEN * index);
        if word & REPEAT != 0 {
            let Some(first) = made.get((word & !REPEAT) as usize) else { return damaged(py) };
            // SAFETY: what is made is alive.
            return unsafe { ffi::Py_NewRef(first) };
        }
        let text_len = word as usize;
        if text_len > len - at {
            return damaged(py);
        }
        // SAFETY: the bytes lie inside of `len`.
        let item = unsafe { load(py, text, address.add(at), text_len) };
        at += text_len;
        item
    };
    // SAFETY: `make` gives new references, or null with an error set.
    let whole = unsafe { fill(py, is_list, count, make)? };
    if at == len { Ok(whole) } else { Err(errors::damaged()) }
}

/// Sets the error of a damaged payload, and returns null.
fn damaged(py: Python<'_>) -> *mut ffi::PyObject {
    errors::damaged().restore(py);
    std::ptr::null_mut()
}

/// Makes a text, as `load_counted_binunicode` and `load_counted_binbytes` in Modules/_pickle.c do.
/// Returns a new reference, or null with an error set.
///
/// # Safety
/// `start` is valid for reads of `len` bytes.
unsafe fn load(py: Python<'_>, text: Text, start: *const u8, len: usize) -> *mut ffi::PyObject {
    let ssize = len as ffi::Py_ssize_t;
    // SAFETY: the caller's duty; a new `bytes` of this length is filled before anything sees it.
    unsafe {
        if text == Text::Bytes {
            let item = ffi::PyBytes_FromStringAndSize(std::ptr::null(), ssize);
            if !item.is_null() && len > 0 {
                let target = ffi::PyBytes_AS_STRING(item).cast_mut().cast::<u8>();
                target.copy_from_nonoverlapping(start, len);
            }
            return item;
        }
        let item = ffi::PyUnicode_DecodeUTF8(start.cast(), ssize, c"surrogatepass".as_ptr());
        if item.is_null() && ffi::PyErr_ExceptionMatches(ffi::PyExc_UnicodeDecodeError) != 0 {
            return damaged(py);
        }
        item
    }
}
