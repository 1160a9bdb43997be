//! What limits each task of a job.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::{Back, Job};

/// What limits each task of a job.
pub(crate) struct Limits {
    /// For how long it may run.
    pub(crate) time_limit: Option<Duration>,
    /// How often it is tried again.
    pub(crate) retries: u32,
    /// After which errors, beside its worker's death: a class or a tuple of classes.
    pub(super) retry_on: Py<PyAny>,
}

impl Job {
    /// Returns what limits each of its tasks, if anything does.
    pub(crate) fn limits(&self) -> Option<Arc<Limits>> {
        self.lock().limits.clone()
    }

    /// Tells whether a task that has failed is to be tried again.
    pub(crate) fn is_retried(
        &self,
        py: Python<'_>,
        has_died: bool,
        error: &Py<PyAny>,
        attempts: u32,
    ) -> bool {
        let Some(limits) = self.limits() else { return false };
        attempts <= limits.retries
            && !self.lock().is_over()
            && (has_died || error.bind(py).is_instance(limits.retry_on.bind(py)).unwrap_or(false))
    }

    /// Tells whether it is a single call that was never handed out.
    pub(crate) fn is_unpublished(&self) -> bool {
        let inner = self.lock();
        matches!(inner.back, Back::Single { .. }) && inner.next_index == 0
    }

    /// Tells whether it may be ended by hand, given how many of its tasks were taken back or stopped: a
    /// single call that is out goes on if it could not be.
    pub(crate) fn may_be_cancelled(&self, was_unpublished: bool, stopped: usize) -> bool {
        let inner = self.lock();
        let is_single = matches!(inner.back, Back::Single { .. });
        !inner.is_over() && (!is_single || was_unpublished || stopped > 0)
    }
}
