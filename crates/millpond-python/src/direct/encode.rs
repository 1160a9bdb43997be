//! Values into bytes.
#![allow(unsafe_code, reason = "CPython's own objects are read in place")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{DEPTH_MAX, NUMBERED_MAX, Tag};
use crate::by_name;
use crate::names::Names;
use crate::parts::HEAVY_LEN_MIN;

/// Items from which on a tuple or list of numbers is written without tags.
const PACKED_LEN_MIN: usize = 4;

/// Bytes of a string from on which pickle, which copies it at the same speed, is as good.
const RAW_LEN_MAX: usize = 16 << 10;

/// Writes one payload after the other into a buffer that is kept.
#[derive(Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// Addresses of the objects that have an identity, by number. They live as long as the payload
    /// is being written: what is encoded is alive, and no Python runs meanwhile.
    numbered: Vec<usize>,
    pickled_len: u64,
}

impl Encoder {
    /// Writes a task. Returns false if it has to be pickled.
    ///
    /// `second` is the argument tuple of a call, or the chunk of a map; `kwds` belongs to a call.
    pub(crate) fn task(
        &mut self,
        names: &Names,
        func: &Bound<'_, PyAny>,
        second: &Bound<'_, PyAny>,
        kwds: Option<&Bound<'_, PyAny>>,
    ) -> bool {
        self.clear();
        if !self.callable(names, func) {
            return false;
        }
        // SAFETY: the object is alive and the GIL is held.
        if unsafe {
            ffi::PyTuple_CheckExact(second.as_ptr()) == 0 || !self.value(second.as_ptr(), 0)
        } {
            return false;
        }
        match kwds {
            None => true,
            Some(kwds) => kwds.cast_exact::<PyDict>().is_ok_and(|kwds| self.keywords(kwds)),
        }
    }

    /// Writes a call of one item.
    pub(crate) fn call_of_item(
        &mut self,
        names: &Names,
        func: &Bound<'_, PyAny>,
        item: &Bound<'_, PyAny>,
    ) -> bool {
        self.clear();
        if !self.callable(names, func) {
            return false;
        }
        self.head(Tag::Tuple, 1);
        // SAFETY: the object is alive and the GIL is held.
        if !unsafe { self.value(item.as_ptr(), 1) } {
            return false;
        }
        self.pickled_len += 4;
        // No keywords.
        self.bytes.extend_from_slice(&0_u32.to_le_bytes());
        true
    }

    /// Writes a result. Returns false if it has to be pickled. `is_chunk` tells that it is the list
    /// of a chunk's results, which nobody sees as a list.
    pub(crate) fn result(&mut self, value: &Bound<'_, PyAny>, is_chunk: bool) -> bool {
        self.clear();
        let value = value.as_ptr();
        // SAFETY: the object is alive and the GIL is held.
        unsafe {
            if is_chunk && ffi::PyList_CheckExact(value) != 0 {
                let list = value.cast::<ffi::PyListObject>();
                let len = ffi::Py_SIZE(value) as usize;
                return self.items((*list).ob_item.cast_const(), len, true, 1);
            }
            self.value(value, 0)
        }
    }

    /// Returns the payload.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the payload's size in bytes as pickle would have written it, to a few bytes.
    pub(crate) fn pickled_len(&self) -> u64 {
        self.pickled_len
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.numbered.clear();
        // Protocol, frame, the outer tuple, the end.
        self.pickled_len = 20;
    }

    fn callable(&mut self, names: &Names, func: &Bound<'_, PyAny>) -> bool {
        by_name::name_of(names, func)
            .is_some_and(|(module, name)| self.name(&module) && self.name(&name))
    }

