//! The buffers of results, in the parent: mapped when the result arrives, and given back when nothing
//! refers to them any more.
#![allow(unsafe_code, reason = "a sweep is asked for where none may run")]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use millpond_engine::{Borrowed, Lent};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefReference};

use super::mapped::MappedBytes;
use super::result::LENT_LEN;
use crate::errors;
use crate::live::Live;

/// A buffer that something in this process may refer to.
struct Entry {
    live: Weak<Live>,
    borrowed: Borrowed,
    bytes: MappedBytes,
}

/// All buffers of results in this process, of all pools.
static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// Weak references to arrays that read buffers: when one dies, a sweep is due.
static WATCHED: Mutex<Vec<Py<PyWeakrefReference>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The buffers of the results that this thread is loading: loading one may run code that loads
    /// another.
    static ARRIVING: RefCell<Vec<Vec<Py<PyAny>>>> = const { RefCell::new(Vec::new()) };
}

/// The buffers of one result, from when it arrives until it is loaded.
pub(crate) struct Arrivals;

impl Arrivals {
    /// Maps the buffers that a result's note describes.
    pub(crate) fn begin(py: Python<'_>, live: &Arc<Live>, note: &[u8]) -> PyResult<Self> {
        sweep(py);
        let mut objects = Vec::new();
        for description in note.as_chunks::<LENT_LEN>().0 {
            let words = description.as_chunks::<8>().0;
            let word = |index: usize| words.get(index).map_or(0, |word| u64::from_le_bytes(*word));
            let lent = Lent { offset: word(0), len: word(1), index: word(2), turn: word(3) };
            let borrowed = live.engine.borrow(lent).map_err(|error| errors::to_python(&error))?;
            let bytes = MappedBytes::new(py, &borrowed.copy);
            objects.push(bytes.object(py).unbind());
            lock(&ENTRIES).push(Entry { live: Arc::downgrade(live), borrowed, bytes });
        }
        ARRIVING.with_borrow_mut(|all| all.push(objects));
        Ok(Self)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        // Dropped outside of the borrow, and nothing of the user's runs: they are bytes.
        let loaded = ARRIVING.with_borrow_mut(Vec::pop);
        drop(loaded);
    }
}

/// Returns the bytes of a buffer of the result that this thread is loading.
#[pyfunction]
pub(crate) fn lent_buffer(py: Python<'_>, number: usize) -> PyResult<Py<PyAny>> {
    let found = ARRIVING.with_borrow(|all| {
        all.last().and_then(|objects| objects.get(number)).map(|object| object.clone_ref(py))
    });
    found.ok_or_else(|| PyRuntimeError::new_err(format!("a result brings no buffer {number}")))
}

/// Makes an array over a buffer of the result that this thread is loading, as numpy's own pickles do.
#[pyfunction]
pub(crate) fn lent_array<'py>(
    py: Python<'py>,
    number: usize,
    reconstruct: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    shape: &Bound<'py, PyAny>,
    dtype: &Bound<'py, PyAny>,
    is_fortran: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let bytes = lent_buffer(py, number)?;
    let array = reconstruct.call1(args)?;
    let state = (1, shape, dtype, is_fortran, bytes);
    array.call_method1(crate::intern!(py, "__setstate__"), (state,))?;
    let module = py.import(crate::intern!(py, "millpond._native"))?;
    let callback = module.getattr(crate::intern!(py, "array_died"))?;
    let watch = PyWeakrefReference::new_with(&array, callback)?.unbind();
    lock(&WATCHED).push(watch);
    Ok(array)
}

/// An array over a buffer is about to go, and will drop its bytes in a moment.
#[pyfunction]
pub(crate) fn array_died(watch: &Bound<'_, PyAny>) {
    let gone = {
        let mut watched = lock(&WATCHED);
        let at = watched.iter().position(|known| known.is(watch));
        at.map(|at| watched.swap_remove(at))
    };
    drop(gone);
    // SAFETY: the function takes no argument into account, and may run whenever the interpreter does;
    // if the queue is full, the next sweep finds what there is.
    unsafe { ffi::Py_AddPendingCall(Some(sweep_soon), std::ptr::null_mut()) };
}

extern "C" fn sweep_soon(_: *mut c_void) -> c_int {
    // Where the interpreter is about to end, nothing is left to be given back.
    let _ = Python::try_attach(sweep);
    0
}

/// Gives back the buffers that nothing refers to any more.
pub(crate) fn sweep(py: Python<'_>) {
    let free: Vec<Entry> = {
        let mut all = lock(&ENTRIES);
        if all.first().is_some_and(|entry| !entry.borrowed.copy.is_here()) {
            // What a forked child inherits is its own by now, and the leases are its parent's.
            std::mem::forget(std::mem::take(&mut *all));
            return;
        }
        all.extract_if(.., |entry| entry.bytes.is_free(py)).collect()
    };
    for Entry { live, borrowed, .. } in free {
        match live.upgrade() {
            Some(live) => live.engine.give_back(borrowed),
            None => borrowed.give_up(),
        }
    }
}
