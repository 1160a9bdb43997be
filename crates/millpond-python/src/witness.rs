//! What proves that a flat list or tuple of atoms is what it was.
//!
//! Short ones, and those with atoms that have an identity, are proved by references that are saved.
//! The array of a long one of numbers is write-tracked where the kernel can: an array of which no
//! page was written holds what it held, and the list itself keeps its items alive, so nothing needs
//! to be saved but the items on the partial pages at both ends.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use millpond_sys::write_tracking::{Drops, Tracked, WriteTracker};

use crate::items::Items;
use crate::saved::{self, SavedAtoms};

/// Bytes of an array from which on it is tracked. To compare a shorter one takes less than 0.1 ms,
/// and each tracked range costs the kernel a mapping of its own.
const TRACKED_LEN_MIN: usize = 1 << 20;

/// The environment variable that forces comparison, by the value "0".
const SWITCH: &str = "MILLPOND_WRITE_TRACKING";

/// The proof of one list or tuple.
pub(crate) enum Witness {
    /// Its atoms.
    Saved(SavedAtoms),
    /// Its tracked array, and the atoms that are not on whole pages.
    Tracked { start: usize, len: usize, tracked: Tracked, head: SavedAtoms, tail: SavedAtoms },
}

/// By what a flat list or tuple is found again: its length, and two addresses. It proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FlatKey(usize, [usize; 2]);

impl FlatKey {
    /// Returns the keys that items may have: saved, and tracked.
    pub(crate) fn of(items: &Items<'_>) -> [Self; 2] {
        let array = items.as_slice();
        [Self(array.len(), saved::ends(array)), Self(array.len(), [array.as_ptr().addr(); 2])]
    }
}

impl Witness {
    /// Returns what [`FlatKey::of`] gives for the items, among others.
    pub(crate) fn key(&self) -> FlatKey {
        match self {
            Self::Saved(saved) => FlatKey(saved.len(), saved.ends()),
            Self::Tracked { start, len, .. } => FlatKey(*len, [*start; 2]),
        }
    }

    /// Begins to track the array of numbers of `items`, if it is long enough and the kernel can.
    /// What is read after this call is what is proved; so call it before.
    pub(crate) fn track(tracking: &Tracking, items: &Items<'_>) -> Option<Self> {
        let array = items.as_slice();
        if size_of_val(array) < TRACKED_LEN_MIN {
            return None;
        }
        let start = array.as_ptr().addr();
        let tracked = tracking.tracker()?.track(start, size_of_val(array), Drops::Never).ok()?;
        let item_len = size_of_val(&array[0]);
        let head_len = (tracked.start() - start).div_ceil(item_len);
        let tail_at = (tracked.end() - start) / item_len;
        let head = SavedAtoms::of(&array[..head_len])?;
        let tail = SavedAtoms::of(&array[tail_at..])?;
        Some(Self::Tracked { start, len: array.len(), tracked, head, tail })
    }

    /// Returns the number of atoms that are kept alive.
    pub(crate) fn saved_count(&self) -> usize {
        match self {
            Self::Saved(saved) => saved.len(),
            Self::Tracked { head, tail, .. } => head.len() + tail.len(),
        }
    }

    /// Tells whether the kernel watches over it.
    pub(crate) fn is_tracked(&self) -> bool {
        matches!(self, Self::Tracked { .. })
    }

    /// Saves the atoms of `items`; None if there is anything else.
    pub(crate) fn save(items: &Items<'_>) -> Option<Self> {
        saved::save(items).map(Self::Saved)
    }

    /// Tells whether `items` are what was tracked or saved.
    pub(crate) fn holds(&self, items: &Items<'_>) -> bool {
        let array = items.as_slice();
        #[cfg(canary = "credulous-witness")]
        return true;
        match self {
            Self::Saved(saved) => saved.equals(array),
            Self::Tracked { start, len, tracked, head, tail } => {
                *start == array.as_ptr().addr()
                    && *len == array.len()
                    && head.equals(&array[..head.len()])
                    && tail.equals(&array[array.len() - tail.len()..])
                    && !tracked.is_written()
            }
        }
    }
}

/// A share in this process's tracker, kept for as long as a pool or worker may want it again: it
/// holds two descriptors.
#[derive(Default)]
pub(crate) struct Tracking(Mutex<Option<Arc<WriteTracker>>>);

impl Tracking {
    /// Returns the tracker, unless there is none or it is not wanted.
    pub(crate) fn tracker(&self) -> Option<Arc<WriteTracker>> {
        if std::env::var_os(SWITCH).is_some_and(|value| value == "0") {
            return None;
        }
        let tracker = shared_tracker();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&tracker);
        tracker
    }
}

/// Pools of one process share its tracker, which knows where their ranges overlap. A forked child
/// makes one of its own.
fn shared_tracker() -> Option<Arc<WriteTracker>> {
    static SHARED: Mutex<Weak<WriteTracker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tracker) = shared.upgrade()
        && tracker.is_here()
    {
        return Some(tracker);
    }
    let tracker = WriteTracker::new().ok()?;
    *shared = Arc::downgrade(&tracker);
    Some(tracker)
}
