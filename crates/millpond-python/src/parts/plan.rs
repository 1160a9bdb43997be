//! The parts that one dispatch names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_engine::StoreId;

use super::part::Part;
use crate::deliver::Ticket;

/// One list or tuple that a dispatch names.
pub(super) struct PlannedRoot {
    pub(super) address: usize,
    pub(super) part: Arc<Part>,
    /// Tells roots apart that are equal: they share the stored bytes, and arrive as two.
    pub(super) copy: u32,
}

/// The parts that one dispatch names.
pub(crate) struct Plan {
    pub(super) roots: Vec<PlannedRoot>,
    /// Whether what was verified is surely what the pickler meets.
    pub(super) is_simple: bool,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Lets go of the parts, once the task that names them holds them, or is not published.
    pub(crate) fn let_go(&self, engine: &millpond_engine::Engine<Ticket>) {
        for root in &self.roots {
            engine.let_go(root.part.id);
        }
    }

    pub(super) fn shares_atoms(&self, part: &Part) -> bool {
        self.roots.iter().any(|known| {
            let (few, many) = if known.part.memoized.len() < part.memoized.len() {
                (&known.part.memoized, &part.memoized)
            } else {
                (&part.memoized, &known.part.memoized)
            };
            few.keys().any(|address| many.contains_key(address))
        })
    }

    /// Returns the ids of the parts, and counts that they are sent.
    pub(crate) fn send(&self) -> Vec<StoreId> {
        for root in &self.roots {
            root.part.record.counts.sent.fetch_add(1, Ordering::Relaxed);
        }
        self.roots.iter().map(|root| root.part.id).collect()
    }

    pub(crate) fn counted_len(&self) -> u64 {
        self.roots.iter().map(|root| root.part.counted_len).sum()
    }
}
