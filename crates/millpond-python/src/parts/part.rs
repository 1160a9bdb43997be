//! A heavy part: what lies in the store, and what proves that live objects are those that were
//! stored.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use millpond_engine::StoreId;
use pyo3::prelude::*;

use super::record::Record;
use crate::graph::Proof;
use crate::items::Items;
use crate::saved::Positions;
use crate::witness::Witness;

/// Bytes of an atom and of the reference that keeps it alive, about.
const ATOM_LEN: u64 = 48;

/// A part that lies in the store: one object, or several that share nodes.
pub(crate) struct Part {
    /// Where the roots were when they were stored. An address tells which part to compare with first,
    /// and proves nothing.
    pub(super) roots: Vec<usize>,
    pub(super) evidence: Evidence,
    pub(crate) id: StoreId,
    /// Its size in bytes in a pickle, about.
    pub(super) counted_len: u64,
    pub(super) stored_len: u64,
    pub(super) record: Arc<Record>,
}

/// What proves a part unchanged, and what in it has an identity.
pub(crate) enum Evidence {
    /// Nothing: it serves one task.
    Once,
    /// A list or tuple of atoms; address and position of those that pickle memoizes.
    Flat { is_list: bool, witness: Witness, memoized: Positions },
    /// Any graph; address and number in pickle's memo of its nodes, made when first asked for.
    Graph { proof: Box<Proof>, memo: OnceLock<HashMap<usize, u32>> },
}

impl Part {
    pub(super) fn new(
        roots: Vec<usize>,
        evidence: Evidence,
        id: StoreId,
        counted_len: u64,
        stored_len: u64,
        record: Arc<Record>,
    ) -> Self {
        Self { roots, evidence, id, counted_len, stored_len, record }
    }

    /// Proves that these are the roots that were stored, in their order.
    pub(super) fn is(&self, py: Python<'_>, roots: &[&Bound<'_, PyAny>]) -> bool {
        match (&self.evidence, roots) {
            (Evidence::Flat { is_list, witness, .. }, [root]) => Items::of(root)
                .is_some_and(|items| items.is_list == *is_list && witness.holds(&items)),
            (Evidence::Graph { proof, .. }, roots) => proof.holds(py, roots),
            _ => false,
        }
    }

    /// Tells whether the part holds anything that another part or the stream could refer to, beside
    /// its root.
    pub(super) fn has_inner(&self) -> bool {
        match &self.evidence {
            Evidence::Once => false,
            Evidence::Flat { memoized, .. } => !memoized.is_empty(),
            Evidence::Graph { .. } => true,
        }
    }

    /// Tells whether an object at this address is a node of the part, or an atom that has an identity.
    pub(super) fn contains(&self, address: usize) -> bool {
        match &self.evidence {
            Evidence::Once => false,
            Evidence::Flat { memoized, .. } => memoized.contains_key(&address),
            Evidence::Graph { proof, .. } => proof.addresses().binary_search(&address).is_ok(),
        }
    }

    /// Tells whether two parts have an object in common.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        match (&self.evidence, &other.evidence) {
            (Evidence::Once, _) | (_, Evidence::Once) => false,
            (Evidence::Graph { proof: one, .. }, Evidence::Graph { proof: two, .. }) => {
                let (one, two) = (one.addresses(), two.addresses());
                let (few, many) = if one.len() < two.len() { (one, two) } else { (two, one) };
                // Both are sorted, so the search goes on where it stopped.
                let mut rest = many;
                few.iter().any(|address| {
                    rest = &rest[rest.partition_point(|known| known < address)..];
                    rest.first() == Some(address)
                })
            }
            (Evidence::Flat { memoized, .. }, _) => memoized.keys().any(|at| other.contains(*at)),
            (_, Evidence::Flat { memoized, .. }) => memoized.keys().any(|at| self.contains(*at)),
        }
    }

    /// Returns the bytes that are held for this part, about: what is stored, what proves it, and the
    /// atoms that are kept alive by that.
    pub(super) fn held_len(&self) -> u64 {
        let atoms = match &self.evidence {
            Evidence::Once => 0,
            Evidence::Flat { witness, .. } => witness.saved_count(),
            Evidence::Graph { proof, .. } => proof.word_count() / 6 + proof.atom_count(),
        };
        self.stored_len + atoms as u64 * ATOM_LEN
    }
}
