//! Python objects that are looked up once: modules, and the functions that never change.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyModule, PyString, PyType};

use crate::once::Once;

/// What the hot paths need of the standard library.
pub(crate) struct Names {
    pub(crate) connection: Py<PyModule>,
    pub(crate) queues: Py<PyModule>,
    /// `multiprocessing.reduction.ForkingPickler`.
    pub(crate) stock_pickler: Py<PyAny>,
    /// Its `dumps`, as a plain function, to see whether somebody has replaced it.
    pub(crate) stock_dumps: Py<PyAny>,
    /// A subclass of `pickle.Unpickler`, for streams that name stored parts. From 3.13 on only an
    /// instance of a subclass can be given a `persistent_load` of its own.
    pub(crate) unpickler: Py<PyAny>,
    /// `pickle.loads`.
    pub(crate) loads: Py<PyAny>,
    pub(crate) bytes_io: Py<PyAny>,
    pub(crate) partial: Py<PyAny>,
    /// `types.MethodType`.
    pub(crate) method_type: Py<PyAny>,
    /// `multiprocessing.reduction._reduce_partial`.
    reduce_partial: Py<PyAny>,
    pub(crate) remote_traceback: Py<PyAny>,
    /// `multiprocessing.pool._helper_reraises_exception`, by which the standard library sends the
    /// error of an iterable through a worker.
    pub(crate) reraise: Py<PyAny>,
    pub(crate) mapstar: Py<PyAny>,
    pub(crate) starmapstar: Py<PyAny>,
    /// `types.GetSetDescriptorType` and `types.MemberDescriptorType`.
    pub(crate) getset_type: Py<PyAny>,
    pub(crate) member_type: Py<PyAny>,
    /// Any class that is written in Python and has no metaclass.
    pub(crate) python_class: Py<PyType>,
    /// `copyreg.dispatch_table` and `ForkingPickler._extra_reducers`: reducers by type.
    pub(crate) reducers: [Py<PyDict>; 2],
    /// Whether pickles are of protocol 4 where nobody says otherwise.
    pub(crate) has_protocol_4: bool,
    /// `copyreg._extension_registry`: names that pickle sends as numbers.
    pub(crate) extension_registry: Py<PyDict>,
}

static NAMES: Once<Names> = Once::new();

