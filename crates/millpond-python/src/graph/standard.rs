//! Types of the standard library that are known by their exact type, one by one: containers in C, and
//! members of enums.
#![allow(unsafe_code, reason = "types are told by their pointers")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::atoms::imported;
use super::classes;
use super::layout;
use super::tape::Kind;
use super::walk::{dict_of, is_atom};
use crate::by_name;
use crate::names::Names;

/// Types by module and name, and what a node of each is.
const TYPES: [(&str, &str, Kind); 5] = [
    ("collections", "defaultdict", Kind::DefaultDict),
    ("collections", "OrderedDict", Kind::OrderedDict),
    ("collections", "deque", Kind::Deque),
    ("array", "array", Kind::Array),
    ("functools", "partial", Kind::Partial),
];

/// The types of [`TYPES`] that this process has imported, while no reducer is registered for them and
/// they look as they are described; and what tells enums.
#[derive(Default)]
pub(super) struct StandardTypes {
    classes: Vec<(usize, Kind)>,
    enums: Option<Enums>,
}

struct Enums {
    /// Address of the metaclass of all enums.
    metaclass: usize,
    /// `Enum.__reduce_ex__`: a member is pickled as the call of its class with its value.
    reduce: Py<PyAny>,
    /// `Enum.__new__`, which finds the member of a value.
    new: Py<PyAny>,
}

/// A member of an enum: what it is pickled as.
pub(super) struct Member<'py> {
    pub(super) module: Bound<'py, PyString>,
    pub(super) name: Bound<'py, PyString>,
    /// An atom.
    pub(super) value: Bound<'py, PyAny>,
}

impl StandardTypes {
    pub(super) fn of(py: Python<'_>, names: &Names) -> Self {
        let mut known = Self::default();
        for (module, name, kind) in TYPES {
            let Some(class) = imported(py, module, name) else { continue };
            // The modules have versions of some types in Python.
            // SAFETY: the type is alive as long as the borrow.
            let is_in_c = unsafe { (*class.as_type_ptr()).tp_flags } & IMMUTABLE_OR_STATIC != 0;
            let is_ours = match kind {
                Kind::Deque => layout::is_deque_known(&class),
                Kind::Array => layout::is_array_known(&class),
                _ => is_in_c || kind == Kind::Partial,
            };
            let is_stock = match kind {
                Kind::Partial => names.has_stock_partials(py),
                _ => !names.is_registered(&class).unwrap_or(true),
            };
            if is_ours && is_stock {
                known.classes.push((class.as_ptr().addr(), kind));
            }
        }
        known.enums = Enums::of(py);
        known
    }

    /// Returns what a node of an object is.
    pub(super) fn kind_of(&self, object: &Bound<'_, PyAny>) -> Option<Kind> {
        let class = object.get_type().as_ptr().addr();
        self.classes.iter().find(|(known, _)| *known == class).map(|(_, kind)| *kind)
    }

    /// Tells whether an object is a member of an enum.
    pub(super) fn is_member(&self, object: &Bound<'_, PyAny>) -> bool {
        let metaclass = object.get_type().get_type().as_ptr().addr();
        self.enums.as_ref().is_some_and(|enums| enums.metaclass == metaclass)
    }

