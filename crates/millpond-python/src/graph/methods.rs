//! Bound methods, which are pickled as the instance and the function's name.
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyString, PyTuple, PyType};

use super::classes::body_of;
use super::walk::dict_of;

/// A bound method that the instance has by the function's name.
pub(super) struct Method<'py> {
    pub(super) instance: Bound<'py, PyAny>,
    pub(super) name: Bound<'py, PyString>,
    pub(super) function: Bound<'py, PyAny>,
}

impl<'py> Method<'py> {
    /// Takes an object of the exact type of methods apart. `None` if the instance's attribute of the
    /// function's name would be something else at this moment.
    ///
    /// This tells what `getattr` would find if the instance's class is one that can be proved: the
    /// instance is a node of the graph, and its class is examined there.
    pub(super) fn of(object: &Bound<'py, PyAny>) -> Option<Self> {
        let py = object.py();
        // Attributes of exact methods and functions run nothing of the user's.
        let instance = object.getattr(crate::intern!(py, "__self__")).ok()?;
        let function = object.getattr(crate::intern!(py, "__func__")).ok()?;
        if !function.is_exact_instance_of::<PyFunction>() || instance.is_instance_of::<PyType>() {
            return None;
        }
        let name = function.getattr(crate::intern!(py, "__name__")).ok()?;
        let name = name.cast_into_exact::<PyString>().ok()?;
        let class = instance.get_type();
        let mro = class.mro().cast_into::<PyTuple>().ok()?;
        let found = mro.iter().find_map(|base| {
            let base = base.cast_into_exact::<PyType>().ok()?;
            body_of(&base)?.get_item(&name).ok().flatten()
        })?;
        // A function in the class stands behind an attribute of the instance's own.
        let is_hidden = dict_of(&instance).is_ok_and(|dict| dict.contains(&name).unwrap_or(true));
        (found.is(&function) && !is_hidden).then_some(Self { instance, name, function })
    }
}
