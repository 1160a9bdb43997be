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
/// small one. A pickler sees reducers that are registered later, and differs from a fresh one only
/// where its class has changed, so it is used again until that, or until something was pickled that
/// could run code of the user's.
pub(crate) struct Packer<'py> {
    py: Python<'py>,
    module: &'py Py<PyModule>,
    sink: Bound<'py, Sink>,
    class: Option<KnownClass<'py>>,
    pickler: Option<Bound<'py, PyAny>>,
}

/// A class that pickles, as it was when it was looked at.
struct KnownClass<'py> {
    class: Bound<'py, PyAny>,
    /// The interpreter gives a class another version with each change of it or of its bases.
    version: u32,
    is_stock: bool,
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
        let (class, is_stock) = self.class()?;
        if !is_plain {
            self.pickler = None;
        }
        if !is_stock {
            let pickled = class.call_method1(crate::intern!(self.py, "dumps"), (object,))?;
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
            pickler.call_method0(crate::intern!(self.py, "clear_memo"))?;
            self.pickler = Some(pickler);
        }
        Ok(self.packed())
    }

    /// Pickles with hooks that may name parts, or buffers, in place of objects; see [`Self::packed`]
    /// for the bytes. The pickler is the stock one.
    pub(crate) fn pack_with_hooks(
        &mut self,
        object: &Bound<'py, PyAny>,
        persistent_id: Option<&Bound<'py, PyAny>>,
        reducer_override: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let names = Names::get(self.py)?;
        let pickler = names.stock_pickler.bind(self.py).call1((&self.sink,))?;
        if let Some(hook) = persistent_id {
            pickler.setattr(crate::intern!(self.py, "persistent_id"), hook)?;
        }
        if let Some(hook) = reducer_override {
            pickler.setattr(crate::intern!(self.py, "reducer_override"), hook)?;
        }
        self.dump(&pickler, object)
    }

    /// Pickles, and returns what pickle remembered: number and object by address.
    pub(crate) fn memo_of(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let pickler = Names::get(self.py)?.stock_pickler.bind(self.py).call1((&self.sink,))?;
        self.dump(&pickler, object)?;
        let memo = pickler.getattr(crate::intern!(self.py, "memo"))?;
        Ok(memo.call_method0(crate::intern!(self.py, "copy"))?.cast_into()?)
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
        pickler.call_method1(crate::intern!(self.py, "dump"), (object,))?;
        Ok(())
    }

    /// Returns whether the class that pickles now is the standard library's own.
    pub(crate) fn is_stock(&mut self) -> PyResult<bool> {
        Ok(self.class()?.1)
    }

    /// Looks up the class that pickles: the user's code may replace or change it at any time.
    fn class(&mut self) -> PyResult<(Bound<'py, PyAny>, bool)> {
        let class = Names::pickler_of(self.py, self.module)?;
        let version = version_of(&class);
        if let Some(known) = &self.class
            && known.class.is(&class)
            && version != 0
            && known.version == version
        {
            return Ok((class, known.is_stock));
        }
        self.pickler = None;
        let is_stock = Names::get(self.py)?.is_stock(&class)?;
        // The lookups above have given the class its version, if it had none.
        let version = version_of(&class);
        self.class = Some(KnownClass { class: class.clone(), version, is_stock });
        Ok((class, is_stock))
    }
}

/// Returns a class's version (`tp_version_tag`, Include/cpython/object.h), which no two states of
/// classes share; 0 if it has none now.
#[allow(unsafe_code, reason = "a field of a type is read")]
fn version_of(class: &Bound<'_, PyAny>) -> u32 {
    // SAFETY: the object is a type, alive as long as the borrow, and the GIL is held.
    class.cast::<PyType>().map_or(0, |class| unsafe { (*class.as_type_ptr()).tp_version_tag })
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
