//! Which classes can be proved: those with which nothing of the user's runs when an instance is
//! pickled, loaded, compared or freed.
//!
//! The rules follow `save` and `load_build` in Modules/_pickle.c and `object.__reduce_ex__` in
//! Objects/typeobject.c, for the protocols 2 to 5.
#![allow(unsafe_code, reason = "types and their descriptors are read")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString,
    PyTuple, PyType,
};

use super::stock::Stock;
use crate::names::Names;

/// Names that must not be found in a class, nor in an instance: pickle, or the interpreter, would run
/// what they name.
const FORBIDDEN: [&str; 12] = [
    "__del__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getattr__",
    "__getattribute__",
    "__class__",
    "__dict__",
];

/// The built-in type on which a class is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Object,
    List,
    Tuple,
    /// A tuple whose class `namedtuple` has made.
    NamedTuple,
    Dict,
    /// `collections.Counter`, and nothing that is derived from it.
    Counter,
    Set,
    Int,
    Float,
    Complex,
    Str,
    Bytes,
    ByteArray,
}

impl Base {
    /// Names beside [`FORBIDDEN`] that a class on this base must not have: what pickle would call to
    /// take the items out and to put them in.
    const fn forbidden(self) -> &'static [&'static str] {
        match self {
            Self::List => &["__iter__", "append", "extend"],
            Self::Dict => &["items", "__setitem__"],
            // They are pickled as the call of their class with a list of their members.
            Self::Set => &["__init__", "__iter__", "__len__", "__length_hint__"],
            Self::ByteArray => &["__init__"],
            Self::NamedTuple => &["__iter__", "__len__", "__length_hint__"],
            _ => &[],
        }
    }
}

/// A class that can be proved.
pub(super) struct Class {
    pub(super) address: usize,
    pub(super) base: Base,
    /// Whether instances have a dict.
    pub(super) has_dict: bool,
    /// Offsets of slots in an instance, in bytes.
    pub(super) slots: Vec<isize>,
}

impl Class {
    /// Examines a class. An error tells why its instances are opaque.
    pub(super) fn of(class: &Bound<'_, PyType>) -> Result<Self, String> {
        let py = class.py();
        let refuse = |reason: &str| Err(format!("{}: {reason}", name_of(class)));
        let Ok(names) = Names::get(py) else { return refuse("multiprocessing is not there") };
        if !class.get_type().is(py.get_type::<PyType>()) {
            return refuse("it has a metaclass");
        }
        if names.is_registered(class).unwrap_or(true) {
            return refuse("a reducer is registered for it");
        }
        let Ok(mro) = class.mro().cast_into::<PyTuple>() else { return refuse("it has no bases") };
        let object = py.get_type::<PyAny>();
        let built_in = built_in(py);
        // No class has two of them.
        let known = built_in.iter().find(|(known, _)| mro.iter().any(|base| base.is(known)));
        let is_built_in = |class: &Bound<'_, PyAny>| {
            class.is(&object) || built_in.iter().any(|(known, _)| class.is(known))
        };
        let base = base_of(class, &mro, known.map_or(Base::Object, |(_, base)| *base));
        let known = known.map(|(known, _)| known);
        let mut slots = Vec::new();
        for class in mro.iter() {
            if is_built_in(&class) {
                continue;
            }
            let Ok(base_class) = class.cast_into_exact::<PyType>() else {
                return refuse("a base has a metaclass");
            };
            if !is_made_in_python(names, &base_class, known, base) {
                return refuse("a base is not written in Python");
            }
            let Some(body) = body_of(&base_class) else { return refuse("a base has no body") };
            for &name in FORBIDDEN.iter().chain(base.forbidden()) {
                let Some(found) = body.get_item(name).ok().flatten() else { continue };
                // Every class that has instance dicts has a descriptor for them of CPython's own.
                let is_own = name == "__dict__" && found.get_type().is(&names.getset_type);
                let is_known = match base {
                    Base::NamedTuple => {
                        Stock::get(py).is_some_and(|stock| stock.is_of_named_tuples(name, &found))
                    }
                    Base::Counter => name == "__reduce__",
                    _ => names.is_of_dataclasses(&found),
                };
                if !is_own && !is_known {
                    return refuse(&format!("it has {name}"));
                }
            }
            for (name, value) in body.iter() {
                if let Some(offset) = slot_offset(names, &value) {
                    slots.push((name, value, offset));
                }
            }
        }
        for (name, descriptor, _) in &slots {
            // A slot is restored by `setattr`, which must reach the slot itself.
            let first = mro.iter().find_map(|base| {
                let base = base.cast::<PyType>().ok().filter(|base| !is_built_in(base))?;
                body_of(base)?.get_item(name).ok().flatten()
            });
            if first.is_none_or(|first| !first.is(descriptor)) {
                return refuse("another attribute hides a slot");
            }
        }
        let has_custom_setattr = mro.iter().any(|base| {
            !is_built_in(&base)
                && base
                    .cast::<PyType>()
                    .ok()
                    .and_then(body_of)
                    .is_some_and(|body| body.contains("__setattr__").unwrap_or(true))
        });
        // What dataclasses make for frozen ones with slots goes round it.
        let restores_itself = slots.is_empty() || has_known_setstate(names, &mro, &object);
        if has_custom_setattr && !restores_itself {
            return refuse("it has __setattr__ and slots");
        }
        // SAFETY: the type is alive as long as the borrow.
        let has_dict = unsafe {
            let raw = &*class.as_type_ptr();
            raw.tp_dictoffset != 0 || raw.tp_flags & MANAGED_DICT != 0
        };
        let slots = slots.into_iter().map(|(_, _, offset)| offset).collect();
        Ok(Self { address: class.as_ptr().addr(), base, has_dict, slots })
    }

    /// Tells whether two examinations of one class came to the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.base == other.base && self.has_dict == other.has_dict && self.slots == other.slots
    }
}

