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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::sync::AtomicU64;
    use crate::table::HeapTable;

    const POSITION_END: u64 = 1 << 48;
    const SLOT_COUNT_MAX: usize = 1 << 16;
    const EDGE_TURNS: [u64; 5] = [0, 1, 0x55_5555_5555, (1 << 40) - 2, (1 << 40) - 1];

    fn heap(slot_count: u32) -> HeapTable {
        HeapTable::new(Layout { slot_count, seat_count: 1, store_count: 1 })
    }

    /// Returns the index of the cell that a position means.
    fn index(table: Table<'_>, position: u64) -> usize {
        let cell = std::ptr::from_ref(table.cell(position)).addr();
        (cell - table.cells.as_ptr().addr()) / size_of::<AtomicU64>()
    }

    #[test]
    fn every_position_means_a_cell_of_the_ring_whatever_its_length() {
        let heap = heap(1);
        let cells: Vec<_> = (0..SLOT_COUNT_MAX * 4).map(|_| AtomicU64::new(0)).collect();
        for slot_count in 1..=SLOT_COUNT_MAX {
            let count = slot_count * 4;
            let table = Table { cells: &cells[..count], ..heap.table() };
            let lap = count as u64;
            for edge in [lap, 2 * lap, 3 * lap, POSITION_END / lap * lap, POSITION_END] {
                for position in edge - 2..edge + 2 {
                    let here = index(table, position);
                    assert!(here < count);
                    assert_eq!(index(table, position + 1), (here + 1) % count);
                    assert_eq!(index(table, position + lap - 1), (here + count - 1) % count);
                    assert_eq!(index(table, position + lap), here);
                }
            }
            // Positions that only a scribbled word can hold are in bounds too.
            for position in [0, 1, u64::MAX - lap, u64::MAX - 1, u64::MAX] {
                assert!(index(table, position) < count);
            }
        }
    }

    #[test]
    fn no_two_positions_of_a_lap_share_a_cell_also_where_they_wrap() {
        let heap = heap(1);
        let cells: Vec<_> = (0..SLOT_COUNT_MAX * 4).map(|_| AtomicU64::new(0)).collect();
        for power in 0..=16 {
            let count = 4usize << power;
            let table = Table { cells: &cells[..count], ..heap.table() };
            let lap = count as u64;
            let starts = [0, 1, lap - 1, lap, POSITION_END - 1, POSITION_END - lap / 2];
            for start in starts.into_iter().chain([u64::MAX, u64::MAX - lap / 2]) {
                let mut seen = vec![false; count];
                for step in 0..lap {
                    let here = index(table, start.wrapping_add(step));
                    assert!(!std::mem::replace(&mut seen[here], true), "{count}: {start} + {step}");
                }
            }
        }
    }

    #[test]
    fn a_head_keeps_every_epoch_and_position_apart() {
        for epoch in 0..=u64::from(u16::MAX) {
            for position in [0, 1, POSITION_END / 2, POSITION_END - 2, POSITION_END - 1] {
                let head = Head::new(epoch, position);
                assert_eq!((head.epoch(), head.position()), (epoch, position));
                assert_eq!(head.bits(), epoch << 48 | position);
                // The epoch after the last is the first; a position before the first is the last.
                let (later, before) = (epoch + 1, position.wrapping_sub(1));
                assert_eq!(Head::new(later, position).epoch(), later % (1 << 16));
                assert_eq!(Head::new(later, position).position(), position);
                assert_eq!(Head::new(epoch, before).position(), before % POSITION_END);
                assert_eq!(Head::new(epoch, before).epoch(), epoch);
                assert_eq!(Head::new(epoch, position + 1).epoch(), epoch);
            }
        }
    }

    #[test]
    fn a_cell_gives_back_every_slot_by_edge_turns() {
        let heap = heap(1);
        let table = heap.table();
        for turn in EDGE_TURNS {
            for slot in 0..SLOT_COUNT_MAX as u32 {
                table.cell(5).store(pack(slot, turn), Ordering::Relaxed);
                assert_eq!(table.read_cell(5), (slot, turn));
            }
        }
    }

    /// Sets a ring up as if it had come to `position`, in the last epoch but one.
    fn at(heap: &HeapTable, position: u64) -> Table<'_> {
        let table = heap.table();
        table.control.head.store(Head::new(0xfffe, position).bits(), Ordering::Relaxed);
        table.control.tail.store(position, Ordering::Relaxed);
        table
    }

    /// Where rings begin: at their first lap, around laps, and a last lap before positions end.
    fn starts(slot_count: u32) -> impl Iterator<Item = u64> {
        let lap = u64::from(slot_count) * 4;
        let edges = [lap, 2 * lap, 1 << 32, POSITION_END - 5 * lap];
        edges.into_iter().flat_map(move |edge| [edge, edge + 1, edge + lap / 2, edge + lap - 1])
    }

    #[test]
    fn tasks_come_in_their_order_for_laps_wherever_the_ring_begins() {
        for slot_count in [1, 2, 3, 4, 5, 8, 64] {
            let heap = heap(slot_count);
            for start in starts(slot_count) {
                let table = at(&heap, start);
                let mut next = start;
                for turn in 1..=13 {
                    for slot in (0..slot_count).rev() {
                        assert_eq!(table.publish(slot, turn), Some(next));
                        next += 1;
                    }
                    for slot in (0..slot_count).rev() {
                        let claim = table.claim(Owner(0)).unwrap().expect("a task is ready");
                        assert_eq!((claim.slot, claim.turn), (slot, turn));
                    }
                    assert!(table.claim(Owner(0)).unwrap().is_none());
                    assert_eq!((table.head_position(), table.tail_position()), (next, next));
                }
            }
        }
    }

    /// Withdrawn tasks leave stale cells behind one that waits.
    #[test]
    fn a_ring_takes_half_of_its_cells_and_refuses_the_next_wherever_it_begins() {
        for slot_count in [2, 3, 4, 5, 8, 64] {
            let heap = heap(slot_count);
            let half = u64::from(slot_count) * 2;
            for start in starts(slot_count) {
                let table = at(&heap, start);
                assert!(table.publish(0, 1).is_some());
                for turn in 1..half {
                    assert_eq!(table.publish(1, turn), Some(start + turn));
                }
                assert!(table.publish(1, half).is_none() && !table.has_room());
                let claims =
                    [(); 2].map(|()| table.claim(Owner(0)).unwrap().map(|x| (x.slot, x.turn)));
                assert_eq!(claims, [Some((0, 1)), Some((1, half - 1))]);
                assert!(table.claim(Owner(0)).unwrap().is_none() && table.has_room());
            }
        }
    }

    /// The first position is a lap up: there is one before it for each cell.
    #[test]
    fn a_ring_takes_a_task_given_back_for_each_of_its_cells_and_refuses_the_next() {
        for slot_count in [1, 2, 3, 4, 5, 8, 64] {
            let made = heap(slot_count);
            let old = heap(slot_count);
            let lap = u64::from(slot_count) * 4;
            let begun = starts(slot_count).map(|start| at(&old, start));
            for table in std::iter::once(made.table()).chain(begun) {
                let start = table.head_position();
                for turn in 1..=lap {
                    table.slots[0].fill(turn);
                    assert!(table.push_front(0, turn));
                    assert_eq!(table.head_position(), start - turn);
                }
                assert!(!table.push_front(0, lap + 1));
                let claim = table.claim(Owner(0)).unwrap().expect("the last is ready");
                assert_eq!((claim.slot, claim.turn), (0, lap));
                assert!(table.claim(Owner(0)).unwrap().is_none());
                assert_eq!(table.head_position(), start);
            }
        }
    }
}
