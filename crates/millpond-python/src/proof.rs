//! A proof as a Python object, for tests and diagnosis.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::graph::{self, Side};

/// The proof that the graph of an object is what it was: see `graph/README.md`.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Proof(graph::Proof);

#[pymethods]
impl Proof {
    /// Walks the graph of the items of `holder`. A list of roots is given, and not a root, because
    /// a worker's rules count references, and those of a call are not the same each time. `is_worker` asks for the strict rules by which a worker keeps a
    /// copy: nothing else may refer to any part of it.
    ///
    /// Raises TypeError, with the reason, if the graph cannot be proved.
    #[staticmethod]
    fn take(holder: &Bound<'_, PyList>, is_worker: bool) -> PyResult<Self> {
        let side = if is_worker { Side::Worker } else { Side::Parent };
        graph::prepare(holder.py());
        let roots: Vec<_> = holder.iter().collect();
        let roots: Vec<_> = roots.iter().collect();
        graph::Proof::take(holder.py(), &roots, side)
            .map(Self)
            .map_err(|opaque| PyTypeError::new_err(opaque.0))
    }

    /// Tells whether the graph of these roots is still what it was.
    fn holds(&self, holder: &Bound<'_, PyList>) -> bool {
        let roots: Vec<_> = holder.iter().collect();
        let roots: Vec<_> = roots.iter().collect();
        self.0.holds(holder.py(), &roots)
    }

    /// Number of nodes that are not atoms.
    #[getter]
    fn node_count(&self) -> usize {
        self.0.node_count()
    }

    /// Tells whether the graph holds an object, by its address.
    fn contains(&self, object: &Bound<'_, PyAny>) -> bool {
        self.0.addresses().binary_search(&object.as_ptr().addr()).is_ok()
    }
}

/// Tells whether an object has `enough` references in it.
#[pyfunction]
pub(crate) fn is_heavy(object: &Bound<'_, PyAny>, enough: usize) -> bool {
    graph::is_heavy(object, enough)
}
