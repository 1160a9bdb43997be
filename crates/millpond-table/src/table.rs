//! A view of a table, over mapped memory or over the heap.
#![allow(unsafe_code, reason = "attaching turns mapped memory into references")]

use crate::control::{Control, MAGIC};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::seat::Seat;
use crate::slot::Slot;
use crate::store::StoreEntry;
use crate::sync::{AtomicU64, Ordering};

/// A view of the shared structures. It is a handful of references, so it is copied freely; the
/// operations on it are spread over the files of this crate, one structure each.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub(crate) control: &'a Control,
    pub(crate) seats: &'a [Seat],
    pub(crate) slots: &'a [Slot],
    pub(crate) cells: &'a [AtomicU64],
    pub(crate) store: &'a [StoreEntry],
}

impl<'a> Table<'a> {
    /// Makes a table in zeroed shared memory and returns a view of it.
    ///
    /// # Safety
    /// * `memory` is valid for reads and writes of `layout.size()` bytes for `'a`, is aligned to 128
    ///   bytes, and is all zero.
    /// * No one uses it other than through this crate for `'a`.
    ///
    /// All types in the table are valid for every bit pattern, so a peer that scribbles cannot make
    /// a reference invalid.
    #[must_use]
    pub unsafe fn create(memory: *mut u8, layout: Layout) -> Self {
        // SAFETY: the caller's duties are the same.
        let table = unsafe { Self::view(memory, layout) };
        let control = table.control;
        control.slot_count.store(layout.slot_count, Ordering::Relaxed);
        control.seat_count.store(layout.seat_count, Ordering::Relaxed);
        control.cell_count.store(layout.cell_count(), Ordering::Relaxed);
        control.store_count.store(layout.store_count, Ordering::Relaxed);
        table.start();
        control.magic.store(MAGIC, Ordering::Release);
        table
    }

    /// Returns a view of a table that another process has made.
    ///
    /// # Errors
    /// If the memory does not hold a table of just this layout.
    ///
    /// # Safety
    /// As for [`Self::create`], but for the zeros.
    pub unsafe fn attach(memory: *mut u8, layout: Layout) -> Result<Self> {
        // SAFETY: the caller's duties are the same.
        let table = unsafe { Self::view(memory, layout) };
        let control = table.control;
        if control.magic.load(Ordering::Acquire) != MAGIC {
            return Err(Error::not_a_table("its first word is another"));
        }
        let found = (
            control.slot_count.load(Ordering::Relaxed),
            control.seat_count.load(Ordering::Relaxed),
            control.cell_count.load(Ordering::Relaxed),
            control.store_count.load(Ordering::Relaxed),
        );
        let wanted =
            (layout.slot_count, layout.seat_count, layout.cell_count(), layout.store_count);
        if found != wanted {
            return Err(Error::not_a_table("its counts are others than the parent gave"));
        }
        Ok(table)
    }

    unsafe fn view(memory: *mut u8, layout: Layout) -> Self {
        debug_assert!(memory.addr().is_multiple_of(128), "a table is aligned to 128 bytes");
        // SAFETY: the caller vouches for `layout.size()` bytes; the offsets lie within, each part is
        // a multiple of its alignment away from the start (asserted in layout.rs), and every type
        // here is made of atomics and bytes, valid for any content.
        unsafe {
            Self {
                control: &*memory.cast::<Control>(),
                seats: std::slice::from_raw_parts(
                    memory.add(layout.seats_at()).cast::<Seat>(),
                    layout.seat_count as usize,
                ),
                slots: std::slice::from_raw_parts(
                    memory.add(layout.slots_at()).cast::<Slot>(),
                    layout.slot_count as usize,
                ),
                cells: std::slice::from_raw_parts(
                    memory.add(layout.cells_at()).cast::<AtomicU64>(),
                    layout.cell_count() as usize,
                ),
                store: std::slice::from_raw_parts(
                    memory.add(layout.store_at()).cast::<StoreEntry>(),
                    layout.store_count as usize,
                ),
            }
        }
    }

    /// Sets the positions: they begin a lap up, so that a task that is given back at once has a
    /// position before the first.
    fn start(&self) {
        let first = self.cells.len() as u64;
        self.control.head.store(crate::ring::Head::new(0, first).bits(), Ordering::Relaxed);
        self.control.tail.store(first, Ordering::Relaxed);
        self.control.refill_at.store(u64::MAX, Ordering::Relaxed);
    }

    /// Returns the slot with this index.
    ///
    /// # Panics
    /// If there is no such slot; indices that a peer wrote are checked where they are read.
    #[must_use]
    pub fn slot(&self, index: u32) -> &'a Slot {
        &self.slots[index as usize]
    }

    /// Returns the number of slots.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Returns all seats.
    #[must_use]
    pub fn seats(&self) -> &'a [Seat] {
        self.seats
    }

    /// Returns the number of entries in the store's directory.
    #[must_use]
    pub fn store_count(&self) -> u32 {
        self.store.len() as u32
    }
}

/// A table on the heap, for models and tests: threads take the place of processes.
#[derive(Debug)]
pub struct HeapTable {
    control: Box<Control>,
    seats: Vec<Seat>,
    slots: Vec<Slot>,
    cells: Vec<AtomicU64>,
    store: Vec<StoreEntry>,
}

impl HeapTable {
    /// Makes a table of this layout.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let made = Self {
            control: Box::new(Control::new()),
            seats: (0..layout.seat_count).map(|_| Seat::new()).collect(),
            slots: (0..layout.slot_count).map(|_| Slot::new()).collect(),
            cells: (0..layout.cell_count()).map(|_| AtomicU64::new(0)).collect(),
            store: (0..layout.store_count).map(|_| StoreEntry::new()).collect(),
        };
        made.table().start();
        made
    }

    /// Returns a view of it.
    #[must_use]
    pub fn table(&self) -> Table<'_> {
        Table {
            control: &self.control,
            seats: &self.seats,
            slots: &self.slots,
            cells: &self.cells,
            store: &self.store,
        }
    }
}
