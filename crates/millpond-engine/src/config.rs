//! Sizes and limits, each with its reason.

use std::time::Duration;

use millpond_sys::limits;
use millpond_table::SEAT_COUNT_MAX;

/// Bytes that unclaimed tasks may hold, counted as the standard library would pickle them: the
/// capacity of the pipe that they would lie in there (pipe(7): 16 pages). Rule 2 of exactness.
pub const RUN_AHEAD_BYTES: u64 = 64 << 10;

/// How long who waits spins before it sleeps: a blocking wake costs about 44 us on a virtual machine.
pub(crate) const SPIN_TIME: Duration = Duration::from_micros(50);

/// Looks between which a spinner lets others have its CPU: about a microsecond.
pub(crate) const SPIN_LOOKS: u32 = 32;

/// How often a sleeping worker looks up by itself. A look that finds work is a rescued wake-up, and
/// is counted: without kills there must be none.
pub(crate) const RECHECK_TIME: Duration = Duration::from_secs(1);

/// For how long a task must lie unclaimed in such a look, that a wake-up passes for rescued: longer than
/// a waker, or a worker that is awake, is kept from its CPU by others.
pub(crate) const DOUBT_TIME: Duration = Duration::from_millis(50);

/// Bytes of the parent's small area, which every worker maps whole once it reads from it.
pub(crate) const PARENT_SMALL_LEN: u64 = 16 << 20;

/// Bytes of a worker's small area: with 1 024 workers the parent maps 1 024 of them.
pub(crate) const WORKER_SMALL_LEN: u64 = 4 << 20;

/// Bytes of touched large blocks that an allocating process keeps for reuse, unless told otherwise.
pub const WARM_LEN_MAX: u64 = 128 << 20;

/// Wanted length of the parent's arena file: sparse, so only what is written costs memory.
const ARENA_LEN: u64 = 8 << 40;

/// Wanted length of one worker generation's result range.
const RANGE_LEN: u64 = 1 << 40;

/// Result ranges that may lie unread beside those of the living workers.
const SPARE_RANGES: u64 = 64;

/// Workers that a pool can get beside those it begins with, where a limit on file size makes ranges short.
const SPARE_SEATS: u64 = SPARE_RANGES / 2;

/// What the front can choose.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of workers that the pool begins with, 1 to 1 024.
    pub worker_count: u32,
    /// Bytes of touched memory that the parent, and each worker, keeps for reuse while no task needs
    /// it.
    pub warm_len_max: u64,
    /// The most bytes that a worker may have resident while it runs a task.
    pub memory_limit: Option<u64>,
}

/// Lengths in bytes that follow from the configuration and the process's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Number of seats: the most workers at a time.
    pub(crate) seat_count: u32,
    pub(crate) arena_len: u64,
    pub(crate) arena_small_len: u64,
    pub(crate) range_len: u64,
    pub(crate) range_small_len: u64,
    pub(crate) range_count: u64,
    pub(crate) warm_len_max: u64,
    pub(crate) memory_limit: Option<u64>,
}

impl Sizes {
    /// A file longer than `RLIMIT_FSIZE` cannot be made, and the attempt would kill the process by
    /// SIGXFSZ; so the files are as long as the limit allows.
    pub(crate) fn new(config: Config) -> Self {
        Self::within(config, limits::file_size_max())
    }

    fn within(config: Config, limit: u64) -> Self {
        const MIB: u64 = 1 << 20;
        let limit = limit.max(4 * MIB);
        let arena_len = ARENA_LEN.min(limit) / MIB * MIB;
        let seats_max = SEAT_COUNT_MAX as u64;
        let worker_count = u64::from(config.worker_count).clamp(1, seats_max);
        // Seats and ranges are sparse, so there are as many as any pool can have. Where a limit would
        // make each range short for it, there are as many as the first workers need, and some more.
        let is_ample = RANGE_LEN.saturating_mul(range_count_of(seats_max)) <= limit;
        let (seat_count, range_count) = if is_ample {
            (seats_max, range_count_of(seats_max))
        } else {
            (seats_max.min(worker_count + SPARE_SEATS), range_count_of(worker_count))
        };
        let range_len = (RANGE_LEN.min(limit / range_count) / 4096 * 4096).max(16 << 12);
        Self {
            seat_count: seat_count as u32,
            arena_len,
            arena_small_len: PARENT_SMALL_LEN.min(arena_len / 4),
            range_len,
            range_small_len: WORKER_SMALL_LEN.min(range_len / 4) / 4096 * 4096,
            range_count,
            warm_len_max: config.warm_len_max,
            memory_limit: config.memory_limit,
        }
    }

    pub(crate) fn results_len(&self) -> u64 {
        self.range_len * self.range_count
    }
}

/// Returns how many result ranges so many workers need, if as many again may be gone and unread.
const fn range_count_of(worker_count: u64) -> u64 {
    worker_count * 2 + SPARE_RANGES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_whole_pages_and_within_the_limit() {
        for worker_count in [1, 2, 64, 1024] {
            for limit in [u64::MAX, 1 << 40, 1 << 30, 512 << 20] {
                let config = Config { worker_count, warm_len_max: 0, memory_limit: None };
                let sizes = Sizes::within(config, limit);
                assert!((worker_count..=1024).contains(&sizes.seat_count), "{sizes:?}");
                assert!(u64::from(sizes.seat_count) <= sizes.range_count, "{sizes:?}");
                for len in
                    [sizes.arena_len, sizes.arena_small_len, sizes.range_len, sizes.range_small_len]
                {
                    assert!(len > 0 && len.is_multiple_of(4096), "{sizes:?}");
                }
                assert!(sizes.arena_len <= limit && sizes.results_len() <= limit, "{sizes:?}");
            }
        }
    }

    #[test]
    fn seats_for_later_cost_no_room_for_results() {
        let config = Config { worker_count: 2, warm_len_max: 0, memory_limit: None };
        assert_eq!(Sizes::within(config, u64::MAX).seat_count, 1024);
        assert_eq!(Sizes::within(config, u64::MAX).range_len, RANGE_LEN);
        let limited = Sizes::within(config, 680 << 20);
        assert_eq!(limited.seat_count, 34);
        assert_eq!(limited.range_len, 10 << 20);
    }
}
