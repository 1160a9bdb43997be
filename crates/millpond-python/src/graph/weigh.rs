//! How heavy an object is, told without walking all of it.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use millpond_engine::BUFFER_LEN_MIN;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyTuple, PyType};

use super::atoms::imported;
use super::classes::{Base, Class, has_forbidden, hides_items};
use super::walk::{Addresses, is_atom, items_of, slice_of};
use crate::buffers;
use crate::names::Names;
use crate::pack::is_plain;

/// Tells whether an object holds `enough` references or more, counting those of containers in it, and
/// of instances' own dicts, once each. Texts count by their length, as if a reference stood for
/// [`TEXT_LEN`] bytes of them. A look stops when it has seen enough.
pub(crate) fn is_heavy(object: &Bound<'_, PyAny>, enough: usize) -> bool {
    let py = object.py();
    let mut look = Look {
        py,
        count: 0,
        enough,
        standard: None,
        stack: Vec::new(),
        visited: Addresses::default(),
    };
    // SAFETY: the object is alive as long as the borrow, the GIL is held and no Python runs.
    unsafe {
        look.meet(object.as_ptr());
        while let Some(node) = look.stack.pop() {
            if look.count >= enough {
                return true;
            }
            look.open(node);
        }
    }
    look.count >= enough
}

struct Look<'py> {
    py: Python<'py>,
    count: usize,
    enough: usize,
    /// The types of deques, arrays and numpy's arrays, once an object was met that may be one.
    standard: Option<[Option<Py<PyType>>; 3]>,
    stack: Vec<*mut ffi::PyObject>,
    visited: Addresses,
}

impl Look<'_> {
    unsafe fn meet(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: the caller gives a live object.
        unsafe {
            let class = ffi::Py_TYPE(object);
            let is_named =
                class == &raw mut ffi::PyFunction_Type || class == &raw mut ffi::PyType_Type;
            if is_atom(object) {
                // The same text may be counted twice, which is as good for a guess.
                self.count += text_len(object) / TEXT_LEN;
            } else if !is_named && self.visited.insert(object.addr()) {
                self.stack.push(object);
            }
        }
    }

    unsafe fn open(&mut self, node: *mut ffi::PyObject) {
        // SAFETY: the caller gives a live object; exact types are told by their type pointers.
        unsafe {
            if ffi::PyList_Check(node) != 0 {
                let list = node.cast::<ffi::PyListObject>();
                return self.each(slice_of((*list).ob_item, ffi::Py_SIZE(node) as usize));
            }
            if ffi::PyTuple_Check(node) != 0 {
                let tuple = node.cast::<ffi::PyTupleObject>();
                let items = (&raw mut (*tuple).ob_item).cast();
                return self.each(slice_of(items, ffi::Py_SIZE(node) as usize));
            }
            // Subclasses too: what they weigh is a guess, and what they are is found out later.
            if ffi::PyDict_Check(node) != 0 {
                return self.dict(node);
            }
            if ffi::PyAnySet_Check(node) != 0 {
                let set = &*node.cast::<ffi::PySetObject>();
                self.count += set.used as usize;
                if self.count < self.enough {
                    for entry in std::slice::from_raw_parts(set.table, set.mask as usize + 1) {
                        if !entry.key.is_null() && entry.hash != -1 {
                            self.meet(entry.key);
                        }
                    }
                }
                return;
            }
            if ffi::PyByteArray_Check(node) != 0 || ffi::PyBytes_Check(node) != 0 {
                self.count += ffi::Py_SIZE(node) as usize / TEXT_LEN;
            } else if ffi::PyUnicode_Check(node) != 0 {
                self.count += ffi::PyUnicode_GET_LENGTH(node) as usize / TEXT_LEN;
            }
            if let Some(weight) = self.weight_of_standard(node) {
                self.count += weight;
                return;
            }
            // The instance holds its dict too.
            if let Some(dict) = own_dict(self.py, node) {
                self.dict(dict.as_ptr());
            }
        }
    }

    unsafe fn dict(&mut self, dict: *mut ffi::PyObject) {
        // SAFETY: the caller gives a live dict; the references are borrowed, and nothing changes it.
        unsafe {
            self.count += 2 * ffi::PyDict_Size(dict) as usize;
            let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            while self.count < self.enough
                && ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) != 0
            {
                self.meet(key);
                self.meet(value);
            }
        }
    }

    unsafe fn each(&mut self, items: &[*mut ffi::PyObject]) {
        self.count += items.len();
        if self.count < self.enough {
            for &item in items {
                // SAFETY: the items of a live container are alive.
                unsafe { self.meet(item) };
            }
        }
    }
}

