//! The parts that are kept for a next dispatch.
//!
//! They are found by where their roots were, and flat ones by their items wherever these lie now. What
//! is found is a candidate: only a proof makes it the part.
//!
//! Most programs use few parts, or each of many once: then a few suffice, and their copies stay in the
//! workers' processor caches. So a part is young at first, and few young ones are kept. One that is used
//! again, or comes again soon after it went, is old, and many of these are kept. (2Q: Johnson and
//! Shasha, VLDB 1994.)

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::part::{Evidence, Part};
use crate::items::Items;
use crate::witness::FlatKey;

/// How long a saved part may lie unused: what it holds are the user's atoms.
const UNUSED_TIME_MAX: Duration = Duration::from_secs(1);

/// The most young parts that are kept.
const YOUNG_COUNT_MAX: usize = 32;

/// The most old ones: with the young ones about half of the entries of the store, so that as many others
/// can be out.
const OLD_COUNT_MAX: usize = 480;

/// Of how many young parts it is remembered that they went.
const GONE_COUNT_MAX: usize = 512;

/// A part's place: whether it is old, and its number in the order of use.
type Place = (bool, u64);

const FIRST_OLD: Place = (true, 0);

struct Entry {
    part: Arc<Part>,
    used_at: Instant,
    held_len: u64,
}

#[derive(Default)]
pub(super) struct Cache {
    /// The young, then the old, of each the one that was used longest ago first.
    entries: BTreeMap<Place, Entry>,
    /// By the part's own address.
    places: HashMap<usize, Place>,
    by_root: HashMap<usize, Vec<Arc<Part>>>,
    by_items: HashMap<FlatKey, Vec<Arc<Part>>>,
    young_count: usize,
    /// Where the first roots of young parts were that went; an address proves nothing.
    gone: VecDeque<usize>,
    next_number: u64,
    /// The sum over all entries, in bytes.
    held_len: u64,
}

fn address(part: &Arc<Part>) -> usize {
    Arc::as_ptr(part).addr()
}

fn flat_key(part: &Part) -> Option<FlatKey> {
    match &part.evidence {
        Evidence::Flat { witness, .. } => Some(witness.key()),
        _ => None,
    }
}

/// Takes a part off the list under `key`, and the list if it is empty then.
fn unlist<K: std::hash::Hash + Eq>(
    lists: &mut HashMap<K, Vec<Arc<Part>>>,
    key: K,
    part: &Arc<Part>,
) {
    if let std::collections::hash_map::Entry::Occupied(mut list) = lists.entry(key) {
        list.get_mut().retain(|known| !Arc::ptr_eq(known, part));
        if list.get().is_empty() {
            list.remove();
        }
    }
}

impl Cache {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells whether a root of a part was at this address.
    pub(super) fn has_root(&self, root: usize) -> bool {
        self.by_root.contains_key(&root)
    }

    /// Returns the parts that a root at this address may be. Those that were here come first, and of
    /// these the one with the most roots: it holds what the others share, which stored apart would
    /// arrive as two.
    pub(super) fn candidates(&self, root: usize, items: Option<&Items<'_>>) -> Vec<Arc<Part>> {
        let mut found = self.by_root.get(&root).cloned().unwrap_or_default();
        found.sort_by_key(|part| std::cmp::Reverse(part.roots.len()));
        for key in items.into_iter().flat_map(FlatKey::of) {
            let elsewhere = self.by_items.get(&key).into_iter().flatten();
            found.extend(elsewhere.filter(|part| !part.roots.contains(&root)).cloned());
        }
        found
    }

    /// Adds a part.
    pub(super) fn insert(&mut self, part: Arc<Part>) {
        for &root in &part.roots {
            self.by_root.entry(root).or_default().push(Arc::clone(&part));
        }
        if let Some(key) = flat_key(&part) {
            self.by_items.entry(key).or_default().push(Arc::clone(&part));
        }
        let held_len = part.held_len();
        let is_old = part.roots.first().is_some_and(|root| self.gone.contains(root));
        self.place(is_old, Entry { part, used_at: Instant::now(), held_len });
    }

    fn place(&mut self, is_old: bool, entry: Entry) {
        let place = (is_old, self.next_number);
        self.next_number += 1;
        self.young_count += usize::from(!is_old);
        self.held_len += entry.held_len;
        self.places.insert(address(&entry.part), place);
        self.entries.insert(place, entry);
    }

    fn displace(&mut self, place: Place) -> Option<Entry> {
        let entry = self.entries.remove(&place)?;
        self.young_count -= usize::from(!place.0);
        self.held_len -= entry.held_len;
        self.places.remove(&address(&entry.part));
        Some(entry)
    }

    /// Notes that a part was used again, if it is still here.
    pub(super) fn touch(&mut self, part: &Arc<Part>) {
        let place = self.places.get(&address(part)).copied();
        if let Some(entry) = place.and_then(|place| self.displace(place)) {
            self.place(true, Entry { used_at: Instant::now(), ..entry });
        }
    }

    /// Takes a part out; false if it is not here.
    pub(super) fn remove(&mut self, part: &Arc<Part>) -> bool {
        let place = self.places.get(&address(part)).copied();
        place.is_some_and(|place| self.take(place).is_some())
    }

    fn take(&mut self, place: Place) -> Option<Arc<Part>> {
        let Entry { part, .. } = self.displace(place)?;
        for &root in &part.roots {
            unlist(&mut self.by_root, root, &part);
        }
        if let Some(key) = flat_key(&part) {
            unlist(&mut self.by_items, key, &part);
        }
        Some(part)
    }

    /// Takes out what has lain unused for too long, and what was used longest ago of what is more than
    /// the counts and `held_len_max` bytes allow; but for the part that was used last.
    pub(super) fn evict(&mut self, held_len_max: u64) -> Vec<Arc<Part>> {
        let mut evicted = self.expire();
        while self.young_count > YOUNG_COUNT_MAX {
            let Some(part) = self.take_first(Place::default()) else { break };
            if self.gone.len() == GONE_COUNT_MAX {
                self.gone.pop_front();
            }
            self.gone.extend(part.roots.first());
            evicted.push(part);
        }
        while self.entries.len() - self.young_count > OLD_COUNT_MAX {
            evicted.extend(self.take_first(FIRST_OLD));
        }
        while self.entries.len() > 1 && self.held_len > held_len_max {
            let first_young = self.entries.iter().next();
            let first_old = self.entries.range(FIRST_OLD..).next();
            let oldest = [first_young, first_old]
                .into_iter()
                .flatten()
                .min_by_key(|(_, entry)| entry.used_at);
            let Some((&place, _)) = oldest else { break };
            evicted.extend(self.take(place));
        }
        evicted
    }

    /// Takes out what has lain unused for too long: lists that have died cannot tell.
    pub(super) fn expire(&mut self) -> Vec<Arc<Part>> {
        let now = Instant::now();
        let is_due =
            |entry: &Entry| now.saturating_duration_since(entry.used_at) >= UNUSED_TIME_MAX;
        let mut expired = Vec::new();
        for from in [Place::default(), FIRST_OLD] {
            while let Some((&place, entry)) = self.entries.range(from..).next()
                && is_due(entry)
            {
                expired.extend(self.take(place));
            }
        }
        expired
    }

    /// Takes out everything.
    pub(super) fn clear(&mut self) -> Vec<Arc<Part>> {
        let all = std::mem::take(self);
        all.entries.into_values().map(|entry| entry.part).collect()
    }

    fn take_first(&mut self, from: Place) -> Option<Arc<Part>> {
        let (&place, _) = self.entries.range(from..).next()?;
        self.take(place)
    }
}
