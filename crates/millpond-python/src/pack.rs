//! Pickling on the parent's and the worker's side: as the standard library does, with what it uses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyCFunction, PyDict, PyFloat, PyFunction, PyInt, PyList, PyModule, PyString,
    PyTuple, PyType,
};

use crate::names::Names;

/// The file that a pickler writes to.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Sink(Mutex<Vec<u8>>);

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sink {
    /// Appends bytes, as a file's `write` does; a pickler calls it with frames, and with large
    /// bytes objects by themselves.
    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            self.lock().extend_from_slice(bytes.as_bytes());
            return Ok(bytes.as_bytes().len());
        }
        append_buffer(data, &mut self.lock())
    }
}

/// Appends the bytes of any object with a contiguous buffer.
#[allow(unsafe_code, reason = "a buffer of unknown item type is read as bytes")]
fn append_buffer(data: &Bound<'_, PyAny>, target: &mut Vec<u8>) -> PyResult<usize> {
    let buffer = PyUntypedBuffer::get(data)?;
    let len = buffer.len_bytes();
    if !buffer.is_c_contiguous() {
        return Err(pyo3::exceptions::PyBufferError::new_err("the buffer is not contiguous"));
    }
    if len > 0 {
        // SAFETY: the exporter keeps the memory valid and in place until the buffer is released; the
        // GIL is held and no Python runs in between, so nothing writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), len) };
        target.extend_from_slice(bytes);
    }
    Ok(len)
}

/// The largest buffer in bytes that is kept for the next pickle.
const KEPT_LEN_MAX: usize = 1 << 20;

/// Pickles objects one after the other, during one call from Python.
///
/// The standard library makes a pickler for each task, which takes more time than the pickle of a
/// small one. A pickler differs from a fresh one only by its copy of the tables of reducers, so it is
/// used again as long as nothing was pickled that could run code of the user's.
pub(crate) struct Packer<'py> {
    py: Python<'py>,
    module: &'py Py<PyModule>,
    sink: Bound<'py, Sink>,
    /// The class that pickles, and whether it is the stock one, as long as no code of the user's can
    /// have changed that.
    class: Option<(Bound<'py, PyAny>, bool)>,
    pickler: Option<Bound<'py, PyAny>>,
}

impl<'py> Packer<'py> {
    /// `module` is `connection` in the parent and `queues` in a worker: the standard library's pool
    /// takes its pickler from these.
    pub(crate) fn new(py: Python<'py>, module: &'py Py<PyModule>) -> PyResult<Self> {
        let sink = Bound::new(py, Sink(Mutex::new(Vec::with_capacity(512))))?;
        Ok(Self { py, module, sink, class: None, pickler: None })
    }