/// Returns the number of members of a set or frozenset.
pub(crate) fn set_len(object: &Bound<'_, PyAny>) -> Option<usize> {
    // SAFETY: the object is alive, and of a type whose structure is read.
    unsafe {
        (ffi::PyAnySet_CheckExact(object.as_ptr()) != 0)
            .then(|| (*object.as_ptr().cast::<ffi::PySetObject>()).used as usize)
    }
}

/// Bytes of a text that weigh as much as a reference. Pickle copies them at the speed of memory.
pub(crate) const TEXT_LEN: usize = 64;

/// Returns the bytes that a text has, about; 0 for all other objects.
///
/// # Safety
/// `object` is alive.
pub(crate) unsafe fn text_len(object: *mut ffi::PyObject) -> usize {
    // SAFETY: the caller gives a live object; exact types are told by their type pointers.
    unsafe {
        if ffi::PyUnicode_CheckExact(object) != 0 {
            ffi::PyUnicode_GET_LENGTH(object) as usize * ffi::PyUnicode_KIND(object) as usize
        } else if ffi::PyBytes_CheckExact(object) != 0 {
            ffi::Py_SIZE(object) as usize
        } else {
            0
        }
    }
}

/// Returns an instance's own dict, if its class is made by a class statement or the like, without
/// running code of the user's. A class is no instance in this sense.
pub(crate) fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is alive as long as the borrow, and the GIL is held.
    unsafe { own_dict(object.py(), object.as_ptr()) }
}

