//! The parts that are kept for a next dispatch.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::part::Part;
use super::plan::{Plan, PlannedRoot};
use super::record::{Records, count};
use super::search::{Candidate, Candidates};
use crate::deliver::Ticket;
use crate::errors;
use crate::items::Items;
use crate::pack::Packer;
use crate::packed::{PartKind, StoredNumbers, store_numbers};
use crate::saved;
use crate::witness::{Tracking, Witness};

/// How long a saved part may lie unused: what it holds are the user's atoms.
const UNUSED_TIME_MAX: Duration = Duration::from_secs(1);

/// The most parts that are kept for a next dispatch.
const PART_COUNT_MAX: usize = 16;

/// Of how many arguments it is remembered that they were seen.
const SEEN_COUNT_MAX: usize = 64;

type Engine = millpond_engine::Engine<Ticket>;

/// The parts that are kept, and what was done for them.
pub(crate) struct Parts {
    kept: Mutex<Vec<Arc<Part>>>,
    /// Addresses and lengths of heavy arguments that were sent once. That one of them comes again
    /// makes it likely that it will go on coming; it proves nothing.
    seen: Mutex<VecDeque<(usize, usize)>>,
    tracking: Tracking,
    pub(crate) records: Records,
    /// The most bytes of parts that are kept while no task names them.
    kept_len_max: u64,
    pub(crate) pickled: AtomicU64,
    pub(crate) pickled_bytes: AtomicU64,
    pub(crate) verified: AtomicU64,
    /// Parts that were write-tracked when they were stored.
    pub(crate) tracked: AtomicU64,
}

impl Parts {
    pub(crate) fn new(kept_len_max: u64) -> Self {
        Self {
            kept: Mutex::default(),
            seen: Mutex::default(),
            tracking: Tracking::default(),
            records: Records::default(),
            kept_len_max,
            pickled: AtomicU64::new(0),
            pickled_bytes: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            tracked: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies the candidates, or stores what is new or has changed. A candidate that is not a flat
    /// part, or cannot be stored, is left to the pickler. `callable` names the task's function.
    pub(crate) fn plan<'py>(
        &self,
        engine: &Engine,
        candidates: &Candidates<'py>,
        packer: &mut Packer<'py>,
        callable: impl Fn() -> String,
    ) -> PyResult<Plan> {
        let mut plan = Plan { roots: Vec::new(), is_simple: candidates.is_simple };
        for candidate in &candidates.found {
            let address = candidate.root.as_ptr().addr();
            if plan.roots.iter().any(|known| known.address == address) {
                continue;
            }
            let part = match self.verify(engine, &candidate.root) {
                Some(part) => Some((part, true)),
                None => match self.store(engine, candidate, packer, &callable) {
                    Ok(part) => part,
                    Err(error) => {
                        plan.let_go(engine);
                        return Err(error);
                    }
                },
            };
            let Some((part, is_kept)) = part else { continue };
            // An atom that is memoized may stand in the task before the part does; whether the part
            // will then be met unchanged is certain for simple tasks only.
            // Two parts that hold one such atom would arrive with one of it each; so the second stays
            // in the stream, where its atoms name those of the first.
            if part.memoized.is_empty() || (plan.is_simple && !plan.shares_atoms(&part)) {
                let equals = plan.roots.iter().filter(|known| known.part.id == part.id);
                let copy = equals.count() as u32;
                if is_kept {
                    // What is planned next may push this one out of those that are kept.
                    engine.hold(part.id);
                }
                plan.roots.push(PlannedRoot { address, part, copy });
            } else {
                part.record.set_rung("pickled", "it shares texts with another part");
                if !is_kept {
                    engine.let_go(part.id);
                }
            }
        }
        Ok(plan)
    }

    /// Returns the kept part that this live root is, by comparing its pointers with the saved ones.
    fn verify(&self, engine: &Engine, root: &Bound<'_, PyAny>) -> Option<Arc<Part>> {
        let address = root.as_ptr().addr();
        let items = Items::of(root)?;
        let mut kept = self.lock();
        if kept.is_empty() {
            return None;
        }
        let begin = Instant::now();
        kept.sort_by_key(|part| part.address_hint != address);
        let found = kept.iter().position(|part| part.is(&items));
        let mut outdated = None;
        if found != Some(0) && kept.first().is_some_and(|part| part.address_hint == address) {
            // The root has changed since, or another object lies there now.
            outdated = Some(kept.remove(0));
        }
        let part = match (found, &outdated) {
            (None, _) => None,
            (Some(at), None) => Some(Arc::clone(&kept[at])),
            (Some(at), Some(_)) => Some(Arc::clone(&kept[at - 1])),
        };
        drop(kept);
        if let Some(outdated) = outdated {
            engine.let_go(outdated.id);
        }
        if let Some(part) = &part {
            self.verified.fetch_add(1, Ordering::Relaxed);
            count(&part.record.counts.verified, &part.record.counts.verified_ns, begin);
            part.touch();
        }
        part
    }

    /// Returns whether this argument was seen before, and remembers it.
    fn was_seen(&self, root: &Bound<'_, PyAny>, len: usize) -> bool {
        let key = (root.as_ptr().addr(), len);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&key) {
            return true;
        }
        if seen.len() == SEEN_COUNT_MAX {
            seen.pop_front();
        }
        seen.push_back(key);
        false
    }

