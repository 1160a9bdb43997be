//! How heavy an object is, told without walking all of it.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyTuple};

use super::classes::{Class, has_forbidden};
use super::walk::{Addresses, is_atom, slice_of};
use crate::names::Names;
use crate::pack::is_plain;

/// What a quick look says of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weight {
    /// It has at least as many references as were asked for.
    Heavy,
    /// It has fewer, and all of it was seen. `is_simple` tells that it holds nothing but atoms,
    /// functions, classes and exact containers of these.
    Light { is_simple: bool },
}

/// Tells whether an object holds `enough` references or more, counting those of containers in it, and
/// of instances' own dicts, once each. A look stops when it has seen enough.
pub(crate) fn weigh(object: &Bound<'_, PyAny>, enough: usize) -> Weight {
    let mut look = Look {
        count: 0,
        enough,
        is_simple: true,
        stack: Vec::new(),
        visited: Addresses::default(),
    };
    // SAFETY: the object is alive as long as the borrow, the GIL is held and no Python runs.
    unsafe {
        look.meet(object.as_ptr());
        while let Some(node) = look.stack.pop() {
            if look.count >= enough {
                return Weight::Heavy;
            }
            look.open(node);
        }
    }
    if look.count >= enough { Weight::Heavy } else { Weight::Light { is_simple: look.is_simple } }
}

struct Look {
    count: usize,
    enough: usize,
    is_simple: bool,
    stack: Vec<*mut ffi::PyObject>,
    visited: Addresses,
}

impl Look {
    unsafe fn meet(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: the caller gives a live object.
        unsafe {
            let class = ffi::Py_TYPE(object);
            let is_named =
                class == &raw mut ffi::PyFunction_Type || class == &raw mut ffi::PyType_Type;
            if !is_atom(object) && !is_named && self.visited.insert(object.addr()) {
                self.stack.push(object);
            }
        }
    }

    unsafe fn open(&mut self, node: *mut ffi::PyObject) {
        // SAFETY: the caller gives a live object; exact types are told by their type pointers.
        unsafe {
            if ffi::PyList_CheckExact(node) != 0 {
                let list = node.cast::<ffi::PyListObject>();
                return self.each(slice_of((*list).ob_item, ffi::Py_SIZE(node) as usize));
            }
            if ffi::PyTuple_CheckExact(node) != 0 {
                let tuple = node.cast::<ffi::PyTupleObject>();
                let items = (&raw mut (*tuple).ob_item).cast();
                return self.each(slice_of(items, ffi::Py_SIZE(node) as usize));
            }
            if ffi::PyDict_CheckExact(node) != 0 {
                return self.dict(node);
            }
            if ffi::PyAnySet_CheckExact(node) != 0 {
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
            self.is_simple = false;
            // An instance's own dict, if its class is made in Python and it has one.
            if (*ffi::Py_TYPE(node)).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 {
                let dict = ffi::PyObject_GenericGetDict(node, std::ptr::null_mut());
                if dict.is_null() {
                    ffi::PyErr_Clear();
                } else {
                    if ffi::PyDict_CheckExact(dict) != 0 {
                        self.dict(dict);
                    }
                    // The instance holds it too.
                    ffi::Py_DECREF(dict);
                }
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

/// Returns an instance's own dict, if its class is made by a class statement or the like, without
/// running code of the user's.
pub(crate) fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is alive. The call returns a new reference or null with an error set; it
    // does not go through the type's own `__getattribute__`.
    let dict = unsafe {
        if (*ffi::Py_TYPE(object.as_ptr())).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            return None;
        }
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_opt(object.py(), dict)
    };
    if dict.is_none() {
        drop(PyErr::take(object.py()));
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
    let mut classes: Vec<(usize, bool)> = Vec::new();
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
        } else {
            let class = object.get_type();
            let address = class.as_ptr().addr();
            let is_known = match classes.iter().find(|(known, _)| *known == address) {
                Some((_, is_known)) => *is_known,
                None => {
                    // One with slots is not looked into here.
                    let is_known = Class::of(&class).is_ok_and(|class| class.slots.is_empty());
                    classes.push((address, is_known));
                    is_known
                }
            };
            match instance_dict(&object) {
                Some(dict) if is_known && !has_forbidden(&dict) => {
                    stack.extend(dict.iter().flat_map(|(key, value)| [key, value]));
                }
                _ => return false,
            }
        }
    }
    true
}
