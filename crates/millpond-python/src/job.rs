//! A job: one call of the API, with what is still to go out and what has come back.
//!
//! Its states change in native code and under its own lock, so a signal handler that raises in the
//! thread that delivers cannot leave a job half changed. No Python runs under the lock: objects that
//! leave it are dropped after.

mod back;
mod inner;
mod jobs;
mod limits;
mod out;
mod source;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

use back::{Back, Chunks, Stream};
use inner::Inner;
pub(crate) use limits::Limits;
use millpond_engine::ChunkSizes;

pub(crate) use jobs::Jobs;
pub(crate) use source::Draw;
use source::{Offer, Source};

use crate::once::Once;

/// How the worker runs a task: `func(*args, **kwds)`, or a chunk by the standard library's
/// `mapstar` or `starmapstar`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum TaskKind {
    Call = 0,
    Map = 1,
    Starmap = 2,
}

/// Set in a task's kind if its stream names stored parts.
pub(crate) const HAS_PARTS: u32 = 0x100;

/// Set as well if it names objects inside of them by their numbers in pickle's memo.
pub(crate) const HAS_INDICES: u32 = 0x400;

/// One call of the API.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Job {
    inner: Mutex<Inner>,
}

/// What a change of a job asks of whoever made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// Nothing.
    Nothing,
    /// Somebody waits, or the job is done: its owner is to be told.
    News,
    /// All is back and a callback is to be called before the job is done.
    Callback,
}

static EMPTY: Once<Py<PyAny>> = Once::new();

/// Returns the object that [`Job::pop`] gives when nothing has come yet.
pub(crate) fn empty(py: Python<'_>) -> PyResult<Py<PyAny>> {
    EMPTY
        .get_or_try_make(py, || Ok(py.import("builtins")?.getattr("object")?.call0()?.unbind()))
        .map(|object| object.clone_ref(py))
}

impl Job {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new(kind: TaskKind, source: Source, back: Back) -> Self {
        Self { inner: Mutex::new(Inner::new(kind, source, back)) }
    }

    /// Returns how its tasks are run.
    pub(crate) fn kind(&self) -> TaskKind {
        self.lock().kind
    }

    /// Says that only the keeper shall pickle its next task, or no longer so: pickling it on the main
    /// thread was cut short by what may be a signal handler's, which the keeper's thread never runs.
    pub(crate) fn leave_to_keeper(&self, is_left: bool) {
        self.lock().is_left_to_keeper = is_left;
    }

    /// Tells whether only the keeper shall pickle its next task.
    pub(crate) fn is_left_to_keeper(&self) -> bool {
        self.lock().is_left_to_keeper
    }

    /// Takes one task's end. What must be dropped where Python may run is dropped at the return.
    pub(crate) fn put(&self, py: Python<'_>, index: u64, ok: bool, value: Py<PyAny>) -> Told {
        let mut dropped = Vec::new();
        let mut inner = self.lock();
        let told = inner.put(py, index, ok, value, &mut dropped);
        if inner.is_done {
            dropped.extend(inner.source.clear());
        }
        drop(inner);
        told
    }

    /// Returns the job's Python object, if the job is not done and gone.
    pub(crate) fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().owner.as_ref().map(|owner| owner.clone_ref(py))
    }
}

fn task_kind(kind: u32) -> PyResult<TaskKind> {
    match kind {
        0 => Ok(TaskKind::Call),
        1 => Ok(TaskKind::Map),
        2 => Ok(TaskKind::Starmap),
        _ => Err(PyValueError::new_err("kind is 0 (call), 1 (map) or 2 (starmap)")),
    }
}

#[pymethods]
impl Job {
    /// Makes the job of `func(*args, **kwds)`.
    #[staticmethod]
    fn single(func: Py<PyAny>, args: Py<PyAny>, kwds: Py<PyAny>) -> Self {
        Self::new(
            TaskKind::Call,
            Source::Single { func, args, kwds },
            Back::Single { outcome: None },
        )
    }

    /// Makes the job of a map over `length` items in chunks of `chunk_len`.
    #[staticmethod]
    fn chunks(
        py: Python<'_>,
        kind: u32,
        func: Py<PyAny>,
        iterator: Option<Py<PyIterator>>,
        chunk_len: usize,
        length: usize,
    ) -> PyResult<Self> {
        let values = PyList::new(py, [py.None()])?.as_sequence().repeat(length)?.cast_into()?;
        let left = if chunk_len == 0 { 0 } else { length.div_ceil(chunk_len) as u64 };
        let source = Self::source(func, iterator, chunk_len);
        let back = Back::Chunks(Box::new(Chunks {
            chunk_len: chunk_len as u64,
            values: values.unbind(),
            len: length,
            left,
            failure: None,
        }));
        let job = Self::new(task_kind(kind)?, source, back);
        if left == 0 {
            let mut inner = job.lock();
            inner.is_done = true;
            let dropped = inner.source.clear();
            drop(inner);
            drop(dropped);
        }
        Ok(job)
    }

