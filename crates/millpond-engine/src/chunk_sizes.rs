//! Chunks whose sizes follow from how long tasks take: `chunksize="auto"`.
//!
//! A task costs about a microsecond beside its own time, so chunks pay only for short tasks, and those
//! are short enough that a chunk of [`TARGET_TIME`] delays nobody. The first tasks have one item each;
//! what their workers then tell sets the size of the next.

use std::collections::VecDeque;
use std::time::Duration;

/// How long a chunk should take: a hundred times and more what it costs to send one.
const TARGET_TIME: Duration = Duration::from_millis(1);

/// By how much a chunk may be longer than the one that was measured: items need not be alike.
const GROWTH_MAX: f64 = 16.0;

/// The most items of a chunk.
const CHUNK_LEN_MAX: f64 = 16_384.0;

/// More tasks than can be out at a time.
const OUT_MAX: usize = 1 << 16;

/// What the newest measurement counts for in the mean.
const NEWEST_SHARE: f64 = 0.25;

/// The chunks of one job, and what was measured of them.
#[derive(Debug)]
pub struct ChunkSizes {
    /// Where each chunk that is out or back ends, in items; of an endless job the newest ones.
    ends: VecDeque<u64>,
    /// How many older ones were forgotten, and the most that are kept.
    forgotten: u64,
    kept_max: usize,
    /// How many items there are, if that is known.
    item_count: Option<u64>,
    worker_count: u64,
    /// How long an item takes, in seconds.
    item_s: Option<f64>,
    /// How long the longest chunk was that has been measured, in items.
    measured_len: f64,
}

impl ChunkSizes {
    /// Makes the sizes of a job with so many items, if that is known, for so many workers.
    #[must_use]
    pub fn new(item_count: Option<u64>, worker_count: u64) -> Self {
        let worker_count = worker_count.max(1);
        Self {
            ends: VecDeque::new(),
            forgotten: 0,
            kept_max: usize::MAX,
            item_count,
            worker_count,
            item_s: None,
            measured_len: 1.0,
        }
    }

    /// Forgets where chunks end that are no longer out: for a job that may never end.
    #[must_use]
    pub fn of_stream(mut self) -> Self {
        self.kept_max = OUT_MAX;
        self
    }

    /// Returns how many items the next chunk should have: 1 or more.
    #[must_use]
    pub fn next_len(&self) -> usize {
        let Some(item_s) = self.item_s else { return 1 };
        let by_time = TARGET_TIME.as_secs_f64() / item_s.max(1e-9);
        let len = by_time.min(self.measured_len * GROWTH_MAX).clamp(1.0, CHUNK_LEN_MAX) as u64;
        // Towards the end every worker is to have something to do.
        let left = self.item_count.map(|count| count.saturating_sub(self.drawn_count()));
        let fair = left.map_or(u64::MAX, |left| left / (2 * self.worker_count));
        len.min(fair).max(1) as usize
    }

    /// Counts a chunk as published.
    pub fn published(&mut self, len: u64) {
        let end = self.drawn_count() + len;
        // One more is kept, for where the oldest one begins.
        if self.ends.len() > self.kept_max {
            self.ends.pop_front();
            self.forgotten += 1;
        }
        self.ends.push_back(end);
    }

    /// Returns how many items have been published.
    #[must_use]
    pub fn drawn_count(&self) -> u64 {
        self.ends.back().copied().unwrap_or(0)
    }

    /// Returns the first item of a chunk, and the one after its last.
    #[must_use]
    pub fn items_of(&self, index: u64) -> (u64, u64) {
        let Some(index) = index.checked_sub(self.forgotten) else { return (0, 0) };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let end = self.ends.get(index).copied().unwrap_or(0);
        let first = index.checked_sub(1).and_then(|before| self.ends.get(before));
        (first.copied().unwrap_or(0), end)
    }

    /// Notes for how long a chunk ran, as its worker says. A false word makes chunks too long or too
    /// short, and nothing worse.
    pub fn ran(&mut self, index: u64, time: Duration) {
        let (first, end) = self.items_of(index);
        let len = end.saturating_sub(first).max(1) as f64;
        let item_s = time.as_secs_f64() / len;
        self.measured_len = self.measured_len.max(len);
        self.item_s = Some(match self.item_s {
            None => item_s,
            Some(mean) => mean + (item_s - mean) * NEWEST_SHARE,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(item_count: Option<u64>) -> ChunkSizes {
        let mut measured = ChunkSizes::new(item_count, 2);
        measured.published(1);
        measured
    }

    #[test]
    fn nothing_is_grouped_before_something_was_measured() {
        assert_eq!(measured(None).next_len(), 1);
    }

    #[test]
    fn long_tasks_stay_alone() {
        let mut measured = measured(Some(1_000));
        measured.ran(0, Duration::from_millis(2));
        assert_eq!(measured.next_len(), 1);
    }

    #[test]
    fn short_ones_fill_the_target_step_by_step() {
        let mut measured = measured(None);
        measured.ran(0, Duration::from_micros(1));
        assert_eq!(measured.next_len(), 16);
        measured.published(16);
        measured.ran(1, Duration::from_micros(16));
        assert_eq!(measured.next_len(), 256);
        measured.published(256);
        measured.ran(2, Duration::from_micros(256));
        assert_eq!(measured.next_len(), 1_000);
    }

    #[test]
    fn the_end_is_shared_out() {
        let mut measured = measured(Some(101));
        measured.ran(0, Duration::from_nanos(100));
        assert_eq!(measured.next_len(), 16);
        measured.published(80);
        assert_eq!(measured.next_len(), 5);
        measured.published(20);
        assert_eq!(measured.next_len(), 1);
    }

    #[test]
    fn an_endless_job_keeps_what_may_be_out() {
        let mut sizes = ChunkSizes::new(None, 2).of_stream();
        let count = 3 * OUT_MAX as u64;
        for _ in 0..count {
            sizes.published(2);
        }
        assert_eq!(sizes.ends.len(), OUT_MAX + 1);
        assert_eq!(sizes.drawn_count(), 2 * count);
        assert_eq!(sizes.items_of(count - 1), (2 * count - 2, 2 * count));
        let oldest = count - OUT_MAX as u64;
        assert_eq!(sizes.items_of(oldest), (2 * oldest, 2 * oldest + 2));
        assert_eq!(sizes.items_of(7), (0, 0));
    }

    #[test]
    fn a_chunk_knows_its_items_and_damage_is_no_panic() {
        let mut measured = measured(None);
        measured.published(7);
        assert_eq!((measured.items_of(0), measured.items_of(1)), ((0, 1), (1, 8)));
        measured.ran(u64::MAX, Duration::MAX);
        measured.ran(9, Duration::ZERO);
        assert!(measured.next_len() >= 1);
    }
}