    /// Pickles `object`; `is_plain` vouches that no code of the user's can run by it. The bytes are
    /// valid until the next call.
    pub(crate) fn pack(
        &mut self,
        object: &Bound<'py, PyAny>,
        is_plain: bool,
    ) -> PyResult<Packed<'_>> {
        if !is_plain {
            // What was pickled before may have registered reducers.
            self.pickler = None;
        }
        let (class, is_stock) = self.class()?;
        if !is_plain {
            // User code that runs below may replace the class.
            self.class = None;
        }
        if !is_stock {
            self.class = None;
            let pickled = class.call_method1(pyo3::intern!(self.py, "dumps"), (object,))?;
            self.sink.get().lock().clear();
            append_buffer(&pickled, &mut self.sink.get().lock())?;
            return Ok(self.packed());
        }
        let pickler = match self.pickler.take() {
            Some(pickler) => pickler,
            None => class.call1((&self.sink,))?,
        };
        self.dump(&pickler, object)?;
        if is_plain {
            pickler.call_method0(pyo3::intern!(self.py, "clear_memo"))?;
            self.pickler = Some(pickler);
        }
        Ok(self.packed())
    }

    /// Pickles with a hook that may name parts in place of objects; see [`Self::packed`] for the
    /// bytes. The pickler is the stock one.
    pub(crate) fn pack_with_hook(
        &mut self,
        object: &Bound<'py, PyAny>,
        hook: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let names = Names::get(self.py)?;
        self.class = None;
        let pickler = names.stock_pickler.bind(self.py).call1((&self.sink,))?;
        pickler.setattr(pyo3::intern!(self.py, "persistent_id"), hook)?;
        self.dump(&pickler, object)
    }

    /// Pickles, and returns what pickle remembered: number and object by address.
    pub(crate) fn memo_of(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let pickler = Names::get(self.py)?.stock_pickler.bind(self.py).call1((&self.sink,))?;
        self.dump(&pickler, object)?;
        let memo = pickler.getattr(pyo3::intern!(self.py, "memo"))?;
        Ok(memo.call_method0(pyo3::intern!(self.py, "copy"))?.cast_into()?)
    }

    /// Returns the bytes of the last pickle.
    pub(crate) fn packed(&self) -> Packed<'_> {
        Packed(self.sink.get().lock())
    }

    fn dump(&self, pickler: &Bound<'py, PyAny>, object: &Bound<'py, PyAny>) -> PyResult<()> {
        {
            let mut bytes = self.sink.get().lock();
            bytes.clear();
            if bytes.capacity() > KEPT_LEN_MAX {
                *bytes = Vec::new();
            }
        }
        pickler.call_method1(pyo3::intern!(self.py, "dump"), (object,))?;
        Ok(())
    }

    /// Returns whether the class that pickles now is the standard library's own.
    pub(crate) fn is_stock(&mut self) -> PyResult<bool> {
        Ok(self.class()?.1)
    }

    fn class(&mut self) -> PyResult<(Bound<'py, PyAny>, bool)> {
        if let Some(known) = &self.class {
            return Ok(known.clone());
        }
        let class = Names::pickler_of(self.py, self.module)?;
        let is_stock = Names::get(self.py)?.is_stock(&class)?;
        self.class = Some((class.clone(), is_stock));
        Ok((class, is_stock))
    }
}

/// The bytes of one pickle. No Python may run while they are borrowed.
pub(crate) struct Packed<'a>(MutexGuard<'a, Vec<u8>>);

impl Packed<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The most objects that are looked at to tell whether a task is plain.
pub(crate) const PLAIN_COUNT_MAX: usize = 64;

/// Tells whether pickling `object` runs no code of the user's: it is an atom, a function, a built-in
/// function or a class, or an exact list, tuple or dict of such, `budget` of them at most.
pub(crate) fn is_plain(object: &Bound<'_, PyAny>, budget: &mut usize) -> bool {
    if *budget == 0 {
        return false;
    }
    *budget -= 1;
    if object.is_none()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFunction>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyType>()
    {
        return true;
    }
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return tuple.iter_borrowed().all(|item| is_plain(&item, budget));
    }
    if let Ok(list) = object.cast_exact::<PyList>() {
        return list.len() <= *budget && list.iter().all(|item| is_plain(&item, budget));
    }
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        return dict.len() <= *budget
            && dict.iter().all(|(key, value)| is_plain(&key, budget) && is_plain(&value, budget));
    }
    // A built-in method of an object would pickle that object; a built-in function has a module.
    object.cast_exact::<PyCFunction>().is_ok_and(|function| is_bare(function))
}

#[allow(unsafe_code, reason = "a built-in function's self is read")]
fn is_bare(function: &Bound<'_, PyCFunction>) -> bool {
    // SAFETY: the object is an exact built-in function, alive as long as the borrow; the pointer is
    // borrowed or null, and only looked at.
    unsafe {
        let owner = ffi::PyCFunction_GetSelf(function.as_ptr());
        owner.is_null() || ffi::PyModule_Check(owner) != 0
    }
}