    /// Makes the job of an imap. `chunk_len` is 0 for single items.
    #[staticmethod]
    fn stream(
        kind: u32,
        func: Py<PyAny>,
        iterator: Option<Py<PyIterator>>,
        chunk_len: usize,
        is_ordered: bool,
        buffer_len: Option<u64>,
    ) -> PyResult<Self> {
        let source = Self::source(func, iterator, chunk_len);
        let back = Back::Stream(Box::new(Stream {
            is_ordered,
            buffer_len,
            items: VecDeque::new(),
            unsorted: HashMap::new(),
            index: 0,
            taken: 0,
            length: None,
            broken: None,
        }));
        Ok(Self::new(task_kind(kind)?, source, back))
    }

    /// Limits each task: to a time in seconds, from when a worker begins it; and to so many retries when
    /// its worker dies, or it raises an instance of `retry_on`. Once, before the job is submitted.
    #[pyo3(signature = (time_limit_s, retries, retry_on))]
    fn limit(&self, time_limit_s: Option<f64>, retries: u32, retry_on: Py<PyAny>) {
        let time_limit = time_limit_s.and_then(|time| Duration::try_from_secs_f64(time).ok());
        let limits = Some(Arc::new(Limits { time_limit, retries, retry_on }));
        let before = std::mem::replace(&mut self.lock().limits, limits);
        drop(before);
    }

    /// Lets the sizes of chunks follow from how long tasks take, given how many items there are, if that
    /// is known. Once, before the job is submitted; its chunks were said to have one item.
    fn measure(&self, item_count: Option<u64>, worker_count: u64) {
        let mut inner = self.lock();
        let sizes = ChunkSizes::new(item_count, worker_count);
        let is_stream = matches!(inner.back, Back::Stream(_));
        inner.measured = Some(Box::new(if is_stream { sizes.of_stream() } else { sizes }));
    }

    /// How many items the next chunk should have, if their sizes are measured.
    #[getter]
    fn next_chunk_len(&self) -> usize {
        self.lock().measured.as_ref().map_or(1, |sizes| sizes.next_len())
    }

    /// Returns the first item of a chunk and the one after its last, if sizes are measured.
    fn items_of(&self, index: u64) -> Option<(u64, u64)> {
        self.lock().measured.as_ref().map(|measured| measured.items_of(index))
    }

    /// Sets the Python object that is told of the job's news, and the job's number.
    fn set_owner(&self, owner: Py<PyAny>, has_callback: bool, number: u32) {
        let mut inner = self.lock();
        inner.number = number;
        if !inner.is_done {
            inner.owner = Some(owner);
            inner.has_callback = has_callback;
        }
    }

    /// Lets the Python object go, once it knows that the job is done.
    fn forget_owner(&self) {
        let owner = self.lock().owner.take();
        drop(owner);
    }

    /// Offers what a feeder has drawn: an item, or a chunk of items.
    fn offer(&self, item: Py<PyAny>) {
        self.push_offer(Offer::Item(item));
    }

    /// Offers the error that the iterable raised.
    fn offer_error(&self, error: Py<PyAny>) {
        self.push_offer(Offer::Raise(error));
    }

    /// Says that nothing more will be offered.
    fn close_offers(&self) {
        if let Source::Offered(offered) = &mut self.lock().source {
            offered.is_closed = true;
        }
    }

    /// The job's number.
    #[getter]
    fn number(&self) -> u32 {
        self.lock().number
    }

    /// Whether an offer waits to be published.
    #[getter]
    fn has_offers(&self) -> bool {
        matches!(&self.lock().source, Source::Offered(offered) if !offered.offers.is_empty())
    }

    /// Whether the iterable is drawn by a feeder.
    #[getter]
    fn is_offered(&self) -> bool {
        matches!(&self.lock().source, Source::Offered(_))
    }

    /// Whether all of its tasks are published.
    #[getter]
    fn is_exhausted(&self) -> bool {
        matches!(&self.lock().source, Source::Exhausted)
    }

    /// Whether `buffersize` holds the job back.
    #[getter]
    fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// For how long each task may run, in seconds.
    #[getter]
    fn time_limit_s(&self) -> Option<f64> {
        Some(self.limits()?.time_limit?.as_secs_f64())
    }

    /// Whether all is back, and its callback has returned.
    #[getter]
    fn is_done(&self) -> bool {
        self.lock().is_done
    }

    /// Whether the job succeeded; false as long as it is not done.
    #[getter]
    fn is_success(&self) -> bool {
        let inner = self.lock();
        inner.is_done
            && match &inner.back {
                Back::Single { outcome } => outcome.as_ref().is_some_and(|(ok, _)| *ok),
                Back::Chunks(chunks) => chunks.failure.is_none(),
                Back::Stream(_) => true,
            }
    }

    /// Chunks whose results are not back; items, if the sizes of chunks are measured.
    #[getter]
    fn left(&self) -> u64 {
        match &self.lock().back {
            Back::Single { outcome } => u64::from(outcome.is_none()),
            Back::Chunks(chunks) => chunks.left,
            Back::Stream(stream) => stream.length.map_or(0, |length| length - stream.index),
        }
    }

