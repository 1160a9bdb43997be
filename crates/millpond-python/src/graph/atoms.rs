//! Atoms of the standard library: immutable types in C beside the ones that are told by their pointers.
#![allow(unsafe_code, reason = "exact types are told by their type pointers")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::names::Names;

/// Types by module and name. Each is written in C, immutable, and has no weak references and no
/// attributes of an instance's own; what it is pickled as is made of atoms.
const TYPES: [(&str, &str); 7] = [
    ("builtins", "range"),
    ("datetime", "timezone"),
    ("datetime", "date"),
    ("datetime", "timedelta"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("decimal", "Decimal"),
];

/// The types of [`TYPES`] that this process has imported, while no reducer is registered for them.
#[derive(Default)]
pub(super) struct KnownAtoms {
    types: Vec<usize>,
    /// Those that may have a time zone, which may be anything.
    zoned: Vec<usize>,
    /// The type of time zones of a fixed offset.
    zone: Option<usize>,
    /// The type of time zones that have a name.
    named_zone: Option<usize>,
}

/// What is known of an object.
pub(super) enum Known {
    Atom,
    /// It is an atom if this time zone, which has a name, is one.
    WithZone(*mut ffi::PyObject),
    Not,
}

impl KnownAtoms {
    pub(super) fn of(py: Python<'_>, names: &Names) -> Self {
        let mut known = Self::default();
        for (module, name) in TYPES {
            let Some(class) = imported(py, module, name) else { continue };
            if !is_in_c(&class) || names.is_registered(&class).unwrap_or(true) {
                continue;
            }
            known.types.push(class.as_ptr().addr());
            if name == "timezone" {
                known.zone = Some(class.as_ptr().addr());
            }
            if name == "datetime" || name == "time" {
                known.zoned.push(class.as_ptr().addr());
            }
        }
        known.named_zone = imported(py, "zoneinfo", "ZoneInfo")
            .filter(|class| is_immutable(class) && !names.is_registered(class).unwrap_or(true))
            .map(|class| class.as_ptr().addr());
        known
    }

    /// Tells whether an object is such an atom: one with a time zone is, if the zone is one.
    ///
    /// # Safety
    /// `object` is alive.
    pub(super) unsafe fn look_at(&self, py: Python<'_>, object: *mut ffi::PyObject) -> Known {
        // SAFETY: the caller gives a live object.
        let class = unsafe { ffi::Py_TYPE(object) }.addr();
        if self.named_zone == Some(class) {
            return Known::WithZone(object);
        }
        if !self.types.contains(&class) {
            return Known::Not;
        }
        if !self.zoned.contains(&class) {
            return Known::Atom;
        }
        // SAFETY: as above. The attribute of an exact type in C runs nothing of the user's.
        let object = unsafe { Borrowed::from_ptr(py, object) };
        let Ok(zone) = object.getattr(crate::intern!(py, "tzinfo")) else { return Known::Not };
        let class = zone.get_type().as_ptr().addr();
        if zone.is_none() || self.zone == Some(class) {
            Known::Atom
        } else if self.named_zone == Some(class) {
            // The object holds its zone.
            Known::WithZone(zone.as_ptr())
        } else {
            Known::Not
        }
    }

    /// Tells whether the same types are atoms now.
    pub(super) fn are_same(&self, now: &Self) -> bool {
        self.types.iter().all(|class| now.types.contains(class))
            && (self.named_zone.is_none() || self.named_zone == now.named_zone)
    }
}

/// Tells whether a zone that has a name is pickled by it, to be found in the cache of all zones.
pub(super) fn is_found_by_name(zone: &Bound<'_, PyAny>) -> bool {
    // `ZoneInfo.__reduce__` is written in C, and gives callable, key, and whether the zone is cached.
    let reduced = zone.call_method0(crate::intern!(zone.py(), "__reduce__"));
    reduced
        .and_then(|reduced| reduced.get_item(1)?.extract::<(String, i64)>())
        .is_ok_and(|(_, is_cached)| is_cached != 0)
}

/// Tells whether zones are what unpickling would find by their names now. This runs Python: the cache
/// of zones is a `WeakValueDictionary`.
pub(crate) fn zones_hold(zones: &[Bound<'_, PyAny>]) -> bool {
    zones.iter().all(|zone| {
        let py = zone.py();
        zone.getattr(crate::intern!(py, "key"))
            .and_then(|key| zone.get_type().call1((key,)))
            .is_ok_and(|found| found.is(zone))
    })
}

pub(super) fn imported<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
) -> Option<Bound<'py, PyType>> {
    attribute(py, module, name)?.cast_into_exact().ok()
}

/// Returns what a module that is imported calls by a name.
pub(crate) fn attribute<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the GIL is held; the dict of modules is borrowed from the interpreter.
    let modules = unsafe {
        Bound::from_borrowed_ptr_or_opt(py, ffi::PyImport_GetModuleDict())?
            .cast_into_exact::<PyDict>()
            .ok()?
    };
    let module = modules.get_item(module).ok()??;
    module.getattr(name).ok()
}

/// The modules have versions of these types in Python, too, for interpreters without those in C.
pub(super) fn is_in_c(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the type is alive as long as the borrow.
    let raw = unsafe { &*class.as_type_ptr() };
    is_immutable(class) && raw.tp_weaklistoffset == 0 && raw.tp_dictoffset == 0
}

fn is_immutable(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the type is alive as long as the borrow.
    unsafe { (*class.as_type_ptr()).tp_flags & IMMUTABLE != 0 }
}

/// `Py_TPFLAGS_IMMUTABLETYPE` (Include/object.h): set for static types, and for heap types that
/// nobody can change.
const IMMUTABLE: std::ffi::c_ulong = 1 << 8;
