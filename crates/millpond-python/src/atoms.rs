//! Flat lists and tuples of atoms: saved, compared, packed and unpacked.
//!
//! An atom is an exact `int`, `float`, `bool`, `None`, `str` or `bytes`: immutable, and nothing of
//! the user's runs when it is pickled, loaded, compared or freed. A saved pointer proves something
//! only while a reference keeps its object alive, so what is saved are references; and because atoms
//! cannot change, equal pointers are equal content.
#![allow(unsafe_code, reason = "verify reads CPython's own list and tuple structures")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

/// How a stored part's bytes are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum PartKind {
    /// A pickle of the whole list or tuple.
    Pickle = 0,
    /// A list of ints, each 4 bytes in native order.
    ListInts32 = 1,
    /// A list of ints, each 8 bytes in native order.
    ListInts64 = 2,
    /// A list of floats, each 8 bytes in native order.
    ListFloats = 3,
}

impl PartKind {
    pub(crate) fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::ListInts32,
            2 => Self::ListInts64,
            3 => Self::ListFloats,
            _ => Self::Pickle,
        }
    }
}

/// References to the atoms of a list or tuple, in order.
pub(crate) struct SavedAtoms(Vec<*mut ffi::PyObject>);

// SAFETY: the pointers are owned references to immutable objects; they are followed and given up
// only by code that holds the GIL.
unsafe impl Send for SavedAtoms {}
// SAFETY: as above.
unsafe impl Sync for SavedAtoms {}

impl SavedAtoms {
    fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// Adds a reference to one more atom. `atom` is a live object, and the GIL is held.
    fn push(&mut self, atom: *mut ffi::PyObject) {
        // SAFETY: the caller holds the GIL and a live object.
        unsafe { ffi::Py_INCREF(atom) };
        self.0.push(atom);
    }

    /// Tells whether a list or tuple holds just these atoms, by their pointers.
    pub(crate) fn equals(&self, items: &Items<'_>) -> bool {
        self.0.as_slice() == items.as_slice()
    }

    /// Returns the address and position of the first occurrence of each str and bytes: the atoms
    /// that pickle memoizes, so that two references to one arrive as one.
    pub(crate) fn memoized(&self) -> std::collections::HashMap<usize, u32> {
        let mut found = std::collections::HashMap::new();
        for (index, &atom) in self.0.iter().enumerate() {
            // SAFETY: a saved atom is a live object.
            if unsafe { is_memoized(atom) } {
                found.entry(atom.addr()).or_insert(index as u32);
            }
        }
        found
    }
}

impl Drop for SavedAtoms {
    fn drop(&mut self) {
        // Freeing an atom runs nothing of the user's. Where the interpreter is already gone the
        // references are leaked with it.
        let _ = Python::try_attach(|_| {
            for &atom in &self.0 {
                // SAFETY: the reference is ours, and the GIL is held.
                unsafe { ffi::Py_DECREF(atom) };
            }
        });
    }
}

unsafe fn is_memoized(atom: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller gives a live object; exact type checks read its type pointer only.
    unsafe { ffi::PyUnicode_CheckExact(atom) != 0 || ffi::PyBytes_CheckExact(atom) != 0 }
}

unsafe fn is_atom(item: *mut ffi::PyObject) -> bool {
    // SAFETY: as in `is_memoized`.
    unsafe {
        ffi::PyLong_CheckExact(item) != 0
            || ffi::PyFloat_CheckExact(item) != 0
            || item == ffi::Py_None()
            || ffi::PyBool_Check(item) != 0
            || is_memoized(item)
    }
}

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

    fn as_slice(&self) -> &[*mut ffi::PyObject] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `of` read start and length of one live list or tuple, and the type's contract says
        // that nothing changes it.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// The bytes of a packed list, or of a pickle.
pub(crate) enum PackedBytes {
    Narrow(Vec<i32>),
    Wide(Vec<i64>),
    Floats(Vec<f64>),
    Pickle(Vec<u8>),
}

impl PackedBytes {
    pub(crate) fn kind(&self) -> PartKind {
        match self {
            Self::Narrow(_) => PartKind::ListInts32,
            Self::Wide(_) => PartKind::ListInts64,
            Self::Floats(_) => PartKind::ListFloats,
            Self::Pickle(_) => PartKind::Pickle,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Narrow(values) => bytes_of(values),
            Self::Wide(values) => bytes_of(values),
            Self::Floats(values) => bytes_of(values),
            Self::Pickle(bytes) => bytes,
        }
    }
}

/// A list or tuple of atoms, ready to be stored.
pub(crate) struct Packed {
    pub(crate) bytes: PackedBytes,
    pub(crate) saved: SavedAtoms,
    /// Its size in bytes in a pickle, about.
    pub(crate) counted_len: u64,
}

/// Saves and packs a list of exact ints of up to 64 bits, or of exact floats. `None` for all else.
pub(crate) fn pack_numbers(items: &Items<'_>) -> Option<Packed> {
    let first = *items.as_slice().first()?;
    if !items.is_list {
        return None;
    }
    // SAFETY: the items are live objects, and the GIL is held by whoever has the borrow.
    unsafe {
        if ffi::PyLong_CheckExact(first) != 0 {
            pack_ints(items)
        } else if ffi::PyFloat_CheckExact(first) != 0 {
            pack_floats(items)
        } else {
            None
        }
    }
}