    /// Results of a stream that are back, in order as far as that is asked for.
    #[getter]
    fn index(&self) -> u64 {
        match &self.lock().back {
            Back::Stream(stream) => stream.index,
            _ => 0,
        }
    }

    /// Number of tasks of a stream, once it is known.
    #[getter]
    fn length(&self) -> Option<u64> {
        match &self.lock().back {
            Back::Stream(stream) => stream.length,
            _ => None,
        }
    }

    /// The outcome of a call or map: (success, value or error); None if it is not back.
    #[getter]
    fn outcome(&self, py: Python<'_>) -> Option<(bool, Py<PyAny>)> {
        match &self.lock().back {
            Back::Single { outcome } => {
                outcome.as_ref().map(|(ok, value)| (*ok, value.clone_ref(py)))
            }
            Back::Chunks(chunks) if chunks.left == 0 => Some(match &chunks.failure {
                Some(failure) => (false, failure.clone_ref(py)),
                None => (true, chunks.values.clone_ref(py).into_any()),
            }),
            _ => None,
        }
    }

    /// Takes the next result of a stream. Returns EMPTY if it is not back yet.
    ///
    /// Raises the error that the task raised, or StopIteration after the last.
    fn pop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut inner = self.lock();
        let Back::Stream(stream) = &mut inner.back else { return empty(py) };
        if let Some((ok, value)) = stream.items.pop_front() {
            stream.taken += 1;
            drop(inner);
            return if ok { Ok(value) } else { Err(PyErr::from_value(value.into_bound(py))) };
        }
        if let Some(broken) = &stream.broken {
            let broken = broken.clone_ref(py);
            drop(inner);
            return Err(PyErr::from_value(broken.into_bound(py)));
        }
        if stream.length == Some(stream.index) {
            drop(inner);
            return Err(PyStopIteration::new_err(()));
        }
        drop(inner);
        empty(py)
    }

    /// Ends the job with `error` whatever is still out. Returns 0 if it was done, 1 if its owner is
    /// to be told, 2 if its callback is to be called.
    pub(crate) fn abandon(&self, error: Py<PyAny>) -> u32 {
        let mut inner = self.lock();
        if inner.is_done {
            drop(inner);
            drop(error);
            return 0;
        }
        let mut dropped = inner.source.clear();
        inner.is_abandoned = true;
        match &mut inner.back {
            Back::Single { outcome } => match outcome {
                None => *outcome = Some((false, error)),
                Some(_) => dropped.push(error),
            },
            Back::Chunks(chunks) => {
                chunks.left = 0;
                match &mut chunks.failure {
                    none @ None => *none = Some(error),
                    Some(_) => dropped.push(error),
                }
            }
            Back::Stream(stream) => stream.broken = Some(error),
        }
        let told = inner.settle(true);
        drop(inner);
        drop(dropped);
        if told == Told::Callback { 2 } else { 1 }
    }

    /// Ends a job of one call with an error. Returns as :meth:`abandon`.
    fn fail(&self, py: Python<'_>, index: u64, error: Py<PyAny>) -> u32 {
        match self.put(py, index, false, error) {
            Told::Nothing => 0,
            Told::News => 1,
            Told::Callback => 2,
        }
    }

    /// Says that the callback has returned; `error` is what it raised, and becomes the outcome.
    fn finish(&self, error: Option<Py<PyAny>>) {
        let mut dropped = Vec::new();
        let mut inner = self.lock();
        if let Some(error) = error {
            match &mut inner.back {
                Back::Single { outcome } => {
                    dropped.extend(outcome.replace((false, error)).map(|(_, value)| value));
                }
                Back::Chunks(chunks) => dropped.extend(chunks.failure.replace(error)),
                Back::Stream(_) => dropped.push(error),
            }
        }
        inner.is_done = true;
        dropped.extend(inner.source.clear());
        drop(inner);
        drop(dropped);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock is changing the job, which is then no garbage.
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        inner.visit(&visit)
    }

    fn __clear__(&self) {
        let mut dropped = Vec::new();
        if let Ok(mut inner) = self.inner.try_lock() {
            dropped = inner.source.clear();
            dropped.extend(inner.owner.take());
            inner.back.clear(&mut dropped);
        }
        drop(dropped);
    }

    /// Adds the lock of a thread that waits for news of this job.
    fn add_waiter(&self, lock: Py<PyAny>) {
        self.lock().waiters.get_or_insert_default().push(lock);
    }

    /// Removes the lock of a thread that waits no longer.
    fn remove_waiter(&self, lock: &Bound<'_, PyAny>) {
        let mut inner = self.lock();
        let waiters = inner.waiters.as_mut();
        let removed = waiters.and_then(|waiters| {
            let at = waiters.iter().position(|waiter| waiter.is(lock))?;
            Some(waiters.swap_remove(at))
        });
        drop(inner);
        drop(removed);
    }

    /// Returns the locks of the threads that wait for news of this job.
    #[getter]
    fn waiters(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let inner = self.lock();
        let waiters = inner.waiters.as_ref();
        waiters.map_or_else(Vec::new, |all| all.iter().map(|lock| lock.clone_ref(py)).collect())
    }
}