/// `Py_TPFLAGS_MANAGED_DICT` (Include/object.h, from 3.11 on).
const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;

/// `Py_T_OBJECT_EX` (Include/descrobject.h; `T_OBJECT_EX` in structmember.h before 3.12).
const OBJECT_EX: std::ffi::c_int = 16;

/// A name for people, which runs nothing of the user's.
pub(super) fn name_of(class: &Bound<'_, PyType>) -> String {
    class.name().map_or_else(|_| String::from("?"), |name| name.to_string_lossy().into_owned())
}

/// Returns a class's own dict. Those of built-in types lie elsewhere from 3.12 on, and are not asked
/// for.
pub(super) fn body_of<'py>(class: &Bound<'py, PyType>) -> Option<Bound<'py, PyDict>> {
    if !is_heap_type(class) {
        return None;
    }
    // SAFETY: the type is alive as long as the borrow; a class made by a class statement keeps its
    // dict in `tp_dict` on all versions (Doc/c-api/typeobj.rst), and others are refused before.
    unsafe {
        let body = (*class.as_type_ptr()).tp_dict;
        Bound::from_borrowed_ptr_or_opt(class.py(), body)?.cast_into_exact().ok()
    }
}

/// The built-in types on which classes are known.
fn built_in(py: Python<'_>) -> [(Bound<'_, PyType>, Base); 11] {
    [
        (py.get_type::<PyList>(), Base::List),
        (py.get_type::<PyTuple>(), Base::Tuple),
        (py.get_type::<PyDict>(), Base::Dict),
        (py.get_type::<PySet>(), Base::Set),
        (py.get_type::<PyFrozenSet>(), Base::Set),
        (py.get_type::<PyInt>(), Base::Int),
        (py.get_type::<PyFloat>(), Base::Float),
        (py.get_type::<PyComplex>(), Base::Complex),
        (py.get_type::<PyString>(), Base::Str),
        (py.get_type::<PyBytes>(), Base::Bytes),
        (py.get_type::<PyByteArray>(), Base::ByteArray),
    ]
}