    /// Writes a name, if its characters are ASCII.
    fn name(&mut self, name: &Bound<'_, PyString>) -> bool {
        // SAFETY: the object is an exact string, alive as long as the borrow; the characters of a
        // compact ASCII string are one byte each.
        let bytes = unsafe {
            if ffi::PyUnicode_IS_COMPACT_ASCII(name.as_ptr()) == 0 {
                return false;
            }
            let len = ffi::PyUnicode_GET_LENGTH(name.as_ptr()) as usize;
            std::slice::from_raw_parts(ffi::PyUnicode_DATA(name.as_ptr()).cast::<u8>(), len)
        };
        let Ok(len) = u16::try_from(bytes.len()) else { return false };
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
        self.pickled_len += 4 + bytes.len() as u64;
        true
    }

    fn keywords(&mut self, kwds: &Bound<'_, PyDict>) -> bool {
        self.bytes.extend_from_slice(&(kwds.len() as u32).to_le_bytes());
        kwds.iter().all(|(key, value)| {
            // SAFETY: the objects are alive and the GIL is held.
            key.is_exact_instance_of::<PyString>()
                && unsafe { self.value(key.as_ptr(), 1) && self.value(value.as_ptr(), 1) }
        })
    }

    fn head(&mut self, tag: Tag, len: usize) {
        self.bytes.push(tag as u8);
        // Lengths beyond 32 bits are refused in `items`.
        self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
    }

    /// Writes a value. `object` is alive and the GIL is held.
    unsafe fn value(&mut self, object: *mut ffi::PyObject, depth: usize) -> bool {
        // SAFETY: the caller gives a live object; exact types are told by their type pointers, and
        // what is read then are those types' own structures.
        unsafe {
            if ffi::PyLong_CheckExact(object) != 0 {
                return self.int(object);
            }
            if ffi::PyUnicode_CheckExact(object) != 0 {
                return self.known(object) || self.str(object);
            }
            if ffi::PyFloat_CheckExact(object) != 0 {
                self.bytes.push(Tag::Float as u8);
                self.bytes.extend_from_slice(&ffi::PyFloat_AS_DOUBLE(object).to_le_bytes());
                self.pickled_len += 9;
                return true;
            }
            if object == ffi::Py_None() || object == ffi::Py_True() || object == ffi::Py_False() {
                self.pickled_len += 1;
                self.bytes.push(if object == ffi::Py_None() {
                    Tag::None as u8
                } else if object == ffi::Py_True() {
                    Tag::True as u8
                } else {
                    Tag::False as u8
                });
                return true;
            }
            if ffi::PyTuple_CheckExact(object) != 0 {
                let tuple = object.cast::<ffi::PyTupleObject>();
                let len = ffi::Py_SIZE(object) as usize;
                if len > 0 && self.known(object) {
                    return true;
                }
                return depth < DEPTH_MAX
                    && (depth == 0 || len < HEAVY_LEN_MIN)
                    && self.items((&raw const (*tuple).ob_item).cast(), len, false, depth + 1)
                    && (len == 0 || self.number(object));
            }
            if ffi::PyBytes_CheckExact(object) != 0 {
                let len = ffi::Py_SIZE(object) as usize;
                let start = ffi::PyBytes_AS_STRING(object).cast::<u8>();
                return self.known(object)
                    || (self.raw(Tag::Bytes, None, start, len, len) && self.number(object));
            }
            false
        }
    }

    unsafe fn int(&mut self, object: *mut ffi::PyObject) -> bool {
        let mut overflow = 0;
        // SAFETY: the object is an exact int, whose conversion runs no Python and sets no error.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
        if overflow != 0 {
            return false;
        }
        self.bytes.push(Tag::Int as u8);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self.pickled_len += pickled_int_len(value);
        true
    }

    unsafe fn str(&mut self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the object is an exact string; once it is ready its characters lie at its data,
        // `kind` bytes each.
        unsafe {
            if ffi::PyUnicode_READY(object) != 0 {
                ffi::PyErr_Clear();
                return false;
            }
            let kind = ffi::PyUnicode_KIND(object) as usize;
            let len = ffi::PyUnicode_GET_LENGTH(object) as usize;
            let start = ffi::PyUnicode_DATA(object).cast::<u8>().cast_const();
            self.raw(Tag::Str, Some(kind as u8), start, len, len * kind) && self.number(object)
        }
    }

