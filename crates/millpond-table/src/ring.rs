//! The ready ring: positions in order of dispatch, each naming a slot and its turn.
//!
//! The parent alone publishes; any worker claims. The position that comes next is a hint in `head`
//! which everybody may push on, so a worker that dies between its claim and its step forward blocks
//! nobody. See README.md, "The ready ring".

use crate::error::{Error, Result};
use crate::state::{Owner, SlotWord};
use crate::sync::{Ordering, fence};
use crate::table::Table;

/// The value of `head`: a position, and an epoch that changes when the parent moves it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head(u64);

const POSITION_MASK: u64 = (1 << 48) - 1;

impl Head {
    pub(crate) const fn new(epoch: u64, position: u64) -> Self {
        Self((epoch << 48) | (position & POSITION_MASK))
    }

    /// Returns the position, in range `0..2^48`.
    #[must_use]
    pub const fn position(self) -> u64 {
        self.0 & POSITION_MASK
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    const fn epoch(self) -> u64 {
        self.0 >> 48
    }
}

/// A task that a worker has claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Index of the slot.
    pub slot: u32,
    /// The slot's turn.
    pub turn: u64,
    /// Whether the parent asked to be woken when the ring has drained this far.
    pub refill: bool,
}

fn pack(slot: u32, turn: u64) -> u64 {
    (turn << 16) | u64::from(slot)
}

