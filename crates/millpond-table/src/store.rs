//! The directory of the object store: where a stored part lies, by its id.

use crate::sync::{AtomicU64, Ordering};
use crate::table::Table;

/// The id of a stored part: an entry and the entry's turn, so that a reused entry is another id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StoreId {
    /// Index of the entry.
    pub entry: u32,
    /// The entry's turn when the part was stored.
    pub turn: u64,
}

/// Where a stored part lies in the parent's arena, as the directory says: unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredAt {
    /// Offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// How the bytes are to be read; the language front gives it its meaning.
    pub kind: u64,
}

/// What workers count for each part, by index.
pub const PART_COUNTS: usize = 5;

/// One entry of the directory, written by the parent only, but for the counts.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct StoreEntry {
    turn: AtomicU64,
    offset: AtomicU64,
    len: AtomicU64,
    kind: AtomicU64,
    /// Written by workers, and only shown to people: nothing rests on what they say.
    counts: [AtomicU64; PART_COUNTS],
}

impl StoreEntry {
    pub(crate) fn new() -> Self {
        Self {
            turn: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            len: AtomicU64::new(0),
            kind: AtomicU64::new(0),
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Table<'_> {
    /// Parent: lists a part under an entry that holds none, and returns its id.
    #[must_use]
    pub fn store_list(&self, entry: u32, at: StoredAt) -> StoreId {
        let place = &self.store[entry as usize];
        let turn = place.turn.load(Ordering::Relaxed).wrapping_add(1);
        place.offset.store(at.offset, Ordering::Relaxed);
        place.len.store(at.len, Ordering::Relaxed);
        place.kind.store(at.kind, Ordering::Relaxed);
        for count in &place.counts {
            count.store(0, Ordering::Relaxed);
        }
        kill_point!("parent.store.described");
        // SYNC: store-entry. Release pairs with the Acquire of `store_find`.
        place.turn.store(turn, Ordering::Release);
        StoreId { entry, turn }
    }

    /// Parent: takes a part off the list; its id finds nothing from here on.
    pub fn store_unlist(&self, id: StoreId) {
        self.store[id.entry as usize].turn.store(id.turn.wrapping_add(1), Ordering::Release);
    }

    /// Worker: adds to one of a part's counts, while a task that names it is out.
    pub fn count_part(&self, id: StoreId, index: usize, more: u64) {
        if let Some(place) = self.store.get(id.entry as usize)
            && place.turn.load(Ordering::Relaxed) == id.turn
            && let Some(count) = place.counts.get(index)
        {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Parent: returns what workers have counted for the part in an entry.
    #[must_use]
    pub fn part_counts(&self, entry: u32) -> [u64; PART_COUNTS] {
        let counts = &self.store[entry as usize].counts;
        std::array::from_fn(|index| counts[index].load(Ordering::Relaxed))
    }

    /// Finds a part by its id, or `None` if it is no longer listed.
    ///
    /// A worker asks during a task that names the part; the parent keeps the part listed as long as
    /// such a task is out, so a part that was found stays.
    #[must_use]
    pub fn store_find(&self, id: StoreId) -> Option<StoredAt> {
        let place = self.store.get(id.entry as usize)?;
        // SYNC: store-entry.
        if place.turn.load(Ordering::Acquire) != id.turn {
            return None;
        }
        Some(StoredAt {
            offset: place.offset.load(Ordering::Relaxed),
            len: place.len.load(Ordering::Relaxed),
            kind: place.kind.load(Ordering::Relaxed),
        })
    }
}