    /// Returns what a member is pickled as, if the class is found by its name, and finds the member by
    /// its value, without running anything of the user's.
    pub(super) fn member<'py>(
        &self,
        names: &Names,
        object: &Bound<'py, PyAny>,
    ) -> Option<Member<'py>> {
        let py = object.py();
        let enums = self.enums.as_ref()?;
        let class = object.get_type();
        let is_stock = |name: &Bound<'py, PyString>, stock: &Py<PyAny>| {
            class.getattr(name).is_ok_and(|found| found.is(stock))
        };
        if names.is_registered(&class).unwrap_or(true)
            || !is_stock(crate::intern!(py, "__reduce_ex__"), &enums.reduce)
            || !is_stock(crate::intern!(py, "__new__"), &enums.new)
        {
            return None;
        }
        let dict = dict_of(object).ok()?;
        if classes::has_forbidden(&dict) {
            return None;
        }
        let value = dict.get_item(crate::intern!(py, "_value_")).ok()??;
        // SAFETY: the object is alive.
        if !unsafe { is_atom(value.as_ptr()) } {
            return None;
        }
        let members = class.getattr(crate::intern!(py, "_value2member_map_")).ok()?;
        let found = members.cast_into_exact::<PyDict>().ok()?.get_item(&value).ok()??;
        let (module, name) = by_name::name_of_class(names, class.as_any())?;
        found.is(object).then_some(Member { module, name, value })
    }

    /// Tells whether the same types are known now.
    pub(super) fn are_same(&self, now: &Self) -> bool {
        self.classes.iter().all(|known| now.classes.contains(known))
    }
}

impl Enums {
    fn of(py: Python<'_>) -> Option<Self> {
        let metaclass = imported(py, "enum", "EnumType")?;
        // An exact type, but of that metaclass.
        let base = super::atoms::attribute(py, "enum", "Enum")?;
        Some(Self {
            metaclass: metaclass.as_ptr().addr(),
            reduce: base.getattr("__reduce_ex__").ok()?.unbind(),
            new: base.getattr("__new__").ok()?.unbind(),
        })
    }
}

/// `Py_TPFLAGS_IMMUTABLETYPE` (Include/object.h), which static types have as well.
const IMMUTABLE_OR_STATIC: std::ffi::c_ulong = 1 << 8;

/// Returns the parts of a partial, if it has no attributes of its own.
pub(super) fn partial_parts<'py>(object: &Bound<'py, PyAny>) -> Option<[Bound<'py, PyAny>; 3]> {
    let py = object.py();
    // SAFETY: the object is alive; a type with an offset for dicts keeps the pointer there, null while
    // there is none.
    let has_dict = unsafe {
        let offset = (*ffi::Py_TYPE(object.as_ptr())).tp_dictoffset;
        offset > 0
            && !object
                .as_ptr()
                .cast::<u8>()
                .offset(offset)
                .cast::<*mut ffi::PyObject>()
                .read()
                .is_null()
    };
    if has_dict {
        return None;
    }
    Some([
        object.getattr(crate::intern!(py, "func")).ok()?,
        object.getattr(crate::intern!(py, "args")).ok()?,
        object.getattr(crate::intern!(py, "keywords")).ok()?,
    ])
}

/// Returns the factory of a defaultdict.
pub(super) fn factory_of<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    object.getattr(crate::intern!(object.py(), "default_factory")).ok()
}

/// Tells whether an OrderedDict has attributes of its own.
pub(super) fn has_attributes(object: &Bound<'_, PyAny>) -> bool {
    let dict = object.getattr(crate::intern!(object.py(), "__dict__"));
    !dict.is_ok_and(|dict| dict.cast_exact::<PyDict>().is_ok_and(|dict| dict.is_empty()))
}

/// Calls `each` with the addresses of what a deque, or the keys and values of what an OrderedDict
/// holds, in order, as long as it returns true. Runs nothing of the user's: hashes of keys were asked
/// for when they were found to be atoms, or tuples of such.
pub(super) fn for_each_held(
    object: &Bound<'_, PyAny>,
    kind: Kind,
    mut each: impl FnMut(*mut ffi::PyObject) -> bool,
) -> bool {
    let Ok(items) = object.try_iter() else { return false };
    for item in items {
        let Ok(item) = item else { return false };
        if !each(item.as_ptr()) {
            return false;
        }
        if kind == Kind::OrderedDict {
            // SAFETY: both are alive; the value is borrowed, and null if it is not found, which may
            // set an error.
            let value = unsafe { ffi::PyDict_GetItemWithError(object.as_ptr(), item.as_ptr()) };
            if value.is_null() {
                drop(PyErr::take(object.py()));
                return false;
            }
            if !each(value) {
                return false;
            }
        }
    }
    true
}
