//! A heavy part: what lies in the store, and what proves that a live object is the one that was
//! stored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond_engine::StoreId;

use super::record::Record;
use crate::items::Items;
use crate::witness::Witness;

/// A part that lies in the store.
pub(crate) struct Part {
    /// Where the root was last seen. It tells which part to compare with first, and proves nothing.
    pub(super) address_hint: usize,
    pub(super) is_list: bool,
    /// What proves it unchanged; None for a part that serves one task.
    pub(super) witness: Option<Witness>,
    /// Address and position of atoms that pickle memoizes.
    pub(super) memoized: HashMap<usize, u32>,
    pub(crate) id: StoreId,
    /// Its size in bytes in a pickle, about.
    pub(super) counted_len: u64,
    pub(super) stored_len: u64,
    pub(super) record: Arc<Record>,
    last_used: Mutex<Instant>,
}

impl Part {
    #[allow(clippy::too_many_arguments, reason = "it has so many fields")]
    pub(super) fn new(
        address_hint: usize,
        is_list: bool,
        witness: Option<Witness>,
        memoized: HashMap<usize, u32>,
        id: StoreId,
        counted_len: u64,
        stored_len: u64,
        record: Arc<Record>,
    ) -> Self {
        let last_used = Mutex::new(Instant::now());
        Self {
            address_hint,
            is_list,
            witness,
            memoized,
            id,
            counted_len,
            stored_len,
            record,
            last_used,
        }
    }

    /// Proves that these items are those that were stored.
    pub(super) fn is(&self, items: &Items<'_>) -> bool {
        self.is_list == items.is_list
            && self.witness.as_ref().is_some_and(|witness| witness.holds(items))
    }

    pub(super) fn touch(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn unused_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(
            *self.last_used.lock().unwrap_or_else(PoisonError::into_inner),
        )
    }
}
