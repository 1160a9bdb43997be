//! What CPython keeps in its objects, where it gives no function to ask for it.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use std::ffi::c_void;
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

/// `PyDictObject` (Include/cpython/dictobject.h, CPython 3.11 to 3.14). The fourth word has another
/// name in 3.14.
#[repr(C)]
struct DictObject {
    base: ffi::PyObject,
    used: ffi::Py_ssize_t,
    version: u64,
    keys: *mut DictKeys,
    values: *mut c_void,
}

/// `struct _dictkeysobject` (Include/internal/pycore_dict.h, CPython 3.11 to 3.14, with a GIL).
#[repr(C)]
struct DictKeys {
    refcount: ffi::Py_ssize_t,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    version: u32,
    usable: ffi::Py_ssize_t,
    entry_count: ffi::Py_ssize_t,
}

/// Where a dict's table lies; and how many entries were ever put into it, with how many still can be:
/// unless all are the same, something was added or removed in between. (`popitem` takes its entry
/// back, and leaves what can still be put in.)
///
/// # Safety
/// `dict` is a live dict, and [`is_known`] has said yes.
pub(super) unsafe fn dict_table(dict: *mut ffi::PyObject) -> (usize, usize) {
    // SAFETY: the caller's duty; a dict always has keys.
    unsafe {
        let keys = (*dict.cast::<DictObject>()).keys;
        (keys.addr(), ((*keys).entry_count as usize) << 32 | (*keys).usable as usize & 0xffff_ffff)
    }
}

/// Tells whether dicts look in this interpreter as they are described here.
pub(super) fn is_known(py: Python<'_>) -> bool {
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    *IS_KNOWN.get_or_init(|| check(py).unwrap_or(false))
}

fn check(py: Python<'_>) -> PyResult<bool> {
    let dict = pyo3::types::PyDict::new(py);
    for (count, key) in ["a", "b", "c"].into_iter().enumerate() {
        dict.set_item(key, 0)?;
        // SAFETY: the dict is alive; that its words mean what they are taken for is what is being
        // found out, and `keys` is only followed where the first word agrees.
        unsafe {
            let object = dict.as_ptr().cast::<DictObject>();
            if (*object).used != count as ffi::Py_ssize_t + 1 || (*object).keys.is_null() {
                return Ok(false);
            }
            let keys = &*(*object).keys;
            if keys.entry_count != (*object).used || keys.log2_size != 3 || keys.refcount != 1 {
                return Ok(false);
            }
        }
    }
    dict.del_item("c")?;
    dict.set_item("c", 0)?;
    // SAFETY: as above.
    let keys = unsafe { &*(*dict.as_ptr().cast::<DictObject>()).keys };
    // An entry that was deleted is not used again.
    Ok(keys.entry_count == 4 && keys.usable == 1)
}

/// Tells whether an object has a weak reference.
///
/// # Safety
/// `object` is alive, and the GIL is held.
pub(super) unsafe fn has_weakref(object: *mut ffi::PyObject) -> bool {
    // SAFETY: a type with an offset for weak references keeps the head of their list there, before
    // the object for managed ones (PyObject_GET_WEAKREFS_LISTPTR in Include/internal/pycore_object.h).
    unsafe {
        let offset = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        offset != 0
            && !object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>().read().is_null()
    }
}
