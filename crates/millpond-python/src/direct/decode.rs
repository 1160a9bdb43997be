//! Bytes into values. What is read was written by another process: every length is checked, and a
//! payload that cannot be true is an error.
#![allow(unsafe_code, reason = "tuples and strings are filled in place")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString, PyTuple};

use super::{DEPTH_MAX, Tag};
use crate::by_name;
use crate::errors::damaged;
use crate::names::Names;

/// A task, ready to be called.
pub(crate) struct Call<'py> {
    pub(crate) func: Bound<'py, PyAny>,
    /// The arguments of a call, or the chunk of a map.
    pub(crate) second: Bound<'py, PyTuple>,
    pub(crate) kwds: Option<Bound<'py, PyDict>>,
}

/// The names of the last task's callable as Python strings. What they mean is looked up anew.
#[derive(Default)]
pub(crate) struct NameCache {
    /// Both with their lengths, as they stand in a payload.
    bytes: Vec<u8>,
    names: Option<(Py<PyString>, Py<PyString>)>,
}

impl NameCache {
    fn get<'py>(
        &mut self,
        py: Python<'py>,
        bytes: &[u8],
        module: &[u8],
        name: &[u8],
    ) -> PyResult<(Bound<'py, PyString>, Bound<'py, PyString>)> {
        if self.bytes == bytes
            && let Some((module, name)) = &self.names
        {
            return Ok((module.bind(py).clone(), name.bind(py).clone()));
        }
        let module = PyString::new(py, ascii(module)?);
        let name = PyString::new(py, ascii(name)?);
        self.bytes = bytes.to_vec();
        self.names = Some((module.clone().unbind(), name.clone().unbind()));
        Ok((module, name))
    }
}

fn ascii(bytes: &[u8]) -> PyResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged())
}

/// Reads a task, and finds its callable.
pub(crate) fn read_task<'py>(
    py: Python<'py>,
    names: &Names,
    cache: &mut NameCache,
    bytes: &[u8],
    has_keywords: bool,
) -> PyResult<Call<'py>> {
    let mut reader = Reader::new(py, bytes);
    let module = reader.name()?;
    let name = reader.name()?;
    let head = &bytes[..bytes.len() - reader.bytes.len()];
    let (module, name) = cache.get(py, head, module, name)?;
    let func = by_name::find(names, &module, &name)?;
    let second = reader.value(0)?.cast_into_exact::<PyTuple>().map_err(|_| damaged())?;
    let kwds = if has_keywords { reader.keywords()? } else { None };
    reader.end()?;
    Ok(Call { func, second, kwds })
}

/// Reads a result.
pub(crate) fn read_result<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader::new(py, bytes);
    let value = reader.result()?;
    reader.end()?;
    Ok(value)
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    bytes: &'a [u8],
    numbered: Vec<Bound<'py, PyAny>>,
}

impl<'a, 'py> Reader<'a, 'py> {
    fn new(py: Python<'py>, bytes: &'a [u8]) -> Self {
        Self { py, bytes, numbered: Vec::new() }
    }

