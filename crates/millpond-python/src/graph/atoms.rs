//! Atoms of the standard library: immutable types in C beside the built-in ones.
#![allow(unsafe_code, reason = "exact types are told by their type pointers")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::names::Names;

/// Types by module and name. Each is written in C, immutable, and has no weak references and no
/// attributes of an instance's own; what it is pickled as is made of atoms.
const TYPES: [(&str, &str); 6] = [
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
        known
    }

    /// Tells whether an object is such an atom: one with a time zone is, if the zone is one.
    ///
    /// # Safety
    /// `object` is alive.
    pub(super) unsafe fn contain(&self, py: Python<'_>, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the caller gives a live object.
        let class = unsafe { ffi::Py_TYPE(object) }.addr();
        if !self.types.contains(&class) {
            return false;
        }
        // SAFETY: as above. The attribute of an exact type in C runs nothing of the user's.
        let object = unsafe { Borrowed::from_ptr(py, object) };
        !self.zoned.contains(&class)
            || object.getattr(pyo3::intern!(py, "tzinfo")).is_ok_and(|zone| {
                // SAFETY: the zone is alive.
                zone.is_none() || unsafe { self.is_zone(zone.as_ptr()) }
            })
    }

    /// # Safety
    /// `zone` is alive.
    unsafe fn is_zone(&self, zone: *mut ffi::PyObject) -> bool {
        // SAFETY: the caller's duty.
        self.zone.is_some_and(|class| class == unsafe { ffi::Py_TYPE(zone) }.addr())
    }

    /// Tells whether the same types are atoms now.
    pub(super) fn are_same(&self, now: &Self) -> bool {
        self.types.iter().all(|class| now.types.contains(class))
    }
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
    raw.tp_flags & IMMUTABLE != 0 && raw.tp_weaklistoffset == 0 && raw.tp_dictoffset == 0
}

/// `Py_TPFLAGS_IMMUTABLETYPE` (Include/object.h): set for static types, and for heap types that
/// nobody can change.
const IMMUTABLE: std::ffi::c_ulong = 1 << 8;