unsafe fn pack_ints(items: &Items<'_>) -> Option<Packed> {
    let mut saved = SavedAtoms::with_capacity(items.len());
    let mut narrow: Vec<i32> = Vec::with_capacity(items.len());
    let mut wide: Vec<i64> = Vec::new();
    let mut counted_len = 0;
    for &item in items.as_slice() {
        let mut overflow = 0;
        // SAFETY: the caller vouches for live items and the GIL. The conversion of an exact int runs
        // no Python and sets no error.
        let value = unsafe {
            if ffi::PyLong_CheckExact(item) == 0 {
                return None;
            }
            ffi::PyLong_AsLongLongAndOverflow(item, &raw mut overflow)
        };
        if overflow != 0 {
            return None;
        }
        counted_len += match value {
            0..=0xff => 2,
            0x100..=0xffff => 3,
            -0x8000_0000..=0x7fff_ffff => 5,
            _ => 2 + 8,
        };
        saved.push(item);
        match i32::try_from(value) {
            Ok(value) if wide.is_empty() => narrow.push(value),
            _ => {
                if wide.is_empty() {
                    wide = Vec::with_capacity(items.len());
                    wide.extend(narrow.iter().map(|&value| i64::from(value)));
                    narrow = Vec::new();
                }
                wide.push(value);
            }
        }
    }
    let bytes = if wide.is_empty() { PackedBytes::Narrow(narrow) } else { PackedBytes::Wide(wide) };
    Some(Packed { bytes, saved, counted_len })
}

unsafe fn pack_floats(items: &Items<'_>) -> Option<Packed> {
    let mut saved = SavedAtoms::with_capacity(items.len());
    let mut values: Vec<f64> = Vec::with_capacity(items.len());
    for &item in items.as_slice() {
        // SAFETY: the caller vouches for live items and the GIL.
        unsafe {
            if ffi::PyFloat_CheckExact(item) == 0 {
                return None;
            }
            values.push(ffi::PyFloat_AS_DOUBLE(item));
        }
        saved.push(item);
    }
    let counted_len = 9 * items.len() as u64;
    Some(Packed { bytes: PackedBytes::Floats(values), saved, counted_len })
}

/// Numbers whose every byte is initialized: no padding.
trait Number: Copy {}
impl Number for i32 {}
impl Number for i64 {}
impl Number for f64 {}

fn bytes_of<N: Number>(values: &[N]) -> &[u8] {
    // SAFETY: `Number` is implemented for types without padding, so all bytes are initialized.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// Saves references to the items of a list or tuple, or returns `None` if one is not an atom.
pub(crate) fn save(items: &Items<'_>) -> Option<SavedAtoms> {
    let mut saved = SavedAtoms::with_capacity(items.len());
    for &item in items.as_slice() {
        // SAFETY: the items are live objects, and the GIL is held.
        if !unsafe { is_atom(item) } {
            return None;
        }
        saved.push(item);
    }
    Some(saved)
}

/// What pickle appends to a list at a time (BATCHSIZE in Modules/_pickle.c). A list is filled in the
/// same steps here, so that its allocated length, which `sys.getsizeof` shows, is the same.
const BATCH_LEN: usize = 1000;

/// Makes the list that was packed, and saves references to its items.
///
/// # Safety
/// `address` is valid for reads of `len` bytes.
pub(crate) unsafe fn unpack_numbers<'py>(
    py: Python<'py>,
    kind: PartKind,
    address: *const u8,
    len: usize,
) -> PyResult<(Bound<'py, PyAny>, SavedAtoms)> {
    // SAFETY: the caller's duty is passed on. The conversions give new references, or null with an
    // error set.
    unsafe {
        match kind {
            PartKind::ListInts32 => {
                fill(py, address.cast::<i32>(), len / 4, |value| ffi::PyLong_FromLong(value.into()))
            }
            PartKind::ListInts64 => {
                fill(py, address.cast::<i64>(), len / 8, |value| ffi::PyLong_FromLongLong(value))
            }
            _ => fill(py, address.cast::<f64>(), len / 8, |value| ffi::PyFloat_FromDouble(value)),
        }
    }
}

unsafe fn fill<'py, N: Number>(
    py: Python<'py>,
    values: *const N,
    count: usize,
    make: impl Fn(N) -> *mut ffi::PyObject,
) -> PyResult<(Bound<'py, PyAny>, SavedAtoms)> {
    let list = PyList::empty(py);
    let mut saved = SavedAtoms::with_capacity(count);
    let mut done = 0;
    while done < count {
        let batch_len = BATCH_LEN.min(count - done);
        // SAFETY: a new list of this length is filled entirely with new references before anything
        // else sees it; on an error it is dropped with null items, which a list's dealloc allows.
        let batch: Bound<'py, PyAny> = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyList_New(batch_len as ffi::Py_ssize_t))?
        };
        for index in 0..batch_len {
            // SAFETY: the caller vouches for `count` values; `read_unaligned` needs no alignment.
            let item = make(unsafe { values.add(done + index).read_unaligned() });
            if item.is_null() {
                return Err(PyErr::fetch(py));
            }
            saved.push(item);
            // SAFETY: the place is empty and takes over the new reference.
            unsafe { ffi::PyList_SET_ITEM(batch.as_ptr(), index as ffi::Py_ssize_t, item) };
        }
        // SAFETY: both are live lists; the call returns -1 with an error set if it fails.
        let outcome = unsafe {
            let end = done as ffi::Py_ssize_t;
            ffi::PyList_SetSlice(list.as_ptr(), end, end, batch.as_ptr())
        };
        if outcome != 0 {
            return Err(PyErr::fetch(py));
        }
        done += batch_len;
    }
    Ok((list.into_any(), saved))
}