    fn take(&mut self, len: usize) -> PyResult<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or_else(damaged)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn len(&mut self) -> PyResult<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn name(&mut self) -> PyResult<&'a [u8]> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(len.into())
    }

    fn end(&self) -> PyResult<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(damaged()) }
    }

    fn keywords(&mut self) -> PyResult<Option<Bound<'py, PyDict>>> {
        let len = self.len()?;
        if len == 0 {
            return Ok(None);
        }
        let kwds = PyDict::new(self.py);
        for _ in 0..len {
            // Nothing else is written here. A tuple of tuples of the same tuple would be hashed for years.
            let key = self.value(1)?.cast_into_exact::<PyString>().map_err(|_| damaged())?;
            kwds.set_item(key, self.value(1)?)?;
        }
        Ok(Some(kwds))
    }

    fn value(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let [tag] = self.array()?;
        Ok(match Tag::from_byte(tag).ok_or_else(damaged)? {
            Tag::None => py.None().into_bound(py),
            Tag::True => true.into_pyobject(py)?.to_owned().into_any(),
            Tag::False => false.into_pyobject(py)?.to_owned().into_any(),
            Tag::Int => PyInt::new(py, i64::from_le_bytes(self.array()?)).into_any(),
            Tag::Float => PyFloat::new(py, f64::from_le_bytes(self.array()?)).into_any(),
            Tag::Str => self.str()?,
            Tag::Bytes => {
                let len = self.len()?;
                let bytes = self.take(len)?;
                // As pickle makes it: a new object, also where the interpreter keeps one of one byte.
                let fill = |target: &mut [u8]| {
                    target.copy_from_slice(bytes);
                    Ok(())
                };
                let bytes = PyBytes::new_with(py, len, fill)?.into_any();
                self.numbered.push(bytes.clone());
                bytes
            }
            Tag::Again => {
                let number = self.len()?;
                self.numbered.get(number).ok_or_else(damaged)?.clone()
            }
            Tag::Tuple if depth <= DEPTH_MAX => {
                let len = self.len()?;
                // Each item has at least its tag, so a false length is found before memory is asked.
                let room = self.bytes.len();
                let tuple = Row::<false>::new(py, len, room)?;
                for index in 0..len {
                    tuple.set(index, self.value(depth + 1)?);
                }
                self.numbered_unless_empty(len, tuple.0)
            }
            Tag::TupleOfInts => {
                let len = self.len()?;
                let tuple = self.numbers::<false>(len, int)?;
                self.numbered_unless_empty(len, tuple)
            }
            Tag::TupleOfFloats => {
                let len = self.len()?;
                let tuple = self.numbers::<false>(len, float)?;
                self.numbered_unless_empty(len, tuple)
            }
            _ => return Err(damaged()),
        })
    }

    /// The list of a chunk's results, or any other value.
    fn result(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let tag = self.bytes.first().copied().and_then(Tag::from_byte);
        match tag {
            Some(Tag::List | Tag::ListOfInts | Tag::ListOfFloats) => {
                let [_] = self.array()?;
                let len = self.len()?;
                match tag {
                    Some(Tag::ListOfInts) => self.numbers::<true>(len, int),
                    Some(Tag::ListOfFloats) => self.numbers::<true>(len, float),
                    _ => {
                        let list = Row::<true>::new(self.py, len, self.bytes.len())?;
                        for index in 0..len {
                            list.set(index, self.value(1)?);
                        }
                        Ok(list.0)
                    }
                }
            }
            _ => self.value(0),
        }
    }

    fn numbered_unless_empty(&mut self, len: usize, tuple: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        if len > 0 {
            self.numbered.push(tuple.clone());
        }
        tuple
    }

    fn numbers<const IS_LIST: bool>(
        &mut self,
        len: usize,
        make: impl Fn(Python<'py>, [u8; 8]) -> Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self.take(len.checked_mul(8).ok_or_else(damaged)?)?;
        let row = Row::<IS_LIST>::new(self.py, len, len)?;
        for (index, number) in bytes.as_chunks().0.iter().enumerate() {
            row.set(index, make(self.py, *number));
        }
        Ok(row.0)
    }

    fn str(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let [kind] = self.array()?;
        let len = self.len()?;
        if !matches!(kind, 1 | 2 | 4) {
            return Err(damaged());
        }
        let bytes = self.take(len.checked_mul(kind.into()).ok_or_else(damaged)?)?;
        // The interpreter looks at single characters only.
        let is_character = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) <= u32::from(char::MAX);
        if kind == 4 && !bytes.as_chunks().0.iter().all(is_character) {
            return Err(damaged());
        }
        // SAFETY: the bytes are `len` characters of `kind` bytes; the function reads them as such
        // whatever their alignment on the architectures that are supported, and returns a new
        // reference or null with an error set.
        let made = unsafe {
            Bound::from_owned_ptr_or_err(
                self.py,
                ffi::PyUnicode_FromKindAndData(
                    kind.into(),
                    bytes.as_ptr().cast(),
                    len as ffi::Py_ssize_t,
                ),
            )?
        };
        self.numbered.push(made.clone());
        Ok(made)
    }
}

fn int<'py>(py: Python<'py>, bytes: [u8; 8]) -> Bound<'py, PyAny> {
    PyInt::new(py, i64::from_le_bytes(bytes)).into_any()
}

fn float<'py>(py: Python<'py>, bytes: [u8; 8]) -> Bound<'py, PyAny> {
    PyFloat::new(py, f64::from_le_bytes(bytes)).into_any()
}

/// A new tuple or list that is being filled. Nothing else has a reference to it.
struct Row<'py, const IS_LIST: bool>(Bound<'py, PyAny>);

impl<'py, const IS_LIST: bool> Row<'py, IS_LIST> {
    /// `room` is the most items that there can be.
    fn new(py: Python<'py>, len: usize, room: usize) -> PyResult<Self> {
        if len > room {
            return Err(damaged());
        }
        let len = len as ffi::Py_ssize_t;
        // SAFETY: the GIL is held; the call returns a new reference, or null with an error set. What
        // is not filled, because an error ends the reading, is null, which both types' dealloc and
        // traverse allow.
        let row = unsafe {
            let row = if IS_LIST { ffi::PyList_New(len) } else { ffi::PyTuple_New(len) };
            Bound::from_owned_ptr_or_err(py, row)?
        };
        Ok(Self(row))
    }

    fn set(&self, index: usize, item: Bound<'py, PyAny>) {
        let index = index as ffi::Py_ssize_t;
        // SAFETY: each place from 0 to the length is filled once, and takes the reference over.
        unsafe {
            if IS_LIST {
                ffi::PyList_SET_ITEM(self.0.as_ptr(), index, item.into_ptr());
            } else {
                ffi::PyTuple_SET_ITEM(self.0.as_ptr(), index, item.into_ptr());
            }
        }
    }
}
