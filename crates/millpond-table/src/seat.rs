//! A seat: what the parent and one worker tell each other outside of tasks.

use std::sync::atomic::AtomicU32 as Filler;

use crate::lease::Leases;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// How far the worker in a seat is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum SeatState {
    /// The parent is starting a process for the seat, or nobody sits in it.
    Starting = 0,
    /// The worker has run its initializer and takes tasks.
    Ready = 1,
    /// The worker has ended in order.
    Retired = 2,
    /// The initializer raised; the error lies in the seat's result range.
    Failed = 3,
    /// The worker ends because the shared memory is damaged.
    Damaged = 4,
}

/// One worker's place in the table. Only the worker writes it, but for `bell`, what is given back to
/// it, and [`Seat::reset`].
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Seat {
    /// The futex word that the worker sleeps on: 1 while it sleeps or means to.
    pub(crate) bell: AtomicU32,
    state: AtomicU32,
    /// Not zero once the parent wants the worker to end after its present task.
    leaving: AtomicU32,
    _pad: Filler,
    failure_len: AtomicU64,
    failure_note_len: AtomicU64,
    counts: [AtomicU64; COUNT_NAMES.len()],
    pub(crate) leases: Leases,
}

/// What a worker counts, in the order of [`Seat::count`]'s index.
pub(crate) const COUNT_NAMES: [&str; 5] = [
    "tasks",
    "heavy_parts_loaded",
    "heavy_parts_verified",
    "heavy_parts_changed",
    "rescued_wakeups",
];

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            bell: AtomicU32::new(0),
            state: AtomicU32::new(0),
            leaving: AtomicU32::new(0),
            _pad: Filler::new(0),
            failure_len: AtomicU64::new(0),
            failure_note_len: AtomicU64::new(0),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            leases: Leases::new(),
        }
    }

    /// Names of the counts, in the order of their index.
    pub const COUNTS: [&'static str; COUNT_NAMES.len()] = COUNT_NAMES;

    /// Parent: makes the seat ready for a new worker, after the last one is gone and recovered.
    /// Counts go on.
    pub fn reset(&self) {
        self.bell.store(0, Ordering::Relaxed);
        self.failure_len.store(0, Ordering::Relaxed);
        self.failure_note_len.store(0, Ordering::Relaxed);
        self.leases.reset();
        self.leaving.store(0, Ordering::Relaxed);
        kill_point!("parent.seat.cleared");
        self.state.store(SeatState::Starting as u32, Ordering::Release);
    }

    /// Parent: asks the worker to end after its present task; see [`Table::dismiss`](crate::Table::dismiss).
    pub(crate) fn ask_to_leave(&self) {
        self.leaving.store(1, Ordering::Relaxed);
    }

    /// Parent: takes back that the worker is to end; see [`Table::recall`](crate::Table::recall).
    pub(crate) fn ask_to_stay(&self) {
        self.leaving.store(0, Ordering::Relaxed);
    }

    /// Worker: tells whether the parent wants it to end.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) != 0
    }

    /// Parent: ends the leases of a worker that is gone.
    pub fn end_leases(&self) {
        self.leases.reset();
    }

    /// Worker: tells how far it is.
    pub fn set_state(&self, state: SeatState) {
        // SYNC: seat-state. Release pairs with the Acquire of `state`: failure lengths are seen.
        self.state.store(state as u32, Ordering::Release);
    }

    /// Returns how far the worker says it is; an unknown value counts as starting.
    #[must_use]
    pub fn state(&self) -> SeatState {
        match self.state.load(Ordering::Acquire) {
            1 => SeatState::Ready,
            2 => SeatState::Retired,
            3 => SeatState::Failed,
            4 => SeatState::Damaged,
            _ => SeatState::Starting,
        }
    }

    /// Worker: tells the lengths in bytes of the failure that it wrote at the start of its result
    /// range: all, and the note at its beginning.
    pub fn set_failure(&self, len: u64, note_len: u64) {
        self.failure_len.store(len, Ordering::Relaxed);
        self.failure_note_len.store(note_len, Ordering::Relaxed);
        kill_point!("worker.fail.measured");
        self.set_state(SeatState::Failed);
    }

    /// Returns the lengths given to [`Self::set_failure`], unchecked.
    #[must_use]
    pub fn failure(&self) -> (u64, u64) {
        (self.failure_len.load(Ordering::Relaxed), self.failure_note_len.load(Ordering::Relaxed))
    }

    /// Worker: adds `more` to the count with this index of [`Self::COUNTS`].
    pub fn add(&self, count: usize, more: u64) {
        let count = &self.counts[count];
        // One writer: a load and a store are enough, and cheaper than a locked addition.
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Returns the count with this index of [`Self::COUNTS`].
    #[must_use]
    pub fn count(&self, count: usize) -> u64 {
        self.counts[count].load(Ordering::Relaxed)
    }
}