/// Tells named tuples and `Counter` from other classes on the same built-in type.
fn base_of(class: &Bound<'_, PyType>, mro: &Bound<'_, PyTuple>, base: Base) -> Base {
    let Some(stock) = Stock::get(class.py()) else { return base };
    match base {
        Base::Tuple => {
            let is_named = mro.iter().any(|base| {
                base.cast_exact::<PyType>()
                    .ok()
                    .and_then(body_of)
                    .and_then(|body| body.get_item("__new__").ok().flatten())
                    .is_some_and(|found| stock.is_of_named_tuples("__new__", &found))
            });
            if is_named { Base::NamedTuple } else { base }
        }
        Base::Dict if body_of(class).is_some_and(|body| stock.is_counter(class, &body)) => {
            Base::Counter
        }
        _ => base,
    }
}

fn is_heap_type(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the type is alive as long as the borrow.
    unsafe { (*class.as_type_ptr()).tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0 }
}

/// Tells whether a class statement has made the type, on `object`, a built-in type or other such
/// classes: then its instances are freed by the interpreter's own function, made by the base's
/// `__new__`, and have no state but the base's, dict and slots.
fn is_made_in_python(
    names: &Names,
    class: &Bound<'_, PyType>,
    known: Option<&Bound<'_, PyType>>,
    base: Base,
) -> bool {
    let py = class.py();
    let like = names.python_class.bind(py);
    let object = py.get_type::<PyAny>();
    let known = known.unwrap_or(&object);
    // SAFETY: the types are alive as long as the borrows; buffer functions are part of a type.
    unsafe {
        let raw = &*class.as_type_ptr();
        // One that stands beside the built-in type in a list of bases is made on `object`.
        let is_on_known = ffi::PyType_IsSubtype(class.as_type_ptr(), known.as_type_ptr()) != 0;
        let like_known = if is_on_known { known } else { &object };
        let (like, like_known) = (&*like.as_type_ptr(), &*like_known.as_type_ptr());
        let new = |class: &ffi::PyTypeObject| class.tp_new.map(|f| f as usize);
        let buffer = |class: &ffi::PyTypeObject| {
            let buffer = class.tp_as_buffer;
            if buffer.is_null() { None } else { (*buffer).bf_getbuffer.map(|f| f as usize) }
        };
        raw.tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
            && raw.tp_dealloc.map(|f| f as usize) == like.tp_dealloc.map(|f| f as usize)
            && (new(raw) == new(like_known)
                || (base == Base::NamedTuple
                    && Stock::get(py).is_some_and(|stock| stock.is_new_slot(new(raw)))))
            && raw.tp_itemsize == like_known.tp_itemsize
            && raw.tp_methods.is_null()
            && buffer(raw) == buffer(like_known)
    }
}

/// Returns where a slot lies in an instance, if `value` is a slot's descriptor.
fn slot_offset(names: &Names, value: &Bound<'_, PyAny>) -> Option<isize> {
    if !value.get_type().is(&names.member_type) {
        return None;
    }
    // SAFETY: the type is exactly that of member descriptors, whose definition lives as long.
    unsafe {
        let member = (*value.as_ptr().cast::<ffi::PyMemberDescrObject>()).d_member;
        ((*member).type_code == OBJECT_EX).then_some((*member).offset)
    }
}

fn has_known_setstate(names: &Names, mro: &Bound<'_, PyTuple>, object: &Bound<'_, PyAny>) -> bool {
    mro.iter().any(|base| {
        base.cast::<PyType>()
            .ok()
            .filter(|base| !base.is(object))
            .and_then(body_of)
            .and_then(|body| body.get_item("__setstate__").ok().flatten())
            .is_some_and(|found| names.is_of_dataclasses(&found))
    })
}

/// Tells whether an instance's own attributes hide how pickle takes its items out, or would be left out
/// by it: a `Counter`'s are.
pub(super) fn hides_items(base: Base, dict: &Bound<'_, PyDict>) -> bool {
    match base {
        Base::Dict => dict.contains("items").unwrap_or(true),
        Base::Counter => !dict.is_empty(),
        _ => false,
    }
}

/// Tells whether an instance's own attributes have a name that pickle would ask the instance for.
pub(super) fn has_forbidden(dict: &Bound<'_, PyDict>) -> bool {
    dict.iter().any(|(key, _)| match key.cast_exact::<PyString>() {
        Ok(key) => key.to_str().is_ok_and(|key| FORBIDDEN.contains(&key)),
        Err(_) => true,
    })
}