/// # Safety
/// `object` is alive.
unsafe fn own_dict(py: Python<'_>, object: *mut ffi::PyObject) -> Option<Bound<'_, PyDict>> {
    // SAFETY: the caller gives a live object. The call returns a new reference or null with an error
    // set; it does not go through the type's own `__getattribute__`.
    let dict = unsafe {
        if (*ffi::Py_TYPE(object)).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE == 0
            || ffi::PyType_Check(object) != 0
        {
            return None;
        }
        let dict = ffi::PyObject_GenericGetDict(object, std::ptr::null_mut());
        Bound::from_owned_ptr_or_opt(py, dict)
    };
    if dict.is_none() {
        drop(PyErr::take(py));
    }
    dict?.cast_into_exact::<PyDict>().ok()
}

/// The most objects that are looked at to tell whether a task is simple.
const SIMPLE_COUNT_MAX: usize = 512;

/// Tells whether nothing of the user's runs when these objects are pickled, given that `apart` are
/// not: they, and all in them, are known.
pub(crate) fn is_simple(objects: &[&Bound<'_, PyAny>], apart: &[Bound<'_, PyAny>]) -> bool {
    let Some(first) = objects.first() else { return true };
    let py = first.py();
    let Ok(names) = Names::get(py) else { return false };
    let mut classes: Vec<(usize, Option<(Base, bool)>)> = Vec::new();
    let mut visited: Addresses = apart.iter().map(|object| object.as_ptr().addr()).collect();
    let mut stack: Vec<Bound<'_, PyAny>> = objects.iter().map(|&object| object.clone()).collect();
    let mut budget = SIMPLE_COUNT_MAX;
    while let Some(object) = stack.pop() {
        // SAFETY: the object is alive.
        let is_atom = unsafe { is_atom(object.as_ptr()) };
        if is_atom || is_plain(&object, &mut 1) || !visited.insert(object.as_ptr().addr()) {
            continue;
        }
        if budget == 0 {
            return false;
        }
        budget -= 1;
        if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            stack.extend(tuple.iter());
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            stack.extend(list.iter());
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            stack.extend(dict.iter().flat_map(|(key, value)| [key, value]));
        } else if object.is_exact_instance_of::<PySet>()
            || object.is_exact_instance_of::<PyFrozenSet>()
        {
            // Members are hashed where they are loaded, which is not here.
            let Ok(members) = object.try_iter() else { return false };
            stack.extend(members.flatten());
        } else if object.get_type().is(&names.partial) || object.get_type().is(&names.method_type) {
            let parts = if object.get_type().is(&names.partial) {
                &["func", "args", "keywords"][..]
            } else {
                &["__func__", "__self__"][..]
            };
            for part in parts {
                let Ok(part) = object.getattr(*part) else { return false };
                stack.push(part);
            }
        } else if buffers::is_array_of_atoms(&object) {
            continue;
        } else {
            let class = object.get_type();
            let address = class.as_ptr().addr();
            let known = match classes.iter().find(|(known, _)| *known == address) {
                Some((_, known)) => *known,
                None => {
                    // One with slots is not looked into here.
                    let class = Class::of(&class).ok().filter(|class| class.slots.is_empty());
                    let known = class.map(|class| (class.base, class.has_dict));
                    classes.push((address, known));
                    known
                }
            };
            let Some((base, has_dict)) = known else { return false };
            match instance_dict(&object) {
                Some(dict) if !has_forbidden(&dict) && !hides_items(base, &dict) => {
                    stack.extend(dict.iter().flat_map(|(key, value)| [key, value]));
                }
                None if !has_dict => {}
                _ => return false,
            }
            // SAFETY: the object is alive, and of a class on this base. Nothing changes its items, since
            // no Python runs here.
            unsafe {
                let node = object.as_ptr();
                match base {
                    Base::List | Base::Tuple | Base::NamedTuple => {
                        let owned = |&item| Bound::from_borrowed_ptr(py, item);
                        stack.extend(items_of(node, base).iter().map(owned));
                    }
                    Base::Dict | Base::Counter => {
                        let (mut at, mut key, mut value) =
                            (0, std::ptr::null_mut(), std::ptr::null_mut());
                        while ffi::PyDict_Next(node, &raw mut at, &raw mut key, &raw mut value) != 0
                        {
                            stack.push(Bound::from_borrowed_ptr(py, key));
                            stack.push(Bound::from_borrowed_ptr(py, value));
                        }
                    }
                    Base::Set => return false,
                    _ => {}
                }
            }
        }
    }
    true
}

impl Look<'_> {
    /// Returns what a deque, an array or one of numpy's weighs; `None` for all else.
    ///
    /// # Safety
    /// `object` is alive.
    unsafe fn weight_of_standard(&mut self, object: *mut ffi::PyObject) -> Option<usize> {
        let py = self.py;
        // Many small instances may be met in one look.
        let [deque, array, numpy_array] = self.standard.get_or_insert_with(|| {
            [("collections", "deque"), ("array", "array"), ("numpy", "ndarray")]
                .map(|(module, name)| imported(py, module, name).map(Bound::unbind))
        });
        // SAFETY: the caller's duty.
        let object = unsafe { Borrowed::from_ptr(py, object) };
        let class = object.get_type();
        let is = |known: &Option<Py<PyType>>| known.as_ref().is_some_and(|known| class.is(known));
        if is(deque) {
            return object.len().ok();
        }
        if is(array) {
            let item_len = object.getattr(crate::intern!(py, "itemsize")).ok()?;
            return Some(object.len().ok()? * item_len.extract::<usize>().ok()? / TEXT_LEN);
        }
        if is(numpy_array) {
            let len: usize = object.getattr(crate::intern!(py, "nbytes")).ok()?.extract().ok()?;
            // A larger one is no part of a graph: it crosses as a buffer.
            return Some(if len < BUFFER_LEN_MIN { len / TEXT_LEN } else { 0 });
        }
        None
    }
}
