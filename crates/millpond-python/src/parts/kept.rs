//! What is remembered from one dispatch to the next: parts, and addresses.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::prelude::*;

use super::cache::Cache;
use super::part::{Evidence, Part};
use super::record::Records;
use super::search::Seen;
use crate::deliver::Ticket;
use crate::items::Items;
use crate::witness::Tracking;

/// Of how many objects it is remembered that they were seen.
const SEEN_COUNT_MAX: usize = 256;

/// Changes in a row after which an object is no longer proved, and tasks after which it is tried once
/// more.
const CHANGES_MAX: u32 = 3;
const RETRY_EVERY: u32 = 16;

pub(super) type Engine = millpond_engine::Engine<Ticket>;

/// The parts that are kept, and what was done for them and others.
pub(crate) struct Parts {
    kept: Mutex<Cache>,
    /// Addresses of heavy arguments that were sent once. That one of them comes again makes it likely
    /// that it will go on coming; it proves nothing.
    seen: Mutex<VecDeque<usize>>,
    /// Addresses of heavy objects that were found opaque.
    opaque: Mutex<VecDeque<usize>>,
    /// Addresses of objects that had changed when they came again, and how often in a row.
    changed: Mutex<VecDeque<(usize, u32)>>,
    pub(super) tracking: Tracking,
    pub(crate) records: Records,
    /// The most bytes of parts that are kept while no task names them.
    kept_len_max: u64,
    pub(crate) pickled: AtomicU64,
    pub(crate) pickled_bytes: AtomicU64,
    pub(crate) verified: AtomicU64,
    /// Parts that were write-tracked when they were stored.
    pub(crate) tracked: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers an address; returns whether it was remembered already.
fn remember(list: &Mutex<VecDeque<usize>>, address: usize) -> bool {
    let mut list = lock(list);
    if list.contains(&address) {
        return true;
    }
    if list.len() == SEEN_COUNT_MAX {
        list.pop_front();
    }
    list.push_back(address);
    false
}

impl Parts {
    pub(crate) fn new(kept_len_max: u64) -> Self {
        Self {
            kept: Mutex::default(),
            seen: Mutex::default(),
            opaque: Mutex::default(),
            changed: Mutex::default(),
            tracking: Tracking::default(),
            records: Records::default(),
            kept_len_max,
            pickled: AtomicU64::new(0),
            pickled_bytes: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            tracked: AtomicU64::new(0),
        }
    }

    /// Counts an object that went into the store.
    pub(crate) fn note_pickled(&self, len: u64) {
        self.pickled.fetch_add(1, Ordering::Relaxed);
        self.pickled_bytes.fetch_add(len, Ordering::Relaxed);
    }

    /// Counts an object that the kernel watches.
    pub(crate) fn note_tracked(&self) {
        self.tracked.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells what is remembered of an address.
    pub(crate) fn seen(&self, address: usize) -> Seen {
        if lock(&self.kept).has_root(address) {
            Seen::Part
        } else if lock(&self.opaque).contains(&address) {
            Seen::Opaque
        } else {
            Seen::Never
        }
    }

    /// Remembers that an object is opaque; returns whether that was known.
    pub(super) fn note_opaque(&self, root: &Bound<'_, PyAny>) -> bool {
        remember(&self.opaque, root.as_ptr().addr())
    }

    /// Returns whether this argument was seen before, and remembers it.
    pub(super) fn was_seen(&self, root: &Bound<'_, PyAny>) -> bool {
        remember(&self.seen, root.as_ptr().addr())
    }

    /// Returns the kept part that these live roots are, after a proof; the addresses of its roots
    /// must be among them. A part that was at the address of the first of them, and no longer is what
    /// it was, is let go.
    pub(super) fn verify<'a, 'py>(
        &self,
        engine: &Engine,
        root: &'a Bound<'py, PyAny>,
        others: &'a [&'a Bound<'py, PyAny>],
    ) -> Option<(Arc<Part>, Vec<&'a Bound<'py, PyAny>>)> {
        let py = root.py();
        let address = root.as_ptr().addr();
        let candidates = lock(&self.kept).candidates(address, Items::of(root).as_ref());
        for part in candidates {
            let begin = Instant::now();
            let is_here = part.roots.contains(&address);
            let roots: Option<Vec<_>> = if is_here {
                let find = |wanted: &usize| {
                    let mut all = std::iter::once(&root).chain(others);
                    all.find(|other| other.as_ptr().addr() == *wanted).copied()
                };
                part.roots.iter().map(find).collect()
            } else {
                Some(vec![root])
            };
            let Some(roots) = roots else { continue };
            if part.is(py, &roots) {
                let counts = &part.record.counts;
                super::record::count(&counts.verified, &counts.verified_ns, begin);
                self.verified.fetch_add(1, Ordering::Relaxed);
                lock(&self.kept).touch(&part);
                lock(&self.changed).retain(|(known, _)| *known != address);
                return Some((part, roots));
            }
            if is_here {
                // The root has changed since, or another object lies there now.
                self.forget(engine, &part);
                self.note_changed(address);
            }
        }
        None
    }

    fn note_changed(&self, address: usize) {
        let mut changed = lock(&self.changed);
        if let Some((_, times)) = changed.iter_mut().find(|(known, _)| *known == address) {
            *times += 1;
            return;
        }
        if changed.len() == SEEN_COUNT_MAX {
            changed.pop_front();
        }
        changed.push_back((address, 1));
    }

    /// Tells whether an object changes so often that to prove it is in vain. Now and then it is given
    /// another try.
    pub(super) fn changes_often(&self, root: &Bound<'_, PyAny>) -> bool {
        let address = root.as_ptr().addr();
        let mut changed = lock(&self.changed);
        let Some((_, times)) = changed.iter_mut().find(|(known, _)| *known == address) else {
            return false;
        };
        if *times < CHANGES_MAX {
            return false;
        }
        *times += 1;
        !times.is_multiple_of(RETRY_EVERY)
    }

    fn forget(&self, engine: &Engine, part: &Arc<Part>) {
        if lock(&self.kept).remove(part) {
            engine.let_go(part.id);
        }
    }

    /// Keeps a part that is held for it.
    pub(super) fn keep(&self, engine: &Engine, part: Arc<Part>) {
        let mut kept = lock(&self.kept);
        kept.insert(part);
        let evicted = kept.evict(self.kept_len_max);
        drop(kept);
        evicted.iter().for_each(|part| engine.let_go(part.id));
    }

    /// Tells whether any part is kept.
    pub(crate) fn keeps_any(&self) -> bool {
        !lock(&self.kept).is_empty()
    }

    /// Lets parts go that have not been used for a second, or all. Returns whether any are kept.
    pub(crate) fn expire(&self, engine: &Engine, all: bool) -> bool {
        let mut kept = lock(&self.kept);
        let expired = if all { kept.clear() } else { kept.expire() };
        let any_left = !kept.is_empty();
        drop(kept);
        expired.iter().for_each(|part| engine.let_go(part.id));
        any_left
    }
}

/// The evidence of a graph.
pub(super) fn graph_evidence(proof: crate::graph::Proof) -> Evidence {
    Evidence::Graph { proof: Box::new(proof), memo: OnceLock::<HashMap<usize, u32>>::new() }
}