    /// `start` is valid for reads of `byte_len` bytes.
    unsafe fn raw(
        &mut self,
        tag: Tag,
        kind: Option<u8>,
        start: *const u8,
        len: usize,
        byte_len: usize,
    ) -> bool {
        if byte_len > RAW_LEN_MAX {
            return false;
        }
        self.bytes.push(tag as u8);
        self.bytes.extend(kind);
        self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
        // SAFETY: the caller's duty.
        self.bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(start, byte_len) });
        self.pickled_len += 4 + byte_len as u64;
        true
    }

    /// Writes the items of a tuple or list. `start` points at `len` live objects.
    unsafe fn items(
        &mut self,
        start: *const *mut ffi::PyObject,
        len: usize,
        is_list: bool,
        depth: usize,
    ) -> bool {
        if u32::try_from(len).is_err() {
            return false;
        }
        // SAFETY: the caller's duty; of an empty list the start may be null.
        let items =
            unsafe { if len == 0 { &[][..] } else { std::slice::from_raw_parts(start, len) } };
        self.pickled_len += 4;
        if len >= PACKED_LEN_MIN {
            let (ints, floats) = if is_list {
                (Tag::ListOfInts, Tag::ListOfFloats)
            } else {
                (Tag::TupleOfInts, Tag::TupleOfFloats)
            };
            let before = (self.bytes.len(), self.pickled_len);
            // SAFETY: the items are live objects and the GIL is held.
            if unsafe { self.ints(ints, items) } {
                return true;
            }
            (self.pickled_len) = before.1;
            self.bytes.truncate(before.0);
            // SAFETY: as above.
            if unsafe { self.floats(floats, items) } {
                return true;
            }
            self.bytes.truncate(before.0);
        }
        self.head(if is_list { Tag::List } else { Tag::Tuple }, len);
        // SAFETY: as above.
        items.iter().all(|&item| unsafe { self.value(item, depth) })
    }

    unsafe fn ints(&mut self, tag: Tag, items: &[*mut ffi::PyObject]) -> bool {
        self.head(tag, items.len());
        self.bytes.reserve(items.len() * 8);
        for &item in items {
            let mut overflow = 0;
            // SAFETY: the items are live objects and the GIL is held.
            let value = unsafe {
                if ffi::PyLong_CheckExact(item) == 0 {
                    return false;
                }
                ffi::PyLong_AsLongLongAndOverflow(item, &raw mut overflow)
            };
            if overflow != 0 {
                return false;
            }
            self.bytes.extend_from_slice(&value.to_le_bytes());
            self.pickled_len += pickled_int_len(value);
        }
        true
    }

    unsafe fn floats(&mut self, tag: Tag, items: &[*mut ffi::PyObject]) -> bool {
        self.head(tag, items.len());
        for &item in items {
            // SAFETY: the items are live objects and the GIL is held.
            unsafe {
                if ffi::PyFloat_CheckExact(item) == 0 {
                    return false;
                }
                self.bytes.extend_from_slice(&ffi::PyFloat_AS_DOUBLE(item).to_le_bytes());
            }
        }
        self.pickled_len += 9 * items.len() as u64;
        true
    }

    /// Writes the number of an object that came before.
    fn known(&mut self, object: *mut ffi::PyObject) -> bool {
        let Some(number) = self.numbered.iter().position(|&known| known == object.addr()) else {
            return false;
        };
        self.head(Tag::Again, number);
        self.pickled_len += 2;
        true
    }

    fn number(&mut self, object: *mut ffi::PyObject) -> bool {
        self.numbered.push(object.addr());
        self.numbered.len() <= NUMBERED_MAX
    }
}

/// Bytes that pickle writes for an int.
fn pickled_int_len(value: i64) -> u64 {
    match value {
        0..=0xff => 2,
        0x100..=0xffff => 3,
        -0x8000_0000..=0x7fff_ffff => 5,
        _ => 2 + 8,
    }
}
