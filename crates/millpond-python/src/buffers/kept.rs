//! The buffers that the parent keeps stored for a next dispatch, and the proof that they are what the
//! live ones are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millpond_engine::{StoreId, View};
use millpond_sys::mapping::is_private_anonymous;
use millpond_sys::write_tracking::{Drops, Tracked};

use super::source::Source;
use crate::live::Live;
use crate::packed::PartKind;
use crate::parts::{Record, count};
use crate::witness::Tracking;

/// How long a buffer may lie unused.
const UNUSED_TIME_MAX: Duration = Duration::from_secs(1);

/// The most buffers that are kept, and of these the most that were named once, and their bytes:
/// whether they come again nobody knows, and what is not kept leaves its memory warm for the next.
const KEPT_COUNT_MAX: usize = 64;
const ONCE_COUNT_MAX: usize = 16;
const ONCE_LEN_MAX: u64 = 32 << 20;

/// Bytes from which on a buffer is tracked; see `witness.rs`.
const TRACKED_LEN_MIN: usize = 1 << 20;

/// Times that a tracked buffer may be found written before it is only compared.
const WRITTEN_MAX: u32 = 2;

/// A stored buffer, and where its like lies in this process.
struct Buffer {
    address: usize,
    len: usize,
    id: StoreId,
    /// The stored bytes, once they were compared with.
    view: Option<View>,
    tracked: Option<Tracked>,
    /// Times that it was named beyond the first.
    proved: u32,
    /// Times in a row that it was found written.
    written: u32,
    last_used: Instant,
    record: Arc<Record>,
}

/// The buffers that are kept, the one that was used last at the end.
pub(crate) struct Kept {
    all: Mutex<Vec<Buffer>>,
    tracking: Tracking,
    kept_len_max: u64,
}

impl Kept {
    pub(crate) fn new(kept_len_max: u64) -> Self {
        Self { all: Mutex::default(), tracking: Tracking::default(), kept_len_max }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the id under which a buffer is stored as it is now, held once for the caller. `None` if
    /// there is no room for it.
    pub(super) fn name(&self, live: &Live, source: &Source<'_>, callable: &str) -> Option<StoreId> {
        let bytes = source.bytes();
        let (address, len) = (bytes.as_ptr().addr(), bytes.len());
        let known = {
            let mut all = self.lock();
            let found = all.iter().position(|known| known.address == address && known.len == len);
            found.map(|at| all.remove(at))
        };
        let mut written = 0;
        if let Some(mut known) = known {
            let begin = Instant::now();
            if known.holds(live, &self.tracking, source) {
                count(&known.record.counts.verified, &known.record.counts.verified_ns, begin);
                known.proved += 1;
                known.last_used = begin;
                live.engine.hold(known.id);
                let (id, record) = (known.id, Arc::clone(&known.record));
                self.keep(live, known);
                record.count_sent();
                return Some(id);
            }
            written = known.written + 1;
            live.engine.let_go(known.id);
        }
        let begin = Instant::now();
        let record =
            live.parts.records.of(callable, &format!("buffer of {len} bytes"), source.kind());
        let stored = live.engine.store_buffer(bytes, PartKind::Buffer.bits(), record.tag);
        let Ok(id) = stored else {
            record.set_rung("pickled", "there is no memory for it in the store");
            return None;
        };
        record.note_stored("verified", "comparison", len as u64, begin);
        live.parts.note_pickled(len as u64);
        record.count_sent();
        live.engine.hold(id);
        let (view, tracked, last_used) = (None, None, begin);
        let buffer =
            Buffer { address, len, id, view, tracked, proved: 0, written, last_used, record };
        self.keep(live, buffer);
        Some(id)
    }

    fn keep(&self, live: &Live, buffer: Buffer) {
        let mut all = self.lock();
        all.push(buffer);
        let now = Instant::now();
        let mut gone = Vec::new();
        let (mut once_count, mut once_len, mut kept_count, mut kept_len) = (0, 0, 0, 0);
        // From the one that was used last to the oldest.
        for at in (0..all.len()).rev() {
            let known = &all[at];
            let len = known.len as u64;
            let is_first = at + 1 == all.len();
            let is_once = known.proved == 0;
            once_count += usize::from(is_once);
            once_len += if is_once { len } else { 0 };
            (kept_count, kept_len) = (kept_count + 1, kept_len + len);
            let is_surplus = kept_count > KEPT_COUNT_MAX
                || kept_len > self.kept_len_max
                || is_once && (once_count > ONCE_COUNT_MAX || once_len > ONCE_LEN_MAX)
                || now.saturating_duration_since(known.last_used) >= UNUSED_TIME_MAX;
            if is_surplus && !is_first {
                gone.push(all.remove(at));
            }
        }
        drop(all);
        for buffer in gone {
            live.engine.let_go(buffer.id);
        }
    }

    /// Tells whether any buffer is kept.
    pub(crate) fn keeps_any(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Lets buffers go that have not been used for a second. Returns whether any are kept.
    pub(crate) fn expire(&self, live: &Live, all: bool) -> bool {
        let now = Instant::now();
        let mut kept = self.lock();
        let is_old = |buffer: &mut Buffer| {
            all || now.saturating_duration_since(buffer.last_used) >= UNUSED_TIME_MAX
        };
        let old: Vec<_> = kept.extract_if(.., is_old).collect();
        let any_left = !kept.is_empty();
        drop(kept);
        for buffer in old {
            live.engine.let_go(buffer.id);
        }
        any_left
    }
}

impl Buffer {
    /// Proves that the live bytes are those that were stored.
    fn holds(&mut self, live: &Live, tracking: &Tracking, source: &Source<'_>) -> bool {
        let bytes = source.bytes();
        if self.view.is_none() {
            self.view = live.engine.stored_view(self.id).ok().flatten();
        }
        let Some(view) = &self.view else { return false };
        if view.len() != bytes.len() + 1 {
            return false;
        }
        if let Some(tracked) = &self.tracked {
            let head = tracked.start() - self.address;
            let tail = tracked.end() - self.address;
            if !tracked.is_written() {
                return view.equals(0, &bytes[..head]) && view.equals(tail, &bytes[tail..]);
            }
            self.written += 1;
            self.tracked = None;
        }
        if self.tracked.is_none() && self.written < WRITTEN_MAX && bytes.len() >= TRACKED_LEN_MIN {
            // Protected first and compared after: what is proved now holds until a page is written.
            let drops = if source.is_own_block { Drops::Never } else { Drops::Possible };
            self.tracked = tracking
                .tracker()
                .filter(|_| is_private_anonymous(self.address, self.len))
                .and_then(|tracker| tracker.track(self.address, self.len, drops).ok());
            if self.tracked.is_some() {
                live.parts.note_tracked();
                self.record.set_rung("verified", "write tracking");
            } else {
                self.record.set_rung("verified", "comparison");
            }
        }
        let holds = view.equals(0, bytes);
        if holds && self.tracked.is_none() {
            self.written = 0;
        }
        holds
    }
}
