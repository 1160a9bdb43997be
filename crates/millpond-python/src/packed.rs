//! Flat lists and tuples packed into bytes and unpacked, faster than by pickle: of numbers, and of
//! short texts.
//!
//! What is unpacked cannot be told from what unpickling makes: types, values and identities are the
//! same, and a list is filled in pickle's steps, so that its allocated length is the same.
#![allow(unsafe_code, reason = "items are written into CPython's own structures")]

mod numbers;
pub(crate) mod shown;
mod texts;

pub(crate) use numbers::{Width, pack_numbers, store_numbers};
pub(crate) use texts::{Referrers, Text, are_texts, pack_texts};

use millpond_engine::StoreId;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::errors;
use crate::graph::NoCollection;

/// How a stored part's bytes are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PartKind {
    /// A pickle of a list or tuple of atoms.
    Pickle,
    /// A pickle of a tuple of graphs.
    Graph,
    /// The bytes of an array, which are mapped.
    Buffer,
    /// Numbers, of a list or of a tuple.
    Numbers { is_list: bool, width: Width },
    /// Short texts, of a list or of a tuple.
    Texts { is_list: bool, text: Text },
}

/// A kind's bits for graphs.
const GRAPH: u64 = 16;

/// A kind's bits for buffers.
const BUFFER: u64 = 32;

/// Set in a kind's bits for a tuple.
const TUPLE: u64 = 8;

/// A kind's bits for texts; those of [`Width`] are below.
const STR: u64 = 4;
const BYTES: u64 = 5;

impl PartKind {
    pub(crate) fn bits(self) -> u64 {
        let (bits, is_list) = match self {
            Self::Pickle => return 0,
            Self::Graph => return GRAPH,
            Self::Buffer => return BUFFER,
            Self::Numbers { is_list, width } => (width as u64, is_list),
            Self::Texts { is_list, text: Text::Str } => (STR, is_list),
            Self::Texts { is_list, text: Text::Bytes } => (BYTES, is_list),
        };
        bits | if is_list { 0 } else { TUPLE }
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        let is_list = bits & TUPLE == 0;
        let width = match bits & !TUPLE {
            1 => Width::Int32,
            2 => Width::Int64,
            3 => Width::Float64,
            STR => return Self::Texts { is_list, text: Text::Str },
            BYTES => return Self::Texts { is_list, text: Text::Bytes },
            GRAPH => return Self::Graph,
            BUFFER => return Self::Buffer,
            _ => return Self::Pickle,
        };
        Self::Numbers { is_list, width }
    }
}

/// A list, a tuple or a graph that has been stored.
pub(crate) struct Stored {
    pub(crate) id: StoreId,
    pub(crate) stored_len: u64,
    /// Its size in bytes in a pickle, about.
    pub(crate) counted_len: u64,
}

/// Makes the list or tuple that was packed. The bytes are what another process left there: what
/// cannot be true is an error.
///
/// # Safety
/// `address` is valid for reads of `len` bytes.
pub(crate) unsafe fn unpack<'py>(
    py: Python<'py>,
    kind: PartKind,
    address: *const u8,
    len: usize,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the caller's duty is passed on.
    unsafe {
        match kind {
            PartKind::Numbers { is_list, width } => {
                numbers::unpack_numbers(py, is_list, width, address, len)
            }
            PartKind::Texts { is_list, text } => {
                texts::unpack_texts(py, is_list, text, address, len)
            }
            PartKind::Pickle | PartKind::Graph | PartKind::Buffer => Err(errors::damaged()),
        }
    }
}

/// What pickle appends to a list at a time (BATCHSIZE in Modules/_pickle.c). A list is filled in the
/// same steps here, so that its allocated length, which `sys.getsizeof` shows, is the same.
const BATCH_LEN: usize = 1000;

/// The items that are made so far. They are alive: the list or tuple holds them.
struct Made {
    /// Those in the list, and how many.
    start: *const *mut ffi::PyObject,
    done: usize,
    /// Those that will be appended next, or are in the tuple.
    batch: *const *mut ffi::PyObject,
    batch_done: usize,
}

impl Made {
    /// Returns an item, if it is made. The reference is borrowed.
    fn get(&self, index: usize) -> Option<*mut ffi::PyObject> {
        // SAFETY: both are arrays of CPython's, in which so many places are filled; `fill` reads their
        // addresses anew whenever these may have changed.
        unsafe {
            if index < self.done {
                Some(self.start.add(index).read())
            } else if index - self.done < self.batch_done {
                Some(self.batch.add(index - self.done).read())
            } else {
                None
            }
        }
    }
}

/// `make` gives new references, or null with an error set. It gets an index, and what is made so far.
unsafe fn fill<'py>(
    py: Python<'py>,
    is_list: bool,
    count: usize,
    mut make: impl FnMut(usize, &Made) -> *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    // What is half made could be found, and changed, by what a collection calls.
    let _still = NoCollection::begin(py);
    let ssize = |len: usize| len as ffi::Py_ssize_t;
    if !is_list {
        // SAFETY: a new tuple is filled entirely with new references before anything else sees it;
        // on an error it is dropped with null items, which a tuple's dealloc allows.
        unsafe {
            let tuple = Bound::from_owned_ptr_or_err(py, ffi::PyTuple_New(ssize(count)))?;
            let batch = (&raw const (*tuple.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
            for index in 0..count {
                let made = Made { start: batch, done: 0, batch, batch_done: index };
                let item = make(index, &made);
                if item.is_null() {
                    return Err(PyErr::fetch(py));
                }
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), ssize(index), item);
            }
            return Ok(tuple);
        }
    }
    let list = PyList::empty(py).into_any();
    let mut done = 0;
    while done < count {
        let batch_len = BATCH_LEN.min(count - done);
        // SAFETY: as for the tuple.
        let batch: Bound<'py, PyAny> =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(ssize(batch_len)))? };
        let arrays = [&list, &batch].map(|list| {
            // SAFETY: the object is a live list.
            unsafe { (*list.as_ptr().cast::<ffi::PyListObject>()).ob_item.cast_const() }
        });
        for index in 0..batch_len {
            let made = Made { start: arrays[0], done, batch: arrays[1], batch_done: index };
            let item = make(done + index, &made);
            if item.is_null() {
                return Err(PyErr::fetch(py));
            }
            // SAFETY: the place is empty and takes over the new reference.
            unsafe { ffi::PyList_SET_ITEM(batch.as_ptr(), ssize(index), item) };
        }
        // SAFETY: both are live lists; the call returns -1 with an error set if it fails.
        let outcome = unsafe {
            ffi::PyList_SetSlice(list.as_ptr(), ssize(done), ssize(done), batch.as_ptr())
        };
        if outcome != 0 {
            return Err(PyErr::fetch(py));
        }
        done += batch_len;
    }
    Ok(list)
}
