//! The control block: the few words that all processes of a pool share.

use crate::layout::SEAT_COUNT_MAX;
use crate::sync::{AtomicU32, AtomicU64};

// Nobody uses what fills the lines; but a peer may scribble there, so it is atomic too.
use std::sync::atomic::{AtomicU32 as HalfFiller, AtomicU64 as Filler};

fn fill<const N: usize>() -> [Filler; N] {
    std::array::from_fn(|_| Filler::new(0))
}

/// The first cache lines of the table. Words that different sides write lie in different lines.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Control {
    pub(crate) magic: AtomicU64,
    pub(crate) slot_count: AtomicU32,
    pub(crate) seat_count: AtomicU32,
    pub(crate) cell_count: AtomicU32,
    pub(crate) store_count: AtomicU32,
    _line_0: [Filler; 13],
    /// See [`crate::Head`]. Written by every worker that claims.
    pub(crate) head: AtomicU64,
    _line_1: [Filler; 15],
    /// The position that is published next. Written by the parent.
    pub(crate) tail: AtomicU64,
    /// The head position at which the parent wants to be woken.
    pub(crate) refill_at: AtomicU64,
    /// Not zero once the pool ends.
    pub(crate) stopping: AtomicU32,
    /// How many workers may sleep though tasks are ready; 0 if each ready task wakes one.
    pub(crate) spare: AtomicU32,
    _line_2: [Filler; 13],
    /// The top of the done stack as index + 1; 0 is empty.
    pub(crate) done: AtomicU32,
    /// The futex word that the parent sleeps on: 1 while it sleeps or means to.
    pub(crate) bell: AtomicU32,
    _line_3: [Filler; 15],
    /// Owner + 1 of the one idle worker that spins, or 0.
    pub(crate) spinner: AtomicU32,
    _pad_4: HalfFiller,
    _line_4: [Filler; 15],
    /// One bit for each seat whose worker sleeps or means to.
    pub(crate) sleepers: [AtomicU64; SEAT_COUNT_MAX / 64],
}

/// `millpond`, then the layout's version.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"mlpnd\0\x01\0");

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            magic: AtomicU64::new(0),
            slot_count: AtomicU32::new(0),
            seat_count: AtomicU32::new(0),
            cell_count: AtomicU32::new(0),
            store_count: AtomicU32::new(0),
            _line_0: fill(),
            head: AtomicU64::new(0),
            _line_1: fill(),
            tail: AtomicU64::new(0),
            refill_at: AtomicU64::new(0),
            stopping: AtomicU32::new(0),
            spare: AtomicU32::new(0),
            _line_2: fill(),
            done: AtomicU32::new(0),
            bell: AtomicU32::new(0),
            _line_3: fill(),
            spinner: AtomicU32::new(0),
            _pad_4: HalfFiller::new(0),
            _line_4: fill(),
            sleepers: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}
