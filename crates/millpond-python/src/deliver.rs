//! Results on their way into jobs.
#![allow(unsafe_code, reason = "pickles are loaded from the memory that they lie in")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millpond_engine::{Collected, Outcome, Reason, View};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::buffers::Arrivals;
use crate::direct;
use crate::errors;
use crate::job::{Job, Told};
use crate::live::Live;
use crate::names::Names;
use crate::packed::{self, PartKind};

/// Kind of a result: what the function returned, pickled.
pub(crate) const RESULT_VALUE: u32 = 0;
/// Kind of a result: a note (the traceback's text), then what was raised, pickled.
pub(crate) const RESULT_ERROR: u32 = 1;

/// Kind of a result: what the function returned, by the direct codec.
pub(crate) const RESULT_DIRECT: u32 = 2;

/// Kind of a result: a list or tuple that was packed; the bits of its `PartKind` follow from
/// [`PACKED_SHIFT`] on.
pub(crate) const RESULT_PACKED: u32 = 4;

/// Where in a kind the bits of what was packed begin.
pub(crate) const PACKED_SHIFT: u32 = 8;

/// Kind of a result: the description of buffers, then what the function returned, pickled.
pub(crate) const RESULT_LENT: u32 = 3;

/// What comes back with the end of each task.
pub(crate) struct Ticket {
    pub(crate) job: Py<Job>,
    pub(crate) index: u64,
}

/// News of jobs for their Python objects, and results that wait behind a callback.
#[derive(Default)]
pub(crate) struct Desk {
    news: Mutex<VecDeque<Py<PyAny>>>,
    deferred: Mutex<VecDeque<Deferred>>,
    /// Set while a callback waits or runs: results are delivered in order, so the later ones wait.
    is_deferring: AtomicBool,
}

struct Deferred {
    job: Py<Job>,
    index: u64,
    ok: bool,
    value: Py<PyAny>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Puts one task's end into its job, or behind the callback that waits or runs.
    pub(crate) fn deliver(&self, py: Python<'_>, ticket: Ticket, ok: bool, value: Py<PyAny>) {
        let Ticket { job, index } = ticket;
        if self.is_deferring.load(Ordering::Relaxed) {
            lock(&self.deferred).push_back(Deferred { job, index, ok, value });
            return;
        }
        let told = job.get().put(py, index, ok, value);
        self.tell(py, &job, told);
    }

    /// Notes what a change of a job asks for.
    pub(crate) fn tell(&self, py: Python<'_>, job: &Py<Job>, told: Told) {
        if told == Told::Nothing {
            return;
        }
        if told == Told::Callback {
            self.is_deferring.store(true, Ordering::Relaxed);
        }
        if let Some(owner) = job.get().owner(py) {
            lock(&self.news).push_back(owner);
        }
    }

    /// Returns the first job's object that has news, which stays first until [`Self::pop_news`], so
    /// that a signal handler that raises in between loses nothing.
    pub(crate) fn first_news(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.news).front().map(|owner| owner.clone_ref(py))
    }

    /// Takes `owner` off the list if it is still first: two threads may tell the same news.
    pub(crate) fn pop_news(&self, owner: &Bound<'_, PyAny>) {
        let popped = {
            let mut news = lock(&self.news);
            if news.front().is_some_and(|first| first.is(owner)) { news.pop_front() } else { None }
        };
        drop(popped);
    }

    /// Delivers the results that waited behind a callback, until one completes a job with a callback
    /// of its own, which is returned; None when all are delivered.
    pub(crate) fn deliver_deferred(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        loop {
            let next = {
                let mut deferred = lock(&self.deferred);
                let next = deferred.pop_front();
                if next.is_none() {
                    self.is_deferring.store(false, Ordering::Relaxed);
                }
                next
            };
            let Deferred { job, index, ok, value } = next?;
            let told = job.get().put(py, index, ok, value);
            if told == Told::Callback {
                return job.get().owner(py);
            }
            self.tell(py, &job, told);
        }
    }

    /// Drops what waits, when the pool is terminated.
    pub(crate) fn clear_deferred(&self) {
        let dropped = std::mem::take(&mut *lock(&self.deferred));
        drop(dropped);
    }
}

/// Loads a pickle from where it lies.
pub(crate) fn load_view(
    py: Python<'_>,
    loads: &Bound<'_, PyAny>,
    view: &View,
    skip_len: usize,
) -> PyResult<Py<PyAny>> {
    let memory = memory_view(py, view, skip_len)?;
    let loaded = loads.call1((&memory,));
    // Should user code have got hold of it: from here on it answers ValueError, and reads nothing.
    memory.call_method0(crate::intern!(py, "release"))?;
    Ok(loaded?.unbind())
}

/// Returns a memoryview of a view's bytes after the first `skip_len`. It must be released before the
/// view is dropped.
pub(crate) fn memory_view<'py>(
    py: Python<'py>,
    view: &View,
    skip_len: usize,
) -> PyResult<Bound<'py, PyAny>> {
    assert!(skip_len <= view.len(), "a note of {skip_len} bytes in {}", view.len());
    // SAFETY: the view's bytes are readable as long as it lives, and the caller releases the
    // memoryview before; the call returns a new reference, or null with an error set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyMemoryView_FromMemory(
                view.as_ptr().add(skip_len).cast_mut().cast(),
                (view.len() - skip_len) as ffi::Py_ssize_t,
                ffi::PyBUF_READ,
            ),
        )
    }
}

