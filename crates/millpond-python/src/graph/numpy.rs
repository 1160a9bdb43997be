//! Numpy's small arrays and its scalars inside of graphs.
//!
//! Scalars of fixed size are atoms: immutable, without weak references, and pickled by numpy's own
//! code. An array below the size at which it crosses as a buffer is a node, which is compared byte by
//! byte: its memory may be written by way of any view of it.
#![allow(unsafe_code, reason = "numpy's types are told by their addresses")]

mod array;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use array::is_array_known;
pub(super) use array::is_same_array;

use super::atoms::{attribute, imported, is_in_c};
use super::walk::AddressHasher;
use crate::names::Names;
use crate::once::Once;

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

static KNOWN: Once<Known> = Once::new();

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
    Some(KNOWN.get_or_make(py, || Known { array, scalars }))
}

/// Finds out what numpy's types look like, once they are there. Returns whether that has run anything.
pub(super) fn prepare(py: Python<'_>) -> bool {
    KNOWN.get(py).is_none() && known(py).is_some()
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
