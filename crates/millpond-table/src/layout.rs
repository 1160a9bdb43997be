//! Where each part of the table lies in its memory.

use crate::control::Control;
use crate::seat::Seat;
use crate::slot::Slot;
use crate::store::StoreEntry;

/// Slots of a table: unclaimed tasks hold at most 64 KiB of pickles, so about 1 600 of the smallest,
/// and each of up to 1 024 workers holds one more; the rest are results on their way back.
pub const SLOT_COUNT: u32 = 4096;

/// The most workers that a pool can have; fewer in models, which look at each word of sleepers.
pub const SEAT_COUNT_MAX: usize = if cfg!(any(loom, shuttle)) { 64 } else { 1024 };

/// Parts that the object store lists at a time.
pub const STORE_COUNT: u32 = 1024;

/// Cells of the ready ring for each slot: half of the ring stays free for tasks that are given back.
const CELLS_PER_SLOT: u32 = 4;

/// Sizes and offsets in bytes of a table's parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Number of slots.
    pub slot_count: u32,
    /// Number of seats, 1 to [`SEAT_COUNT_MAX`].
    pub seat_count: u32,
    /// Number of entries in the store's directory.
    pub store_count: u32,
}

impl Layout {
    /// Returns the layout of a table for up to `seat_count` workers.
    #[must_use]
    pub fn new(seat_count: u32) -> Self {
        Self {
            slot_count: SLOT_COUNT,
            seat_count: seat_count.clamp(1, SEAT_COUNT_MAX as u32),
            store_count: STORE_COUNT,
        }
    }

    /// Returns the number of cells in the ready ring.
    #[must_use]
    pub const fn cell_count(&self) -> u32 {
        self.slot_count * CELLS_PER_SLOT
    }

    pub(crate) const fn seats_at(&self) -> usize {
        size_of::<Control>()
    }

    pub(crate) const fn slots_at(&self) -> usize {
        self.seats_at() + self.seat_count as usize * size_of::<Seat>()
    }

    pub(crate) const fn cells_at(&self) -> usize {
        self.slots_at() + self.slot_count as usize * size_of::<Slot>()
    }

    pub(crate) const fn store_at(&self) -> usize {
        (self.cells_at() + self.cell_count() as usize * 8).next_multiple_of(128)
    }

    /// Returns the size of the whole table in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.store_at() + self.store_count as usize * size_of::<StoreEntry>()
    }
}

#[cfg(not(any(loom, shuttle)))]
const _: () = {
    assert!(size_of::<Slot>() == 256);
    assert!(size_of::<Seat>() == 128 + 16 * crate::lease::LEASE_COUNT);
    assert!(size_of::<Seat>().is_multiple_of(128));
    assert!(size_of::<StoreEntry>() == 128);
    assert!(size_of::<Control>().is_multiple_of(128));
    assert!(align_of::<Control>() == 128);
    assert!(std::mem::offset_of!(Control, head) == 128);
    assert!(std::mem::offset_of!(Control, tail) == 256);
    assert!(std::mem::offset_of!(Control, done) == 384);
    assert!(std::mem::offset_of!(Control, spinner) == 512);
    assert!(std::mem::offset_of!(Control, sleepers) == 640);
    // A cell packs a slot's index into 16 bits.
    assert!(SLOT_COUNT <= 1 << 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as a cell can name.
    const SLOT_COUNT_MAX: u32 = 1 << 16;

    fn check(layout: Layout) {
        let Layout { slot_count, seat_count, store_count } = layout;
        let len = |count: u32, size: usize| count as usize * size;
        // Each part's start, length and alignment, in their order.
        let parts = [
            (0, size_of::<Control>(), align_of::<Control>()),
            (layout.seats_at(), len(seat_count, size_of::<Seat>()), align_of::<Seat>()),
            (layout.slots_at(), len(slot_count, size_of::<Slot>()), align_of::<Slot>()),
            (layout.cells_at(), len(slot_count, 8 * 4), 8),
            (layout.store_at(), len(store_count, size_of::<StoreEntry>()), 128),
        ];
        let mut end = 0;
        for (start, len, align) in parts {
            assert!(start >= end, "a part at {start} begins before {end}: {layout:?}");
            assert!(start - end < 128, "{} bytes are lost: {layout:?}", start - end);
            assert!(start.is_multiple_of(align), "a part at {start}: {layout:?}");
            end = start + len;
        }
        assert_eq!(end, layout.size(), "{layout:?}");
    }

    #[test]
    fn parts_are_ordered_aligned_and_apart_for_every_slot_count() {
        for slot_count in 1..=SLOT_COUNT_MAX {
            for seat_count in [1, 2, 3, SEAT_COUNT_MAX as u32] {
                for store_count in [0, 1, STORE_COUNT] {
                    check(Layout { slot_count, seat_count, store_count });
                }
            }
        }
    }

    #[test]
    fn parts_are_ordered_aligned_and_apart_for_every_seat_count_that_can_be_asked_for() {
        for asked in 0..=SEAT_COUNT_MAX as u32 + 1 {
            let layout = Layout::new(asked);
            assert!((1..=SEAT_COUNT_MAX as u32).contains(&layout.seat_count));
            check(layout);
            for slot_count in [1, SLOT_COUNT_MAX] {
                check(Layout { slot_count, ..layout });
            }
        }
        check(Layout::new(u32::MAX));
    }

    #[test]
    fn a_cell_has_room_for_every_slot_and_the_count_of_cells_for_its_word() {
        for slot_count in 1..=SLOT_COUNT_MAX {
            let layout = Layout { slot_count, ..Layout::new(1) };
            assert_eq!(u64::from(layout.cell_count()), u64::from(slot_count) * 4);
        }
    }
}