impl Names {
    /// Returns the names; the first call imports what is missing.
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        NAMES.get_or_try_make(py, || {
            let connection = py.import("multiprocessing.connection")?;
            let queues = py.import("multiprocessing.queues")?;
            let reduction = py.import("multiprocessing.reduction")?;
            let stock_pickler = reduction.getattr("ForkingPickler")?;
            let stock_dumps = stock_pickler.getattr("dumps")?.getattr("__func__")?;
            let pickle = py.import("pickle")?;
            let pool = py.import("multiprocessing.pool")?;
            let protocol: u32 = pickle.getattr("DEFAULT_PROTOCOL")?.extract()?;
            Ok(Self {
                has_protocol_4: protocol == 4,
                connection: connection.unbind(),
                queues: queues.unbind(),
                stock_pickler: stock_pickler.clone().unbind(),
                stock_dumps: stock_dumps.unbind(),
                unpickler: py
                    .get_type::<PyType>()
                    .call1(("Unpickler", (pickle.getattr("Unpickler")?,), PyDict::new(py)))?
                    .unbind(),
                loads: pickle.getattr("loads")?.unbind(),
                bytes_io: py.import("io")?.getattr("BytesIO")?.unbind(),
                reduce_partial: reduction.getattr("_reduce_partial")?.unbind(),
                partial: py.import("functools")?.getattr("partial")?.unbind(),
                method_type: py.import("types")?.getattr("MethodType")?.unbind(),
                remote_traceback: pool.getattr("RemoteTraceback")?.unbind(),
                reraise: pool.getattr("_helper_reraises_exception")?.unbind(),
                mapstar: pool.getattr("mapstar")?.unbind(),
                starmapstar: pool.getattr("starmapstar")?.unbind(),
                getset_type: py.import("types")?.getattr("GetSetDescriptorType")?.unbind(),
                member_type: py.import("types")?.getattr("MemberDescriptorType")?.unbind(),
                python_class: pool.getattr("Pool")?.cast_into()?.unbind(),
                reducers: [
                    py.import("copyreg")?.getattr("dispatch_table")?.cast_into()?.unbind(),
                    stock_pickler.getattr("_extra_reducers")?.cast_into()?.unbind(),
                ],
                extension_registry: py
                    .import("copyreg")?
                    .getattr("_extension_registry")?
                    .cast_into()?
                    .unbind(),
            })
        })
    }

    /// Returns the pickler class that `module` (`connection` or `queues`) uses at this moment.
    pub(crate) fn pickler_of<'py>(
        py: Python<'py>,
        module: &Py<PyModule>,
    ) -> PyResult<Bound<'py, PyAny>> {
        module.bind(py).getattr(crate::intern!(py, "_ForkingPickler"))
    }

    /// Tells whether a reducer is registered for exactly this type.
    pub(crate) fn is_registered(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        Ok(self.reducers[0].bind(py).contains(class)?
            || self.reducers[1].bind(py).contains(class)?)
    }

    /// Tells whether partials are pickled by the reducer that multiprocessing has registered.
    pub(crate) fn has_stock_partials(&self, py: Python<'_>) -> bool {
        let [general, own] = &self.reducers;
        let registered = own.bind(py).get_item(&self.partial).ok().flatten();
        !general.bind(py).contains(&self.partial).unwrap_or(true)
            && registered.is_some_and(|found| found.is(&self.reduce_partial))
    }

    /// Tells whether a function is one by which dataclasses with slots pickle themselves.
    pub(crate) fn is_of_dataclasses(&self, function: &Bound<'_, PyAny>) -> bool {
        let py = function.py();
        let modules = py.import("sys").and_then(|sys| sys.getattr("modules"));
        // A class that has such a function was made by the module, which is then imported.
        let Ok(module) = modules.and_then(|modules| modules.get_item("dataclasses")) else {
            return false;
        };
        ["_dataclass_getstate", "_dataclass_setstate"]
            .iter()
            .any(|name| module.getattr(*name).is_ok_and(|known| known.is(function)))
    }

    /// Tells whether a pickler class is the standard library's own, unchanged.
    pub(crate) fn is_stock(&self, class: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !class.is(&self.stock_pickler) {
            return Ok(false);
        }
        let py = class.py();
        let body = class.getattr(crate::intern!(py, "__dict__"))?;
        for hook in [crate::intern!(py, "persistent_id"), crate::intern!(py, "reducer_override")] {
            if body.contains(hook)? {
                return Ok(false);
            }
        }
        let dumps = class.getattr(crate::intern!(py, "dumps"))?;
        Ok(dumps.getattr(crate::intern!(py, "__func__"))?.is(&self.stock_dumps))
    }
}

/// Returns a callable's name for people: of the function inside, for partials and methods. Runs
/// nothing of the user's.
pub(crate) fn callable_name(func: &Bound<'_, PyAny>) -> String {
    let py = func.py();
    let name = |object: &Bound<'_, PyAny>| -> Option<String> {
        let name = object.getattr(crate::intern!(py, "__qualname__")).ok()?;
        Some(name.cast_exact::<PyString>().ok()?.to_string_lossy().into_owned())
    };
    let mut func = func.clone();
    let Ok(names) = Names::get(py) else { return String::new() };
    while func.get_type().is(&names.partial) || func.get_type().is(&names.method_type) {
        let inner = if func.get_type().is(&names.partial) { "func" } else { "__func__" };
        match func.getattr(inner) {
            Ok(inner) => func = inner,
            Err(_) => break,
        }
    }
    if func.is_exact_instance_of::<PyFunction>() || func.is_exact_instance_of::<PyType>() {
        return name(&func).unwrap_or_default();
    }
    func.get_type()
        .name()
        .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}
