//! What changes of a job, under its lock.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::back::{Back, Chunks};
use super::jobs::NOWHERE;
use super::limits::Limits;
use super::source::Source;
use super::{TaskKind, Told};
use millpond_engine::ChunkSizes;

/// What changes of a job.
pub(crate) struct Inner {
    /// Stands here for its size: a million jobs may wait.
    pub(super) kind: TaskKind,
    pub(crate) source: Source,
    /// Index of the next task to be published.
    pub(crate) next_index: u64,
    /// Chunks of sizes that are measured, if they are.
    pub(super) measured: Option<Box<ChunkSizes>>,
    pub(super) back: Back,
    /// The Python object of the job, until the job is done.
    pub(super) owner: Option<Py<PyAny>>,
    /// The job's number, as error messages have it.
    pub(super) number: u32,
    /// Where it is in the list of jobs.
    pub(super) place: u32,
    pub(super) limits: Option<Arc<Limits>>,
    pub(super) has_callback: bool,
    pub(super) is_done: bool,
    /// Whether the keeper pickles its next task: see `Job::leave_to_keeper`.
    pub(super) is_left_to_keeper: bool,
    /// Whether it was ended by hand: what still comes back of it changes nothing, and nothing more goes
    /// out.
    pub(super) is_abandoned: bool,
    /// Locks of the threads that wait for news of it.
    #[allow(clippy::box_collection, reason = "most jobs have none, and there may be a million")]
    pub(super) waiters: Option<Box<Vec<Py<PyAny>>>>,
}

impl Inner {
    pub(super) fn new(kind: TaskKind, source: Source, back: Back) -> Self {
        Self {
            kind,
            source,
            next_index: 0,
            measured: None,
            back,
            owner: None,
            number: 0,
            place: NOWHERE,
            limits: None,
            has_callback: false,
            is_done: false,
            is_left_to_keeper: false,
            is_abandoned: false,
            waiters: None,
        }
    }

    /// Tells whether its end is known, though its callback may still be due.
    pub(super) fn is_over(&self) -> bool {
        self.is_done
            || self.is_abandoned
            || match &self.back {
                Back::Single { outcome } => outcome.is_some(),
                Back::Chunks(chunks) => chunks.left == 0,
                Back::Stream(_) => false,
            }
    }
}

impl Inner {
    pub(super) fn put(
        &mut self,
        py: Python<'_>,
        index: u64,
        ok: bool,
        value: Py<PyAny>,
        dropped: &mut Vec<Py<PyAny>>,
    ) -> Told {
        if self.is_done || self.is_abandoned {
            dropped.push(value);
            return Told::Nothing;
        }
        let is_complete = match &mut self.back {
            Back::Single { outcome } => {
                dropped.extend(outcome.replace((ok, value)).map(|(_, value)| value));
                true
            }
            Back::Chunks(chunks) => {
                let Chunks { chunk_len, values, len, left, failure } = &mut **chunks;
                if *left == 0 {
                    dropped.push(value);
                    return Told::Nothing;
                }
                let (low, high) = match &self.measured {
                    Some(measured) => measured.items_of(index),
                    None => (index * *chunk_len, (index + 1) * *chunk_len),
                };
                *left = left.saturating_sub(if self.measured.is_some() { high - low } else { 1 });
                if !ok {
                    // Only the first failure is kept, as in the standard library.
                    match failure {
                        None => *failure = Some(value),
                        Some(_) => dropped.push(value),
                    }
                } else if failure.is_none() {
                    let value = value.into_bound(py);
                    let (low, high) = (low as usize, high as usize);
                    // Beyond its length lies what an iterable that gives more has put there. It goes
                    // later: its end may run code of the user's.
                    let list = values.bind(py);
                    for at in low.max(*len)..high.min(list.len()) {
                        dropped.extend(list.get_item(at).ok().map(Bound::unbind));
                    }
                    if let Err(error) = list.set_slice(low, high, &value) {
                        *failure = Some(error.into_value(py).into_any());
                    }
                    dropped.push(value.unbind());
                } else {
                    dropped.push(value);
                }
                *left == 0
            }
            Back::Stream(stream) => {
                stream.put(index, (ok, value));
                stream.length == Some(stream.index)
            }
        };
        self.settle(is_complete)
    }

    pub(super) fn settle(&mut self, is_complete: bool) -> Told {
        if !is_complete {
            return if self.waiters.as_ref().is_some_and(|waiters| !waiters.is_empty()) {
                Told::News
            } else {
                Told::Nothing
            };
        }
        if self.has_callback {
            self.has_callback = false;
            return Told::Callback;
        }
        self.is_done = true;
        Told::News
    }
}

impl Inner {
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        if let Some(limits) = &self.limits {
            visit.call(&limits.retry_on)?;
        }
        self.source.visit(visit)?;
        self.back.visit(visit)
    }
}
