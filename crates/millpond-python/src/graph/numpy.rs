//! Numpy's small arrays and its scalars inside of graphs.
//!
//! Scalars of fixed size are atoms: immutable, without weak references, and pickled by numpy's own
//! code. An array below the size at which it crosses as a buffer is a node, which is compared byte by
//! byte: its memory may be written by way of any view of it.
#![allow(unsafe_code, reason = "numpy's own structure is read")]

use std::collections::HashMap;
use std::ffi::c_int;
use std::hash::BuildHasherDefault;

use millpond_engine::BUFFER_LEN_MIN;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::atoms::{attribute, imported, is_in_c};
use super::tape::{Kind, Opaque, Side};
use super::walk::{AddressHasher, Walk};
use crate::buffers::plain_item_len;
use crate::names::Names;

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

/// Types of scalars.
const SCALARS: [&str; 22] = [
    "bool_",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "longlong",
    "ulonglong",
    "intc",
    "uintc",
    "float16",
    "float32",
    "float64",
    "longdouble",
    "complex64",
    "complex128",
    "clongdouble",
    "datetime64",
    "timedelta64",
];

/// What is known of numpy, once it has been imported.
struct Known {
    /// The address of its array's type, if arrays look as they are described here.
    array: Option<usize>,
    /// Addresses of the scalars' types, sorted.
    scalars: Vec<usize>,
}

static KNOWN: PyOnceLock<Known> = PyOnceLock::new();

/// Numpy's types as a walk has met them.
#[derive(Default)]
pub(super) struct NumpyTypes {
    /// Those that were met, and had no reducer registered for them.
    met: Vec<usize>,
    /// Bytes of an item, by the addresses of the dtypes that were met, which the proof holds.
    item_lens: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
}

fn known(py: Python<'_>) -> Option<&'static Known> {
    // The module may be in the middle of its import: what is not there yet is looked for again.
    let array = imported(py, "numpy", "ndarray")?;
    let mut scalars = Vec::with_capacity(SCALARS.len());
    for name in SCALARS {
        let class = attribute(py, "numpy", name)?.cast_into::<PyType>().ok()?;
        if is_in_c(&class) {
            scalars.push(class.as_ptr().addr());
        }
    }
    scalars.sort_unstable();
    let array = is_array_known(&array).unwrap_or(false).then(|| array.as_ptr().addr());
    Some(KNOWN.get_or_init(py, || Known { array, scalars }))
}

/// Finds out what numpy's types look like, once they are there. Returns whether that has run anything.
pub(super) fn prepare(py: Python<'_>) -> bool {
    KNOWN.get(py).is_none() && known(py).is_some()
}

/// Tells whether arrays look as they are described here.
fn is_array_known(class: &Bound<'_, PyType>) -> PyResult<bool> {
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

impl NumpyTypes {
    /// Tells whether an object is a scalar.
    ///
    /// # Safety
    /// `object` is alive.
    pub(super) unsafe fn is_scalar(
        &mut self,
        py: Python<'_>,
        names: &Names,
        object: *mut ffi::PyObject,
    ) -> bool {
        // SAFETY: the caller's duty.
        let class = unsafe { ffi::Py_TYPE(object) };
        let Some(known) = KNOWN.get(py) else { return false };
        // Nearly all other types lie below or above all of these.
        let [first, .., last] = known.scalars.as_slice() else { return false };
        (first..=last).contains(&&class.addr())
            && known.scalars.binary_search(&class.addr()).is_ok()
            && self.meet(py, names, class)
    }

    /// Tells whether an object is an array that may be a node.
    ///
    /// # Safety
    /// `object` is alive.
    pub(super) unsafe fn is_array(
        &mut self,
        py: Python<'_>,
        names: &Names,
        object: *mut ffi::PyObject,
    ) -> bool {
        // SAFETY: the caller's duty.
        let class = unsafe { ffi::Py_TYPE(object) };
        KNOWN.get(py).and_then(|known| known.array) == Some(class.addr())
            && self.meet(py, names, class)
    }

    fn meet(&mut self, py: Python<'_>, names: &Names, class: *mut ffi::PyTypeObject) -> bool {
        if self.met.contains(&class.addr()) {
            return true;
        }
        let is_stock = is_stock(py, names, class.addr());
        if is_stock {
            self.met.push(class.addr());
        }
        is_stock
    }

    /// Tells whether the types that were met are pickled by numpy's own code now.
    pub(super) fn are_same(&self, py: Python<'_>, names: &Names) -> bool {
        self.met.iter().all(|&class| is_stock(py, names, class))
    }
}

/// Tells whether no reducer is registered for a type of numpy's.
fn is_stock(py: Python<'_>, names: &Names, class: usize) -> bool {
    let class = std::ptr::with_exposed_provenance_mut::<ffi::PyObject>(class);
    // SAFETY: numpy's types are static, and numpy is never unloaded.
    let class = unsafe { Bound::from_borrowed_ptr(py, class) };
    class.cast::<PyType>().is_ok_and(|class| !names.is_registered(class).unwrap_or(true))
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

impl Walk<'_> {
    /// Writes down an array.
    ///
    /// # Safety
    /// [`NumpyTypes::is_array`] has said yes of `node`.
    pub(super) unsafe fn numpy_array(&mut self, node: *mut ffi::PyObject) -> Result<(), Opaque> {
        let refuse = |reason: &str| Err(Opaque(format!("an array {reason}")));
        let side = self.proof.side;
        // SAFETY: the array is alive and looks as it is described, and the GIL is held; it holds its
        // dtype and its owner.
        unsafe {
            let array = &*node.cast::<ArrayObject>();
            let Some(item_len) = self.item_len(array.dtype) else {
                return refuse("is not of plain items");
            };
            if array.flags & CONTIGUOUS == 0 {
                return refuse("is not contiguous");
            }
            // What numpy loads has memory of its own, or that of the bytes that were in the pickle.
            if side == Side::Worker
                && !array.owner.is_null()
                && ffi::PyBytes_CheckExact(array.owner) == 0
            {
                return refuse("is a view");
            }
            let (dimensions, strides) = shape_of(array);
            let len = dimensions.iter().product::<isize>() as usize * item_len;
            if len >= BUFFER_LEN_MIN {
                return refuse("is so large that it is a buffer");
            }
            let at = self.proof.bytes.len();
            if len > 0 {
                self.proof.bytes.extend_from_slice(std::slice::from_raw_parts(array.data, len));
            }
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
pub(super) unsafe fn is_same_array(
    node: *mut ffi::PyObject,
    side: Side,
    children: &[usize],
    bytes: &[u8],
) -> bool {
    // SAFETY: the caller's duty. Contiguous memory of the same dtype and dimensions has as many bytes.
    unsafe {
        let array = &*node.cast::<ArrayObject>();
        let (words, shape) = children.split_at(WORDS_LEN);
        let (dimensions, strides) = shape_of(array);
        let strides = if side == Side::Worker { strides } else { &[] };
        words_of(array, side) == words
            && dimensions.iter().chain(strides).map(|&word| word as usize).eq(shape.iter().copied())
            && (bytes.is_empty() || std::slice::from_raw_parts(array.data, bytes.len()) == bytes)
    }
}