impl Table<'_> {
    fn head(&self) -> Head {
        // SYNC: head. Acquire pairs with the Release of `advance` and `push_front`.
        Head(self.control.head.load(Ordering::Acquire))
    }

    /// Returns the position that will be claimed next; it may be stale at once.
    #[must_use]
    pub fn head_position(&self) -> u64 {
        self.head().position()
    }

    /// Returns the position that will be published next.
    #[must_use]
    pub fn tail_position(&self) -> u64 {
        // SYNC: tail. Acquire pairs with the Release of `publish`.
        self.control.tail.load(Ordering::Acquire)
    }

    /// Tells whether a task may be waiting in the ring.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.head().position() < self.tail_position()
    }

    /// Parent: tells whether there is room for another task and, beyond it, for all that may be tried
    /// again. Withdrawn tasks leave stale cells, which take room until the head has passed them; it does
    /// not as long as a task before them waits.
    ///
    /// Only one thread of the parent may publish or push at a time.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let tail = self.control.tail.load(Ordering::Relaxed);
        let cell_count = self.cells.len() as u64;
        // Further apart than the ring is long they are damaged, of which a publish tells.
        let has_room = || {
            let live = tail.wrapping_sub(self.head().position());
            live < cell_count / 4 || live > cell_count
        };
        has_room() || {
            self.skip_stale();
            has_room()
        }
    }

    fn cell(&self, position: u64) -> &crate::sync::AtomicU64 {
        &self.cells[(position % self.cells.len() as u64) as usize]
    }

    fn advance(&self, from: Head) {
        // SYNC: head. Release: who acquires the new head also sees the claim that went before it.
        // A failure means that somebody else has advanced, or that the parent has moved back.
        let _ = self.control.head.compare_exchange(
            from.0,
            Head::new(from.epoch(), from.position() + 1).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Parent: hands out a slot whose payload is written, behind all that were published before.
    /// Returns its position, or `None` if the ring is full, or so damaged that it seems full.
    ///
    /// Only one thread of the parent may publish or push at a time.
    #[must_use]
    pub fn publish(&self, slot: u32, turn: u64) -> Option<u64> {
        let tail = self.control.tail.load(Ordering::Relaxed);
        // Half of the ring stays empty for tasks that dead workers give back.
        let has_room = || tail.wrapping_sub(self.head().position()) < self.cells.len() as u64 / 2;
        if !has_room() {
            self.skip_stale();
            if !has_room() {
                return None;
            }
        }
        self.slots[slot as usize].fill(turn);
        kill_point!("parent.publish.word_ready");
        // SYNC: cell. Release pairs with the Acquire of `read_cell`: who reads what is written here
        // also sees that the head has left this cell's last lap.
        self.cell(tail).store(pack(slot, turn), Ordering::Release);
        kill_point!("parent.publish.cell_written");
        // SYNC: tail. Release pairs with the Acquire of `tail_position`: who sees the new tail sees
        // the cell, and the slot's word as at least READY in this turn.
        self.control.tail.store(tail.wrapping_add(1), Ordering::Release);
        Some(tail)
    }

    /// Parent: puts a ready slot before all others, for a task that a dead worker gives back; or, if
    /// its cell is still in the ring, keeps it from being stepped over. Returns false if the ring is
    /// full, or damaged.
    ///
    /// The slot's word must be READY before the head moves: a worker that finds the cell's slot not
    /// ready steps over it for good.
    #[must_use]
    pub(crate) fn push_front(&self, slot: u32, turn: u64) -> bool {
        let tail = self.control.tail.load(Ordering::Relaxed);
        // Each failure is another's step towards the tail, which stands still meanwhile.
        for _ in 0..=self.cells.len() {
            let head = self.head();
            if tail.wrapping_sub(head.position()) >= self.cells.len() as u64 {
                return false;
            }
            // The dead worker may not have stepped past its claim. A second cell for the task would
            // be stepped over in silence, so that the head reaches `refill_at` and nobody tells.
            let stands = (head.position()..tail).any(|at| self.read_cell(at) == (slot, turn));
            let position = head.position().wrapping_sub(u64::from(!stands));
            if !stands {
                // SYNC: cell. See `publish`.
                self.cell(position).store(pack(slot, turn), Ordering::Release);
                kill_point!("parent.recover.cell_written");
            }
            // The epoch makes the exchange of a worker fail that read the old head, found its cell
            // stale and is about to step over what now stands there.
            // SYNC: head. Release pairs with the Acquire of `head`.
            let moved = self.control.head.compare_exchange(
                head.0,
                Head::new(head.epoch() + 1, position).0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if moved.is_ok() {
                return true;
            }
        }
        false
    }

    /// Parent: steps over the cells at the head whose slot is not ready in the turn that they name.
    pub(crate) fn skip_stale(&self) {
        for _ in 0..self.cells.len() {
            let head = self.head();
            if head.position() >= self.tail_position() {
                return;
            }
            let (slot, turn) = self.read_cell(head.position());
            let Some(slot) = self.slots.get(slot as usize) else { return };
            if slot.word() == SlotWord::ready(turn) {
                return;
            }
            // If the cell was not of this lap the head has moved, and the exchange fails.
            self.advance(head);
        }
    }

    pub(crate) fn read_cell(&self, position: u64) -> (u32, u64) {
        // SYNC: cell. Acquire pairs with the Release of `publish` and `push_front`, and keeps the
        // second look at the head behind this load.
        let cell = self.cell(position).load(Ordering::Acquire);
        ((cell & 0xffff) as u32, cell >> 16)
    }

    /// Worker: claims the first ready task, or returns `None` if there is none.
    ///
    /// # Errors
    /// If a cell names a slot that does not exist, or head and tail are further apart than the ring
    /// is long: the shared memory is damaged.
    pub fn claim(&self, owner: Owner) -> Result<Option<Claim>> {
        loop {
            let head = self.head();
            let tail = self.tail_position();
            if head.position() >= tail {
                return Ok(None);
            }
            let (index, turn) = self.read_cell(head.position());
            // A cell is overwritten only after the head has left it. If the head has not moved, the
            // cell was read as it was written for this position; else it may belong to a position a
            // whole lap ahead, and to take it would break the order.
            if self.head() != head {
                continue;
            }
            // So that a scribbled tail does not send us round the ring for ever.
            let cell_count = self.cells.len() as u64;
            if tail - head.position() > cell_count {
                return Err(Error::damaged("ring length", tail - head.position(), cell_count));
            }
            let Some(slot) = self.slots.get(index as usize) else {
                return Err(Error::damaged("slot index", index.into(), self.slots.len() as u64));
            };
            if !slot.take(owner, turn) {
                kill_point!("worker.claim.stale_seen");
                self.advance(head);
                continue;
            }
            kill_point!("worker.claim.taken");
            self.advance(head);
            kill_point!("worker.claim.head_moved");
            // SYNC: refill. The fence pairs with the one in `ask_refill`: either the parent sees the
            // head past this position, or this load sees what the parent asked.
            fence(Ordering::SeqCst);
            let refill_at = self.control.refill_at.load(Ordering::Relaxed);
            let refill = head.position() + 1 >= refill_at;
            return Ok(Some(Claim { slot: index, turn, refill }));
        }
    }

    /// Parent: asks to be woken when the head has reached `position`; `u64::MAX` asks for nothing.
    /// Returns true if the head is already there, so that no wake will come.
    #[must_use]
    pub fn ask_refill(&self, position: u64) -> bool {
        self.control.refill_at.store(position, Ordering::Relaxed);
        // SYNC: refill. See `claim`.
        fence(Ordering::SeqCst);
        self.head().position() >= position
    }
}
