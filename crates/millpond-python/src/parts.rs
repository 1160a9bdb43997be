//! Heavy parts, parent's side: which there are, whether they have changed, and the ids they have in
//! the store.
//!
//! * [`Candidates`] is what a search through a task finds.
//! * [`Parts`] are the parts that are kept for a next dispatch, and their records.
//! * [`Plan`] is what one dispatch names; it is made by [`Parts::plan`] in `make.rs`.
//! * [`PartHook`] is the pickler's hook that names the parts.

mod cache;
mod flat;
mod hook;
mod kept;
mod make;
mod memo;
mod part;
mod plan;
mod record;
mod search;

pub(crate) use hook::PartHook;
pub(crate) use kept::Parts;
pub(crate) use record::{Record, Row, count};
pub(crate) use search::Candidates;

use pyo3::prelude::*;

use crate::graph;
use crate::pack::{PLAIN_COUNT_MAX, is_plain};

/// Items from which on a flat list or tuple of atoms is a heavy part. Below it, its pickle of some
/// kilobytes is made and loaded in the time that the store's bookkeeping takes.
pub(crate) const HEAVY_LEN_MIN: usize = 2048;

/// Bytes of a text from which on it is a heavy part by itself.
pub(crate) const LONG_TEXT_LEN: usize = HEAVY_LEN_MIN * graph::TEXT_LEN;

/// Index in a persistent id that stands for the whole of a part that no other task will name.
pub(crate) const WHOLE_ONCE: i64 = -1;

/// Index in a persistent id that stands for the first root of a part; lower ones for the others.
pub(crate) const ROOT_FIRST: i64 = -2;

/// Index in a persistent id that stands for a value that is shared by the user's word.
pub(crate) const SHARED: i64 = i64::MIN;

/// Entry and turn of a part, which of its copies, and the index of a node in it, or what stands for
/// a root.
pub(crate) type PersistentId = (u32, u64, u32, i64);

/// What workers count for each part: indices of `millpond_engine::PartCounts`.
pub(crate) mod counted {
    pub(crate) const LOADED: usize = 0;
    pub(crate) const LOADED_NS: usize = 1;
    pub(crate) const PROVED: usize = 2;
    pub(crate) const PROVED_NS: usize = 3;
    pub(crate) const CHANGED: usize = 4;
}

/// Makes the type of hooks, which Python would make at its first use.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<PartHook>();
}

/// Tells whether a task of this callable and these arguments is plain.
pub(crate) fn is_plain_task(objects: &[&Bound<'_, PyAny>]) -> bool {
    let mut budget = PLAIN_COUNT_MAX;
    objects.iter().all(|object| is_plain(object, &mut budget))
}
