//! `millpond._native`: Millpond's engine for Python.
//!
//! A switchboard: it converts, calls the engine and maps errors. What knows Python's objects lies
//! here, what knows tasks as bytes in `millpond-engine`.

mod buffers;
mod by_name;
mod deliver;
mod direct;
mod dispatch;
mod engine;
mod errors;
mod graph;
mod items;
mod job;
mod live;
mod names;
mod once;
mod pack;
mod packed;
mod parts;
mod proof;
mod saved;
mod serve;
mod shared;
mod witness;
mod worker_parts;

use once::intern;
use pyo3::prelude::*;

/// The native half of Millpond; its users are the modules of the package, not programs.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<engine::Engine>()?;
    module.add_class::<job::Job>()?;
    module.add_class::<job::Jobs>()?;
    module.add_class::<proof::Proof>()?;
    module.add_class::<shared::Shared>()?;
    // These would be made at their first use, by cells of PyO3's: see `once`.
    let py = module.py();
    py.get_type::<pack::Sink>();
    py.get_type::<worker_parts::WorkerDesk>();
    buffers::make_types(py);
    parts::make_types(py);
    module.add_function(wrap_pyfunction!(serve::serve, module)?)?;
    module.add_function(wrap_pyfunction!(proof::is_heavy, module)?)?;
    module.add_function(wrap_pyfunction!(direct::shown::encode, module)?)?;
    module.add_function(wrap_pyfunction!(direct::shown::decode, module)?)?;
    module.add_function(wrap_pyfunction!(packed::shown::pack, module)?)?;
    module.add_function(wrap_pyfunction!(packed::shown::unpack, module)?)?;
    module.add_function(wrap_pyfunction!(buffers::stored_buffer, module)?)?;
    module.add_function(wrap_pyfunction!(buffers::lent_buffer, module)?)?;
    module.add_function(wrap_pyfunction!(buffers::lent_array, module)?)?;
    module.add_function(wrap_pyfunction!(buffers::array_died, module)?)?;
    module.add("EMPTY", job::empty(module.py())?)?;
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("HEAVY_LEN_MIN", parts::HEAVY_LEN_MIN)?;
    Ok(())
}
