//! The types whose bytes are known.
//!
//! What numpy's own `__reduce__` gives for an array is made here without the copy of its bytes, which
//! are left to the caller: everything else goes through the pickler as always.
#![allow(unsafe_code, reason = "the bytes of an array are read where they lie")]

use millpond_engine::BUFFER_LEN_MIN;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::hook::{name_for, native};
use crate::graph::attribute;
use crate::names::Names;
use crate::once::Once;

/// What is known of numpy, once it has been imported.
struct Numpy {
    array: Py<PyType>,
    /// Callable and arguments by which an empty array is made, as numpy pickles it.
    reconstruct: Py<PyAny>,
    reconstruct_args: Py<PyAny>,
}

/// What is known of pyarrow.
struct Arrow {
    buffer: Py<PyType>,
    py_buffer: Py<PyAny>,
}

static NUMPY: Once<Numpy> = Once::new();
static ARROW: Once<Arrow> = Once::new();

fn numpy(py: Python<'_>) -> Option<&'static Numpy> {
    if let Some(numpy) = NUMPY.get(py) {
        return Some(numpy);
    }
    // The module may be in the middle of its import: what is not there yet is looked for again.
    let array = attribute(py, "numpy", "ndarray")?;
    let empty = attribute(py, "numpy", "empty")?;
    let make = || -> PyResult<Numpy> {
        let array = array.cast_into::<PyType>()?;
        let empty = empty.call1((0, "b"))?;
        let reduced = empty.call_method0("__reduce__")?;
        Ok(Numpy {
            array: array.unbind(),
            reconstruct: reduced.get_item(0)?.unbind(),
            reconstruct_args: reduced.get_item(1)?.unbind(),
        })
    };
    NUMPY.get_or_try_make(py, make).ok()
}

fn arrow(py: Python<'_>) -> Option<&'static Arrow> {
    if let Some(arrow) = ARROW.get(py) {
        return Some(arrow);
    }
    let buffer = attribute(py, "pyarrow.lib", "Buffer")?;
    let py_buffer = attribute(py, "pyarrow.lib", "py_buffer")?;
    let make = || -> PyResult<Arrow> {
        Ok(Arrow { buffer: buffer.cast_into::<PyType>()?.unbind(), py_buffer: py_buffer.unbind() })
    };
    ARROW.get_or_try_make(py, make).ok()
}

/// Tells whether there may be a known buffer in what is pickled.
pub(super) fn any_known(py: Python<'_>) -> bool {
    numpy(py).is_some() || arrow(py).is_some()
}

/// Tells whether an object is an array whose pickling runs nothing of the user's.
pub(crate) fn is_array_of_atoms(object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    let is_array = numpy(py).is_some_and(|numpy| object.get_type().is(&numpy.array));
    is_array
        && Names::get(py)
            .is_ok_and(|names| !names.is_registered(&object.get_type()).unwrap_or(true))
        && object
            .getattr(crate::intern!(py, "dtype"))
            .is_ok_and(|dtype| plain_item_len(&dtype).is_some())
}

/// Returns the bytes of an item, if the dtype is one of numbers, times or texts of fixed length, and
/// brings no objects of the user's along, which would be pickled with it.
pub(crate) fn plain_item_len(dtype: &Bound<'_, PyAny>) -> Option<usize> {
    let is_plain = is_of_atoms(dtype).ok()? && is_bare(dtype).ok()?;
    let len = dtype.getattr(crate::intern!(dtype.py(), "itemsize")).ok()?.extract().ok()?;
    is_plain.then_some(len)
}

fn is_bare(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = dtype.py();
    // Titles of fields may be any objects, and fields have dtypes of their own.
    Ok(dtype.getattr(crate::intern!(py, "metadata"))?.is_none()
        && dtype.getattr(crate::intern!(py, "fields"))?.is_none())
}

fn is_of_atoms(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = dtype.py();
    let kind: char = dtype.getattr(crate::intern!(py, "kind"))?.extract()?;
    Ok("biufcSUVmM".contains(kind)
        && !dtype.getattr(crate::intern!(py, "hasobject"))?.is_truthy()?)
}

/// A run of bytes that an object brings along, and how the object is made again from them.
pub(crate) struct Source<'py> {
    address: usize,
    len: usize,
    /// Whether an allocator gave the memory to the object alone.
    pub(super) is_own_block: bool,
    shape: Shape<'py>,
}

enum Shape<'py> {
    /// Shape, dtype, and whether the bytes are in Fortran's order.
    Array(&'static Numpy, Bound<'py, PyAny>, Bound<'py, PyAny>, bool),
    Arrow(&'static Arrow),
}

impl<'py> Source<'py> {
    /// Looks whether an object is one of a known type, and long enough. What it cannot vouch for is
    /// left to the object's own pickling.
    pub(crate) fn of(object: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = object.py();
        let class = object.get_type();
        if let Some(numpy) = numpy(py)
            && class.is(&numpy.array)
        {
            return Self::of_array(object, numpy);
        }
        if let Some(arrow) = arrow(py)
            && class.is(&arrow.buffer)
        {
            return Self::of_arrow(object, arrow);
        }
        Ok(None)
    }

    fn of_array(array: &Bound<'py, PyAny>, numpy: &'static Numpy) -> PyResult<Option<Self>> {
        let py = array.py();
        let len: usize = array.getattr(crate::intern!(py, "nbytes"))?.extract()?;
        if len < BUFFER_LEN_MIN || Names::get(py)?.is_registered(&array.get_type())? {
            return Ok(None);
        }
        let flags = array.getattr(crate::intern!(py, "flags"))?;
        let flag = |name| -> PyResult<bool> { flags.getattr(name)?.is_truthy() };
        let is_fortran = flag(crate::intern!(py, "fnc"))?;
        if !is_fortran && !flag(crate::intern!(py, "c_contiguous"))? {
            return Ok(None);
        }
        let dtype = array.getattr(crate::intern!(py, "dtype"))?;
        // Bytes in another order are swapped when they are loaded, into memory of the array's own.
        if !is_of_atoms(&dtype)? || !dtype.getattr(crate::intern!(py, "isnative"))?.is_truthy()? {
            return Ok(None);
        }
        let interface = array.getattr(crate::intern!(py, "__array_interface__"))?;
        let address = interface.get_item(crate::intern!(py, "data"))?.get_item(0)?.extract()?;
        let is_own_block = flag(crate::intern!(py, "owndata"))?;
        let shape = array.getattr(crate::intern!(py, "shape"))?;
        Ok(Some(Self {
            address,
            len,
            is_own_block,
            shape: Shape::Array(numpy, shape, dtype, is_fortran),
        }))
    }

    fn of_arrow(buffer: &Bound<'py, PyAny>, arrow: &'static Arrow) -> PyResult<Option<Self>> {
        let py = buffer.py();
        let len: usize = buffer.getattr(crate::intern!(py, "size"))?.extract()?;
        if len < BUFFER_LEN_MIN
            || Names::get(py)?.is_registered(&buffer.get_type())?
            || !buffer.getattr(crate::intern!(py, "is_cpu"))?.is_truthy()?
            // It travels as a bytearray, whose memory is its own.
            || buffer.getattr(crate::intern!(py, "is_mutable"))?.is_truthy()?
        {
            return Ok(None);
        }
        let address = buffer.getattr(crate::intern!(py, "address"))?.extract()?;
        Ok(Some(Self { address, len, is_own_block: false, shape: Shape::Arrow(arrow) }))
    }

    /// Returns the bytes. The GIL is held as long as they are read, and the object lives; a thread
    /// that writes an array without the GIL races with the standard library's pickling as well.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: a contiguous array, and a buffer of pyarrow's, has so many bytes at its address for
        // as long as it lives, and the source is used while its object is being pickled.
        unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address), self.len)
        }
    }

    /// Returns what makes the object again, as `__reduce__` would, with `bytes` standing for them.
    pub(crate) fn reduced(
        &self,
        py: Python<'py>,
        bytes: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        match &self.shape {
            Shape::Array(numpy, shape, dtype, is_fortran) => {
                let state = (1, shape, dtype, *is_fortran, bytes).into_pyobject(py)?;
                PyTuple::new(
                    py,
                    [numpy.reconstruct.bind(py), numpy.reconstruct_args.bind(py), state.as_any()],
                )
            }
            Shape::Arrow(arrow) => {
                let args = PyTuple::new(py, [bytes])?;
                PyTuple::new(py, [arrow.py_buffer.bind(py), args.as_any()])
            }
        }
    }

    /// Returns what makes the object again where a result is loaded that brings its bytes as the
    /// buffer `number`.
    pub(super) fn lent(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyTuple>> {
        match &self.shape {
            Shape::Array(numpy, shape, dtype, is_fortran) => {
                let (make, args) = (&numpy.reconstruct, &numpy.reconstruct_args);
                let args = (number, make, args, shape, dtype, *is_fortran).into_pyobject(py)?;
                PyTuple::new(py, [native(py, "lent_array")?, args.into_any()])
            }
            Shape::Arrow(_) => {
                let args = PyTuple::new(py, [number])?;
                self.reduced(py, &name_for(&native(py, "lent_buffer")?, &args)?)
            }
        }
    }

    /// Type and length, for people.
    pub(super) fn kind(&self) -> String {
        let class = match &self.shape {
            Shape::Array(_, shape, dtype, _) => format!("ndarray {dtype} {shape}"),
            Shape::Arrow(_) => "pyarrow.Buffer".to_owned(),
        };
        format!("{class}, {} bytes", self.len)
    }
}