/// Turns a task's end into (success, value or error). The third part is an error that may be
/// a signal handler's, which must go on after the task has been told of it.
pub(crate) fn read_outcome(
    py: Python<'_>,
    live: &Arc<Live>,
    collected: &Collected<Ticket>,
    describe_loss: &Bound<'_, PyAny>,
) -> (bool, Py<PyAny>, Option<PyErr>) {
    let Collected { ticket, outcome, attempts, .. } = collected;
    let describe = |incarnation: u64, reason: &str, bytes: u64| {
        let owner = ticket.job.get().owner(py);
        describe_loss.call1((incarnation, owner, ticket.index, *attempts, reason, bytes))
    };
    let error = match outcome {
        Outcome::Result { kind: RESULT_DIRECT, view, .. } => {
            match direct::read_result(py, &view.to_vec()) {
                Ok(value) => return (true, value.unbind(), None),
                Err(error) => error,
            }
        }
        Outcome::Result { kind, view, .. } if kind & 0xff == RESULT_PACKED => {
            let part = PartKind::from_bits(u64::from(kind >> PACKED_SHIFT));
            // SAFETY: the view's bytes are readable as long as it lives.
            match unsafe { packed::unpack(py, part, view.as_ptr(), view.len()) } {
                Ok(value) => return (true, value.unbind(), None),
                Err(error) => error,
            }
        }
        Outcome::Result { kind, view, note_len } => {
            let loaded = Names::get(py).and_then(|names| {
                let _arrivals = match *kind {
                    RESULT_LENT => Some(Arrivals::begin(py, live, &note_of(view, *note_len))?),
                    _ => None,
                };
                let class = Names::pickler_of(py, &names.connection)?;
                let loads = class.getattr(crate::intern!(py, "loads"))?;
                load_view(py, &loads, view, *note_len)
            });
            match loaded {
                Ok(value) => return (*kind != RESULT_ERROR, value, None),
                Err(error) => {
                    if *kind == RESULT_ERROR {
                        add_note(py, &error, view, *note_len);
                    }
                    error
                }
            }
        }
        Outcome::Damaged(error) => errors::to_python(error),
        Outcome::Lost(incarnation) => return described(describe(incarnation.0, "died", 0)),
        Outcome::Condemned(incarnation, reason) => {
            return described(match reason {
                Reason::Deadline => describe(incarnation.0, "deadline", 0),
                Reason::Memory(len) => describe(incarnation.0, "memory", *len),
                Reason::Cancelled => describe(incarnation.0, "cancelled", 0),
            });
        }
        Outcome::Withdrawn => return described(describe(0, "cancelled", 0)),
    };
    let goes_on = errors::may_be_a_signals(py, &error).then(|| error.clone_ref(py));
    (false, error.into_value(py).into_any(), goes_on)
}

/// The end of a task with which something was wrong, told by Python.
fn described(error: PyResult<Bound<'_, PyAny>>) -> (bool, Py<PyAny>, Option<PyErr>) {
    match error {
        Ok(error) => (false, error.unbind(), None),
        Err(error) => Python::attach(|py| {
            let goes_on = errors::may_be_a_signals(py, &error).then(|| error.clone_ref(py));
            (false, error.into_value(py).into_any(), goes_on)
        }),
    }
}

/// Tells in an error's notes how often its task was tried.
pub(crate) fn note_attempts(py: Python<'_>, error: &Py<PyAny>, attempts: u32) {
    let text = format!("the task was tried {attempts} times");
    // An object that takes no notes goes without.
    let _ = error.bind(py).call_method1(crate::intern!(py, "add_note"), (text,));
}

/// Gives an error that did not load the traceback of the one that was raised, as its cause.
fn add_note(py: Python<'_>, error: &PyErr, view: &View, note_len: usize) {
    if note_len == 0 || error.cause(py).is_some() {
        return;
    }
    let text = String::from_utf8_lossy(&note_of(view, note_len)).into_owned();
    let cause = Names::get(py).and_then(|names| names.remote_traceback.bind(py).call1((text,)));
    if let Ok(cause) = cause {
        error.set_cause(py, Some(PyErr::from_value(cause)));
    }
}

/// Returns a result's note. Its length is as a worker gave it.
fn note_of(view: &View, note_len: usize) -> Vec<u8> {
    let mut bytes = view.to_vec();
    bytes.truncate(note_len);
    bytes
}

/// The error of a task that the engine could not carry.
pub(crate) fn refusal(py: Python<'_>, error: &millpond_engine::Error) -> Py<PyAny> {
    let error = errors::to_python(error);
    if error.is_instance_of::<PyException>(py) {
        error.into_value(py).into_any()
    } else {
        PyRuntimeError::new_err(error.to_string()).into_value(py).into_any()
    }
}
