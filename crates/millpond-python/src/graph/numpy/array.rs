//! A small array of numpy's as a node.
#![allow(unsafe_code, reason = "numpy's own structure is read")]

use std::ffi::c_int;

use millpond_engine::BUFFER_LEN_MIN;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::buffers::plain_item_len;
use crate::graph::tape::{Kind, Opaque, Side};
use crate::graph::walk::Walk;

/// `PyArrayObject_fields` (numpy/core/include/numpy/ndarraytypes.h, the same since numpy 1.7), as far as
/// it is read.
#[repr(C)]
struct ArrayObject {
    base: ffi::PyObject,
    data: *const u8,
    dimension_count: c_int,
    dimensions: *const isize,
    strides: *const isize,
    /// What the memory belongs to; null if it is the array's own.
    owner: *mut ffi::PyObject,
    dtype: *mut ffi::PyObject,
    flags: c_int,
}

/// `NPY_ARRAY_C_CONTIGUOUS` and `NPY_ARRAY_F_CONTIGUOUS`. They decide in which order an array's items
/// are pickled.
const CONTIGUOUS: c_int = 1 | 2;

/// `NPY_MAXDIMS` since numpy 2.
const DIMENSION_COUNT_MAX: usize = 64;

/// Tells whether arrays look as they are described here.
pub(super) fn is_array_known(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let array = class.call1(((2, 3), "i2"))?;
    let interface = array.getattr("__array_interface__")?;
    let address: usize = interface.get_item("data")?.get_item(0)?.extract()?;
    let dtype = array.getattr("dtype")?;
    let transposed = array.getattr("T")?;
    // SAFETY: the arrays are alive and longer than what is read; pointers are followed only where the
    // words before them agree with what the array says of itself.
    unsafe {
        let read = &*array.as_ptr().cast::<ArrayObject>();
        let turned = &*transposed.as_ptr().cast::<ArrayObject>();
        Ok(read.data.addr() == address
            && read.dimension_count == 2
            && read.owner.is_null()
            && read.dtype == dtype.as_ptr()
            && read.flags & CONTIGUOUS == 1
            && turned.flags & CONTIGUOUS == 2
            && turned.owner == array.as_ptr()
            && [*read.dimensions, *read.dimensions.add(1)] == [2, 3]
            && [*read.strides, *read.strides.add(1)] == [6, 2])
    }
}

/// Dimensions and strides.
///
/// # Safety
/// `array` is a live array that looks as it is described here; nothing changes it meanwhile.
unsafe fn shape_of(array: &ArrayObject) -> (&[isize], &[isize]) {
    let count = array.dimension_count as usize;
    if count == 0 {
        return (&[], &[]);
    }
    // SAFETY: the caller's duty.
    unsafe {
        (
            std::slice::from_raw_parts(array.dimensions, count),
            std::slice::from_raw_parts(array.strides, count),
        )
    }
}

/// Words of an array's children before its dimensions: dtype, flags, address, owner, and the owner's
/// reference count. All but the first, and of the flags those for the order, are a worker's.
const WORDS_LEN: usize = 5;

/// # Safety
/// `array` is alive; so is its owner.
unsafe fn words_of(array: &ArrayObject, side: Side) -> [usize; WORDS_LEN] {
    let dtype = array.dtype.addr();
    if side == Side::Parent {
        return [dtype, (array.flags & CONTIGUOUS) as usize, 0, 0, 0];
    }
    let count = if array.owner.is_null() {
        0
    } else {
        // SAFETY: the caller's duty.
        unsafe { ffi::Py_REFCNT(array.owner) as usize }
    };
    [dtype, array.flags as usize, array.data.addr(), array.owner.addr(), count]
}

