//! Functions and classes that travel by their names, as pickling sends them, without the pickler.
//!
//! The rules are those of `save_global` and `find_class` in CPython's `Modules/_pickle.c`: the name
//! must lead to this very object when the task is sent, and is looked up anew for each task. What is
//! not the plain case (a dotted name, a module that is no plain module, an extension code) is left to
//! the pickler, which also raises what is to be raised.
#![allow(unsafe_code, reason = "module dicts are read in place")]

use std::ffi::{c_char, c_int};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyString, PyType};

use crate::names::Names;

unsafe extern "C" {
    /// Public since CPython 3.8 (Include/cpython/sysmodule.h), and not in pyo3's ffi.
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// Returns the module's name and the object's name in it if `object` is a function or class that the
/// name leads to at this moment.
pub(crate) fn name_of<'py>(
    names: &Names,
    object: &Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    // Attributes of exact functions and classes run nothing of the user's.
    if !object.is_exact_instance_of::<PyFunction>() && !object.is_exact_instance_of::<PyType>() {
        return None;
    }
    name_of_class(names, object)
}

/// As [`name_of`], of an object whose attributes run nothing of the user's, as the caller knows.
pub(crate) fn name_of_class<'py>(
    names: &Names,
    object: &Bound<'py, PyAny>,
) -> Option<(Bound<'py, PyString>, Bound<'py, PyString>)> {
    let py = object.py();
    if !names.extension_registry.bind(py).is_empty() {
        return None;
    }
    let module = object.getattr(crate::intern!(py, "__module__")).ok()?;
    let name = object.getattr(crate::intern!(py, "__qualname__")).ok()?;
    let module = module.cast_into_exact::<PyString>().ok()?;
    let name = name.cast_into_exact::<PyString>().ok()?;
    if name.to_str().is_ok_and(|name| name.contains('.')) {
        // It leads through attributes of a class.
        return None;
    }
    lookup(&module, &name).is_some_and(|found| found.is(object)).then_some((module, name))
}

/// Returns what the name means in this process now, as unpickling finds it.
pub(crate) fn find<'py>(
    names: &Names,
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = module.py();
    // SAFETY: the GIL is held; the format takes two objects, which are alive. Without audit hooks
    // this returns at once.
    let audited = unsafe {
        PySys_Audit(c"pickle.find_class".as_ptr(), c"OO".as_ptr(), module.as_ptr(), name.as_ptr())
    };
    if audited != 0 {
        return Err(PyErr::fetch(py));
    }
    if let Some(found) = lookup(module, name) {
        return Ok(found);
    }
    // The module is not imported yet, or answers by itself; the errors are the unpickler's.
    let file = names.bytes_io.bind(py).call0()?;
    let unpickler = names.unpickler.bind(py).call1((file,))?;
    unpickler.call_method1(crate::intern!(py, "find_class"), (module, name))
}

/// Looks a name up in a plain module that is imported. None if that is not the case, or it has not.
fn lookup<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    let py = module.py();
    // SAFETY: the GIL is held. The references are borrowed from `sys.modules` and from a module, and
    // nothing runs that could change these before the last line takes one of its own: the keys are
    // exact strings, and a lookup with one among other strings runs no code of the user's.
    unsafe {
        let modules = ffi::PyImport_GetModuleDict();
        if modules.is_null() || ffi::PyDict_CheckExact(modules) == 0 {
            return None;
        }
        let found = ffi::PyDict_GetItemWithError(modules, module.as_ptr());
        if found.is_null() || ffi::PyModule_CheckExact(found) == 0 {
            ffi::PyErr_Clear();
            return None;
        }
        let object = ffi::PyDict_GetItemWithError(ffi::PyModule_GetDict(found), name.as_ptr());
        if object.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(Bound::from_borrowed_ptr(py, object))
    }
}
