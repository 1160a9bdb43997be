//! Leases: what one process still reads of the other's memory when the task that named it has ended.
//!
//! A worker leases a stored part before it maps it, while the task holds the part. When the last
//! holder lets go of the part, the parent looks for leases on it, and uses its memory again only when
//! there is none. A worker in its turn lends parts of its results, each under the index of a word, by
//! which the parent says that it no longer reads it.
//!
//! What a dead worker had leased is void: its mappings are gone with it.

use crate::seat::Seat;
use crate::store::StoreId;
use crate::sync::{AtomicU64, Ordering};
use crate::table::Table;

/// The most parts that a worker can lease, and the most that it can lend, at a time; fewer in models,
/// which look at each word.
pub const LEASE_COUNT: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

/// Set in the word of a lease that is taken.
const TAKEN: u64 = 1 << 63;

/// A seat's leases: taken by the worker, and given back to it.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Leases {
    /// Written by the worker: the parts that it has leased.
    taken: [AtomicU64; LEASE_COUNT],
    /// Written by the parent: the turn of the lending that it has given back, for each index.
    returned: [AtomicU64; LEASE_COUNT],
}

fn word_of(id: StoreId) -> u64 {
    TAKEN | id.turn << 16 & (TAKEN - 1) | u64::from(id.entry & 0xffff)
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            taken: std::array::from_fn(|_| AtomicU64::new(0)),
            returned: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Parent: the worker is gone, and all of its mappings with it.
    pub(crate) fn reset(&self) {
        for word in self.taken.iter().chain(&self.returned) {
            word.store(0, Ordering::Relaxed);
        }
    }
}

impl Seat {
    /// Worker: leases a part, during a task that names it. Returns the lease's index, or `None` if
    /// all are taken.
    #[must_use]
    pub fn lease(&self, id: StoreId) -> Option<usize> {
        let words = &self.leases.taken;
        let index = words.iter().position(|word| word.load(Ordering::Relaxed) == 0)?;
        // The parent looks after it has seen the task's end, whose Release comes after this.
        words[index].store(word_of(id), Ordering::Relaxed);
        Some(index)
    }

    /// Worker: no longer reads what it has leased.
    pub fn end_lease(&self, index: usize) {
        if let Some(word) = self.leases.taken.get(index) {
            // SYNC: lease. Release pairs with the Acquire of `is_leased`: what was read is read.
            word.store(0, Ordering::Release);
        }
    }

    /// Parent: no longer reads what the worker has lent under this index in this turn.
    pub fn give_back(&self, index: usize, turn: u64) {
        if let Some(word) = self.leases.returned.get(index) {
            // SYNC: lending. Release pairs with the Acquire of `was_given_back`.
            word.store(turn, Ordering::Release);
        }
    }

    /// Worker: tells whether the parent has given back what was lent under this index in this turn.
    #[must_use]
    pub fn was_given_back(&self, index: usize, turn: u64) -> bool {
        // SYNC: lending.
        self.leases.returned.get(index).is_some_and(|word| word.load(Ordering::Acquire) == turn)
    }

    fn has_leased(&self, id: StoreId) -> bool {
        let wanted = word_of(id);
        // SYNC: lease.
        self.leases.taken.iter().any(|word| word.load(Ordering::Acquire) == wanted)
    }
}

impl Table<'_> {
    /// Parent: tells whether any worker may still read a part, of which it has seen the end of every
    /// task that named it.
    #[must_use]
    pub fn is_leased(&self, id: StoreId) -> bool {
        self.is_leased_among(id, self.seats.len())
    }

    /// Parent: as [`Self::is_leased`], where only the first `count` seats have a worker: memory that was
    /// never touched is not touched by a walk over it.
    #[must_use]
    pub fn is_leased_among(&self, id: StoreId, count: usize) -> bool {
        self.seats.iter().take(count).any(|seat| seat.has_leased(id))
    }
}
