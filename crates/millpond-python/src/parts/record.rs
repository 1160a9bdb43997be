//! What became of each heavy object: its rung, why not a higher one, and what it cost.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use millpond_engine::{COUNTED_TAGS_MAX, PartCounts};

use super::counted;

/// The most records that are kept; the oldest goes first. Their tags are the highest ones, for which the
/// engine keeps what workers have counted.
const RECORD_COUNT_MAX: usize = COUNTED_TAGS_MAX;

/// The record of one place in one callable's tasks.
pub(crate) struct Record {
    /// Under which the engine adds up what workers count.
    pub(crate) tag: u64,
    pub(crate) callable: String,
    pub(crate) place: String,
    pub(crate) kind: String,
    /// Rung, and why not a higher one.
    pub(crate) rung: Mutex<(&'static str, String)>,
    pub(crate) counts: Counts,
}

/// Counts, and times in nanoseconds.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes: AtomicU64,
    pub(crate) pickled: AtomicU64,
    pub(crate) pickled_ns: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) verified: AtomicU64,
    pub(crate) verified_ns: AtomicU64,
}

impl Record {
    /// Notes that the object was packed and stored.
    pub(crate) fn note_stored(&self, rung: &'static str, reason: &str, bytes: u64, begin: Instant) {
        self.set_rung(rung, reason);
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        count(&self.counts.pickled, &self.counts.pickled_ns, begin);
    }

    /// Counts a task that names the object.
    pub(crate) fn count_sent(&self) {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the rung that the object takes at present.
    pub(crate) fn set_rung(&self, rung: &'static str, reason: impl Into<String>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = (rung, reason.into());
    }
}

/// A record as it is told to Python: callable, place, kind, rung, reason, and numbers by name; times
/// in nanoseconds.
pub(crate) type Row = (String, String, String, &'static str, String, Vec<(&'static str, u64)>);

impl Record {
    /// Returns the record with what workers have counted for it.
    fn row(&self, workers: PartCounts) -> Row {
        let (rung, reason) = self.rung.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counts = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let numbers = vec![
            ("bytes", read(&counts.bytes)),
            ("pickled", read(&counts.pickled)),
            ("pickled_ns", read(&counts.pickled_ns)),
            ("sent", read(&counts.sent)),
            ("verified", read(&counts.verified)),
            ("verified_ns", read(&counts.verified_ns)),
            ("loaded", workers[counted::LOADED]),
            ("loaded_ns", workers[counted::LOADED_NS]),
            ("proved", workers[counted::PROVED]),
            ("proved_ns", workers[counted::PROVED_NS]),
            ("changed", workers[counted::CHANGED]),
        ];
        let (callable, place) = (self.callable.clone(), self.place.clone());
        (callable, place, self.kind.clone(), rung, reason, numbers)
    }
}

/// Adds one to a count, and the time since `begin` to its nanoseconds.
pub(crate) fn count(number: &AtomicU64, nanoseconds: &AtomicU64, begin: Instant) {
    number.fetch_add(1, Ordering::Relaxed);
    let elapsed = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    nanoseconds.fetch_add(elapsed, Ordering::Relaxed);
}

/// All records of a pool.
#[derive(Default)]
pub(crate) struct Records {
    all: Mutex<VecDeque<Arc<Record>>>,
    next_tag: AtomicU64,
}

impl Records {
    /// Returns the record of a place, which is made at its first use.
    pub(crate) fn of(&self, callable: &str, place: &str, kind: String) -> Arc<Record> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |record: &&Arc<Record>| record.callable == callable && record.place == place;
        if let Some(known) = all.iter().find(is_it) {
            return Arc::clone(known);
        }
        let record = Arc::new(Record {
            tag: self.next_tag.fetch_add(1, Ordering::Relaxed),
            callable: callable.to_owned(),
            place: place.to_owned(),
            kind,
            rung: Mutex::new(("pickled", String::new())),
            counts: Counts::default(),
        });
        if all.len() == RECORD_COUNT_MAX {
            all.pop_front();
        }
        all.push_back(Arc::clone(&record));
        record
    }

    /// Returns all records, the oldest first, with what workers have counted, by tag.
    pub(crate) fn rows(&self, workers: &HashMap<u64, PartCounts>) -> Vec<Row> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |record: &Record| workers.get(&record.tag).copied().unwrap_or_default();
        all.iter().map(|record| record.row(of(record))).collect()
    }
}
