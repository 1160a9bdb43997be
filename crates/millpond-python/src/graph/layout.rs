//! What CPython keeps in its objects, where it gives no function to ask for it.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use std::ffi::c_void;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::classes::Base;
use super::tape::{Kind, Side};
use crate::once::Once;

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
    static IS_KNOWN: Once<bool> = Once::new();
    *IS_KNOWN.get_or_make(py, || check(py).unwrap_or(false))
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

/// Words of [`base_state`].
pub(super) const BASE_STATE_LEN: usize = 2;

/// What an instance of a built-in type's subclass has beside items, dict and slots: on a worker's side
/// the allocated length of a list or a byte array and the latter's exports, and a dict's table; on both what a set's table does not show.
///
/// # Safety
/// `node` is a live instance of a class on this base.
pub(super) unsafe fn base_state(
    node: *mut ffi::PyObject,
    base: Base,
    side: Side,
) -> [usize; BASE_STATE_LEN] {
    // SAFETY: the caller's duty; a subclass's instance begins with one of the base.
    unsafe {
        match (side, base) {
            (Side::Worker, Base::List) => {
                [(*node.cast::<ffi::PyListObject>()).allocated as usize, 0]
            }
            (Side::Worker, Base::Dict | Base::Counter) => {
                let (keys, entries) = dict_table(node);
                [keys, entries]
            }
            (Side::Worker, Base::ByteArray) => {
                let array = &*node.cast::<ffi::PyByteArrayObject>();
                [array.ob_alloc as usize, array.ob_exports as usize]
            }
            (_, Base::Set) => set_state(node),
            _ => [0, 0],
        }
    }
}

/// What a set has beside its table: how many places of it were ever filled and are members now, and the
/// finger, where `pop` goes on.
///
/// # Safety
/// `set` is a live set or frozenset, or of a subclass of theirs.
pub(super) unsafe fn set_state(set: *mut ffi::PyObject) -> [usize; 2] {
    // SAFETY: the caller's duty.
    let object = unsafe { &*set.cast::<ffi::PySetObject>() };
    [(object.fill as usize) << 32 | object.used as usize, object.finger as usize]
}

/// The places of a set's table.
///
/// # Safety
/// As for [`set_state`]; nothing changes the set as long as the places are used.
pub(super) unsafe fn set_table<'a>(set: *mut ffi::PyObject) -> &'a [ffi::setentry] {
    // SAFETY: the caller's duty; the table has `mask` + 1 places.
    unsafe {
        let object = &*set.cast::<ffi::PySetObject>();
        std::slice::from_raw_parts(object.table, object.mask as usize + 1)
    }
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

/// `dequeobject` (Modules/_collectionsmodule.c, CPython 3.11 to 3.14), as far as it is read.
#[repr(C)]
struct DequeObject {
    base: ffi::PyVarObject,
    left_block: *mut c_void,
    right_block: *mut c_void,
    left_index: ffi::Py_ssize_t,
    right_index: ffi::Py_ssize_t,
    /// Counts the changes of the indices.
    state: usize,
    maxlen: ffi::Py_ssize_t,
}

/// `arrayobject` (Modules/arraymodule.c, CPython 3.11 to 3.14).
#[repr(C)]
struct ArrayObject {
    base: ffi::PyVarObject,
    items: *mut u8,
    allocated: ffi::Py_ssize_t,
    description: *const ArrayDescription,
    weakrefs: *mut ffi::PyObject,
    exports: ffi::Py_ssize_t,
}

/// `struct arraydescr` (Modules/arraymodule.c), as far as it is read.
#[repr(C)]
struct ArrayDescription {
    typecode: u8,
    item_len: std::ffi::c_int,
}

/// What an `array.array` holds.
pub(super) struct Array<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) allocated: usize,
    pub(super) exports: usize,
    /// Stands for the type of its items.
    pub(super) description: usize,
}

/// Reads an array.
///
/// # Safety
/// `array` is a live array of the type for which [`is_array_known`] has said yes, and nothing changes
/// it as long as the bytes are used.
pub(super) unsafe fn array<'a>(array: *mut ffi::PyObject) -> Array<'a> {
    // SAFETY: the caller's duty.
    unsafe {
        let object = &*array.cast::<ArrayObject>();
        let len = ffi::Py_SIZE(array) as usize * (*object.description).item_len as usize;
        let bytes =
            if len == 0 { &[] } else { std::slice::from_raw_parts(object.items.cast_const(), len) };
        Array {
            bytes,
            allocated: object.allocated as usize,
            exports: object.exports as usize,
            description: object.description.addr(),
        }
    }
}

/// State of a deque or an OrderedDict that its items do not show: what the parent's pickle depends on,
/// and on a worker's side all that a program could find out.
///
/// # Safety
/// `node` is a live deque or OrderedDict of a type that is known.
pub(super) unsafe fn ordered_state(
    node: *mut ffi::PyObject,
    kind: Kind,
    is_worker: bool,
) -> [usize; 2] {
    // SAFETY: the caller's duty; an OrderedDict begins with a dict.
    unsafe {
        if kind == Kind::Deque {
            let deque = &*node.cast::<DequeObject>();
            [deque.maxlen as usize, if is_worker { deque.state } else { 0 }]
        } else if is_worker {
            let (keys, entries) = dict_table(node);
            [keys, entries]
        } else {
            [0, 0]
        }
    }
}

/// Tells whether deques look in this interpreter as they are described here.
pub(super) fn is_deque_known(class: &Bound<'_, PyType>) -> bool {
    static IS_KNOWN: Once<bool> = Once::new();
    let check = || -> PyResult<bool> {
        let deque = class.call1(((1, 2), 7))?;
        for item in 3..6 {
            deque.call_method1("append", (item,))?;
        }
        deque.call_method0("popleft")?;
        // SAFETY: the deque is alive and longer than what is read; that its words mean what they are
        // taken for is what is being found out, and none is followed.
        let read = unsafe { &*deque.as_ptr().cast::<DequeObject>() };
        Ok(read.maxlen == 7
            && read.state == 6
            && read.base.ob_size == 4
            && read.right_index - read.left_index == 3
            && read.left_block == read.right_block)
    };
    *IS_KNOWN.get_or_make(class.py(), || check().unwrap_or(false))
}

/// Tells whether arrays look in this interpreter as they are described here.
pub(super) fn is_array_known(class: &Bound<'_, PyType>) -> bool {
    static IS_KNOWN: Once<bool> = Once::new();
    let check = || -> PyResult<bool> {
        let array = class.call1(("h", vec![1, 2, 3]))?;
        let (address, len): (usize, isize) = array.call_method0("buffer_info")?.extract()?;
        // SAFETY: the array is alive and longer than what is read; its description is followed only
        // where the words before it agree with what the array says of itself.
        unsafe {
            let read = &*array.as_ptr().cast::<ArrayObject>();
            Ok(read.items.addr() == address
                && read.base.ob_size == len
                && read.allocated >= len
                && read.exports == 0
                && read.weakrefs.is_null()
                && (*read.description).typecode == b'h'
                && (*read.description).item_len == 2)
        }
    };
    *IS_KNOWN.get_or_make(class.py(), || check().unwrap_or(false))
}