/// Calls `each` with the bytes of an array's items as long as it returns true: in the order in which
/// numpy pickles them, and in one piece where they lie in one. `len` is the length of all. Returns false
/// if `each` has.
///
/// # Safety
/// `array` is a live array that looks as it is described here, and nothing changes it meanwhile.
unsafe fn for_each_run(
    array: &ArrayObject,
    len: usize,
    mut each: impl FnMut(&[u8]) -> bool,
) -> bool {
    if len == 0 {
        return true;
    }
    // SAFETY: the caller's duty: the items lie where dimensions and strides say.
    unsafe {
        if array.flags & CONTIGUOUS != 0 {
            return each(std::slice::from_raw_parts(array.data, len));
        }
        let (dimensions, strides) = shape_of(array);
        let item_len = len as isize / dimensions.iter().product::<isize>();
        let last = dimensions.len() - 1;
        let is_row_whole = strides[last] == item_len;
        let outer_count = if is_row_whole { last } else { last + 1 };
        let run_len = if is_row_whole { dimensions[last] * item_len } else { item_len };
        let mut index = [0; DIMENSION_COUNT_MAX];
        loop {
            let offset = index.iter().zip(strides).take(outer_count).map(|(at, by)| at * by).sum();
            if !each(std::slice::from_raw_parts(array.data.offset(offset), run_len as usize)) {
                return false;
            }
            let mut at = outer_count;
            loop {
                let Some(before) = at.checked_sub(1) else { return true };
                at = before;
                index[at] += 1;
                if index[at] < dimensions[at] {
                    break;
                }
                index[at] = 0;
            }
        }
    }
}

impl Walk<'_> {
    /// Writes down an array.
    ///
    /// # Safety
    /// [`NumpyTypes::is_array`](super::NumpyTypes::is_array) has said yes of `node`.
    pub(in crate::graph) unsafe fn numpy_array(
        &mut self,
        node: *mut ffi::PyObject,
    ) -> Result<(), Opaque> {
        let refuse = |reason: &str| Err(Opaque(format!("an array {reason}")));
        let side = self.proof.side;
        // SAFETY: the array is alive and looks as it is described, and the GIL is held; it holds its
        // dtype and its owner.
        unsafe {
            let array = &*node.cast::<ArrayObject>();
            let Some(item_len) = self.item_len(array.dtype) else {
                return refuse("is not of plain items");
            };
            // What numpy loads has memory of its own, or that of the bytes that were in the pickle.
            if side == Side::Worker
                && !array.owner.is_null()
                && ffi::PyBytes_CheckExact(array.owner) == 0
            {
                return refuse("is a view");
            }
            let (dimensions, strides) = shape_of(array);
            if dimensions.len() > DIMENSION_COUNT_MAX {
                return refuse("has many dimensions");
            }
            let len = dimensions.iter().product::<isize>() as usize * item_len;
            if len >= BUFFER_LEN_MIN {
                return refuse("is so large that it is a buffer");
            }
            let at = self.proof.bytes.len();
            for_each_run(array, len, |run| {
                self.proof.bytes.extend_from_slice(run);
                true
            });
            let strides = if side == Side::Worker { strides } else { &[] };
            let word_count = WORDS_LEN + dimensions.len() + strides.len();
            self.head(node, Kind::NumpyArray, word_count, [len, at]);
            self.proof.tape.extend_from_slice(&words_of(array, side));
            self.proof.tape.extend(dimensions.iter().chain(strides).map(|&word| word as usize));
            ffi::Py_INCREF(array.dtype);
            self.proof.atoms.push(array.dtype);
        }
        Ok(())
    }

    /// Returns the bytes of an item, if the dtype brings nothing of the user's along.
    ///
    /// # Safety
    /// `dtype` is that of a live array, in which the proof will hold a reference if this gives a length.
    unsafe fn item_len(&mut self, dtype: *mut ffi::PyObject) -> Option<usize> {
        if let Some(&len) = self.proof.numpy.item_lens.get(&dtype.addr()) {
            return Some(len);
        }
        // SAFETY: the caller's duty.
        let len = plain_item_len(&unsafe { Bound::from_borrowed_ptr(self.py, dtype) })?;
        self.proof.numpy.item_lens.insert(dtype.addr(), len);
        Some(len)
    }
}

/// Tells whether an array is what it was, by the children and bytes that were written down.
///
/// # Safety
/// `node` is alive, and of the type of arrays, which look as they are described.
pub(in crate::graph) unsafe fn is_same_array(
    node: *mut ffi::PyObject,
    side: Side,
    children: &[usize],
    bytes: &[u8],
) -> bool {
    // SAFETY: the caller's duty. Items of the same dtype and dimensions have as many bytes.
    unsafe {
        let array = &*node.cast::<ArrayObject>();
        let (words, shape) = children.split_at(WORDS_LEN);
        let (dimensions, strides) = shape_of(array);
        let strides = if side == Side::Worker { strides } else { &[] };
        words_of(array, side) == words
            && dimensions.iter().chain(strides).map(|&word| word as usize).eq(shape.iter().copied())
            && {
                let mut rest = bytes;
                for_each_run(array, bytes.len(), |run| {
                    let (known, after) = rest.split_at(run.len());
                    rest = after;
                    run == known
                })
            }
    }
}
