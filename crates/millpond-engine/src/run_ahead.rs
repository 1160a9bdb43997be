//! How far dispatch runs ahead of the workers: rule 2 of exactness.
//!
//! In the standard library a task is pickled when the pipe has room, so what the parent changes is
//! seen by all tasks but those few that lie in the pipe. Here unclaimed tasks hold as many bytes as
//! that pipe would, counted as the standard library would pickle them.

use std::collections::VecDeque;

use crate::config::RUN_AHEAD_BYTES;

/// The published tasks that may be unclaimed, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RunAhead {
    /// Ring position and counted size in bytes.
    published: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl RunAhead {
    /// A task was published at this position; `bytes` is its size as the standard library would
    /// pickle it.
    pub(crate) fn published(&mut self, position: u64, bytes: u64) {
        self.published.push_back((position, bytes));
        self.bytes += bytes;
    }

    /// Forgets a task that was taken back.
    pub(crate) fn withdrawn(&mut self, position: u64) {
        if let Ok(index) = self.published.binary_search_by_key(&position, |&(at, _)| at)
            && let Some((_, bytes)) = self.published.remove(index)
        {
            self.bytes -= bytes;
        }
    }

    /// Forgets what was claimed: all positions before `head`.
    pub(crate) fn claimed(&mut self, head: u64) {
        while let Some(&(position, bytes)) = self.published.front() {
            if position >= head {
                break;
            }
            self.bytes -= bytes;
            self.published.pop_front();
        }
    }

    /// Tells whether a task that is expected to have `next` bytes may be pickled now.
    pub(crate) fn has_room(&self, next: u64) -> bool {
        self.published.is_empty()
            || (self.bytes < RUN_AHEAD_BYTES && self.bytes + next <= RUN_AHEAD_BYTES)
    }

    /// Returns the number of unclaimed tasks, as of the last [`Self::claimed`].
    pub(crate) fn len(&self) -> usize {
        self.published.len()
    }

    /// Returns the head position at which dispatch should go on: where half of the unclaimed tasks
    /// have been claimed, so that workers neither starve nor wake the parent for each task.
    pub(crate) fn refill_position(&self) -> u64 {
        let middle = self.published.len().div_ceil(2).saturating_sub(1);
        #[cfg(canary = "late-refill")]
        let middle = self.published.len().saturating_sub(1);
        self.published.get(middle).map_or(0, |(position, _)| position + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_may_always_go_however_large() {
        let mut ahead = RunAhead::default();
        assert!(ahead.has_room(u64::MAX >> 1));
        ahead.published(1, 50_000_000);
        assert!(!ahead.has_room(1));
        ahead.claimed(2);
        assert!(ahead.has_room(50_000_000));
    }

    #[test]
    fn small_tasks_fill_the_pipe_and_no_more() {
        let mut ahead = RunAhead::default();
        let mut position = 0;
        while ahead.has_room(64) {
            ahead.published(position, 64);
            position += 1;
        }
        assert_eq!(position, RUN_AHEAD_BYTES / 64);
        ahead.claimed(ahead.refill_position());
        assert_eq!(ahead.len() as u64, RUN_AHEAD_BYTES / 128);
    }

    #[test]
    fn a_single_unclaimed_task_asks_for_a_refill_when_it_is_claimed() {
        let mut ahead = RunAhead::default();
        ahead.published(7, 1 << 20);
        assert_eq!(ahead.refill_position(), 8);
    }
}
