//! The parts that one dispatch names.

use std::sync::Arc;

use millpond_engine::StoreId;
use pyo3::prelude::*;

use super::part::Part;
use crate::deliver::Ticket;

/// One part that a dispatch names, with its live roots.
pub(super) struct Planned {
    pub(super) part: Arc<Part>,
    pub(super) roots: Vec<Py<PyAny>>,
    /// Tells parts apart that are equal: they share the stored bytes, and arrive as two.
    pub(super) copy: u32,
}

/// The parts that one dispatch names.
pub(crate) struct Plan {
    pub(super) parts: Vec<Planned>,
    /// Whether what was verified is surely what the pickler meets.
    pub(super) is_simple: bool,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Lets go of the parts, once the task that names them holds them, or is not published.
    pub(crate) fn let_go(&self, engine: &millpond_engine::Engine<Ticket>) {
        for planned in &self.parts {
            engine.let_go(planned.part.id);
        }
    }

    /// Returns the ids of the parts, and counts that they are sent.
    pub(crate) fn send(&self) -> Vec<StoreId> {
        for planned in &self.parts {
            planned.part.record.count_sent();
        }
        self.parts.iter().map(|planned| planned.part.id).collect()
    }

    pub(crate) fn counted_len(&self) -> u64 {
        self.parts.iter().map(|planned| planned.part.counted_len).sum()
    }
}