    /// Stores a root, and returns its part and whether it is kept. One that is not kept is held once
    /// for the caller.
    fn store<'py>(
        &self,
        engine: &Engine,
        candidate: &Candidate<'py>,
        packer: &mut Packer<'py>,
        callable: &impl Fn() -> String,
    ) -> PyResult<Option<(Arc<Part>, bool)>> {
        let root = &candidate.root;
        let Some(items) = Items::of(root) else { return Ok(None) };
        let begin = Instant::now();
        let (is_list, len) = (items.is_list, items.len());
        let is_kept = candidate.is_bound || self.was_seen(root, len);
        let kind = if is_list { "list" } else { "tuple" };
        let record = self.records.of(&callable(), &candidate.place, format!("{kind} of {len}"));
        // What is tracked is proved from here on, so it is read after.
        let tracking = if is_kept { Witness::track(&self.tracking, &items) } else { None };
        // The GIL is kept: were it let go, the root could change before its task is pickled.
        let tag = record.tag;
        let stored = match store_numbers(engine, &items, tag) {
            Ok(Some(stored)) => {
                let witness =
                    if is_kept { tracking.or_else(|| Witness::save(&items)) } else { None };
                Ok((witness, stored, HashMap::new()))
            }
            Ok(None) if !is_kept => {
                record.set_rung("pickled", "an argument that came once");
                return Ok(None);
            }
            Ok(None) => {
                // Atoms that have an identity are known by their addresses, also after the list has
                // changed, so they are saved.
                let Some(saved) = saved::save(&items) else {
                    record.set_rung("pickled", "it holds more than atoms");
                    return Ok(None);
                };
                let packed = packer.pack(root, true)?;
                let len = packed.as_bytes().len() as u64;
                let id = engine.store(packed.as_bytes(), PartKind::Pickle.bits(), tag);
                let stored = |id| StoredNumbers { id, stored_len: len, counted_len: len };
                let memoized = saved.memoized();
                id.map(|id| (Some(Witness::Saved(saved)), stored(id), memoized))
            }
            Err(error) => Err(error),
        };
        let (witness, stored, memoized) = match stored {
            Ok(stored) => stored,
            Err(error) if error.is_out_of_memory() => return Ok(None),
            Err(error) => return Err(errors::to_python(&error)),
        };
        match &witness {
            None => record.set_rung("packed", "an argument that came once"),
            Some(witness) if witness.is_tracked() => record.set_rung("verified", "write tracking"),
            Some(_) => record.set_rung("verified", "comparison"),
        }
        record.counts.bytes.store(stored.stored_len, Ordering::Relaxed);
        count(&record.counts.pickled, &record.counts.pickled_ns, begin);
        self.pickled.fetch_add(1, Ordering::Relaxed);
        self.pickled_bytes.fetch_add(stored.stored_len, Ordering::Relaxed);
        let is_tracked = witness.as_ref().is_some_and(Witness::is_tracked);
        self.tracked.fetch_add(u64::from(is_tracked), Ordering::Relaxed);
        let part = Arc::new(Part::new(
            root.as_ptr().addr(),
            is_list,
            witness,
            memoized,
            stored.id,
            stored.counted_len,
            stored.stored_len,
            record,
        ));
        if is_kept {
            self.keep(engine, Arc::clone(&part));
        }
        Ok(Some((part, is_kept)))
    }

    fn keep(&self, engine: &Engine, part: Arc<Part>) {
        let mut kept = self.lock();
        kept.push(part);
        let mut surplus = Vec::new();
        let len = |kept: &[Arc<Part>]| kept.iter().map(|part| part.stored_len).sum::<u64>();
        while kept.len() > PART_COUNT_MAX || (kept.len() > 1 && len(&kept) > self.kept_len_max) {
            surplus.push(kept.remove(0));
        }
        drop(kept);
        for part in surplus {
            engine.let_go(part.id);
        }
    }

    /// Lets parts go that have not been used for a second. Returns whether any are kept.
    pub(crate) fn expire(&self, engine: &Engine, all: bool) -> bool {
        let now = Instant::now();
        let is_old = |part: &Arc<Part>| all || part.unused_for(now) >= UNUSED_TIME_MAX;
        let mut kept = self.lock();
        let (old, rest): (Vec<_>, Vec<_>) = kept.drain(..).partition(is_old);
        *kept = rest;
        let any_left = !kept.is_empty();
        drop(kept);
        for part in old {
            engine.let_go(part.id);
        }
        any_left
    }
}
