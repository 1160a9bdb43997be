//! What a worker is given at its start, and nothing after.

use std::os::fd::{AsRawFd, RawFd};

use crate::lives::Incarnation;
use crate::parent::Shared;

/// Descriptors and numbers that a new worker needs.
///
/// The descriptors are the parent's own: a forked worker has them under the same numbers, a spawned
/// one is passed copies by the process-start code of its front.
#[derive(Clone, Copy, Debug)]
pub struct HandOver {
    /// The worker's incarnation.
    pub incarnation: Incarnation,
    /// Descriptor of the table's file.
    pub table_fd: RawFd,
    /// Descriptor of the file with arguments and stored parts.
    pub arena_fd: RawFd,
    /// Descriptor of the file with results.
    pub results_fd: RawFd,
    /// Descriptor that becomes readable when the parent ends; -1 where the kernel has none.
    pub parent_fd: RawFd,
    /// The worker's seat.
    pub seat: u32,
    /// Number of seats in the table.
    pub seat_count: u32,
    /// Length in bytes of the argument file.
    pub arena_len: u64,
    /// Length in bytes of its small area.
    pub arena_small_len: u64,
    /// Where the worker's result range begins, in bytes.
    pub range_start: u64,
    /// Length in bytes of the worker's result range.
    pub range_len: u64,
    /// Length in bytes of its small area.
    pub range_small_len: u64,
    /// Bytes of touched memory that the worker keeps for reuse.
    pub warm_len_max: u64,
    /// Whether who waits spins first: whether there is more than one CPU.
    pub spins: bool,
}

impl<T> Shared<T> {
    pub(crate) fn hand_over(
        &self,
        incarnation: Incarnation,
        seat: u32,
        range_start: u64,
    ) -> HandOver {
        HandOver {
            incarnation,
            table_fd: self.table_file.as_raw_fd(),
            arena_fd: self.arena.as_raw_fd(),
            results_fd: self.results.as_raw_fd(),
            parent_fd: self.parent_pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd),
            seat,
            seat_count: self.layout.seat_count,
            arena_len: self.sizes.arena_len,
            arena_small_len: self.sizes.arena_small_len,
            range_start,
            range_len: self.sizes.range_len,
            range_small_len: self.sizes.range_small_len,
            warm_len_max: self.sizes.warm_len_max,
            spins: self.spins(),
        }
    }
}
