//! One slot: a task on its way out, then its result on its way back.
#![allow(unsafe_code, reason = "the inline bytes are shared memory that is reached by raw pointer")]

use std::cell::UnsafeCell;

use crate::state::{Owner, Phase, SlotWord, next_turn};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bytes of payload that lie in the slot itself; longer ones lie in an arena.
pub const INLINE_LEN: usize = 208;

/// The offset that says "the payload is inline".
const INLINE: u64 = u64::MAX;

/// One place in the task table, 256 bytes.
///
/// All fields but `word` are written by whoever holds the slot in its present phase, and read by the
/// next holder after it has acquired `word`; `Relaxed` is enough for them.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// See [`SlotWord`].
    pub(crate) word: AtomicU64,
    /// Next slot of the done stack, as index + 1; written before the push, read after the swap.
    pub(crate) next: AtomicU32,
    kind: AtomicU32,
    len: AtomicU64,
    offset: AtomicU64,
    note_len: AtomicU64,
    reserved: AtomicU64,
    inline: UnsafeCell<[u8; INLINE_LEN]>,
}

// SAFETY: `inline` is the only field that is not Sync by itself. It is reached by raw pointer only,
// and the state word gives it to one holder at a time.
unsafe impl Sync for Slot {}

/// What a slot says of its payload. It was written by a peer: the reader checks offset and length
/// against its own copy of the arena's bounds before it uses them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload {
    /// What kind of task, or which outcome; the engine gives it its meaning.
    pub kind: u32,
    /// Length in bytes.
    pub len: u64,
    /// Offset in the writer's arena in bytes, or `None` for a payload that is inline.
    pub offset: Option<u64>,
    /// Length in bytes of a note that stands before the payload proper and is counted in `len`.
    pub note_len: u64,
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            next: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            len: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            note_len: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            inline: UnsafeCell::new([0; INLINE_LEN]),
        }
    }

    /// Returns the state word as it is now.
    #[must_use]
    pub fn word(&self) -> SlotWord {
        // SYNC: word. Acquire pairs with the Release of `fill`, `finish` and `free`.
        SlotWord::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Returns the address of the inline bytes, valid for [`INLINE_LEN`] bytes. Only the slot's
    /// present holder may use it.
    #[must_use]
    pub fn inline_ptr(&self) -> *mut u8 {
        self.inline.get().cast()
    }

    /// Copies `bytes` into the slot's inline bytes. Only the slot's present holder may call it.
    ///
    /// # Panics
    /// If `bytes` is longer than [`INLINE_LEN`].
    pub fn write_inline(&self, bytes: &[u8]) {
        assert!(bytes.len() <= INLINE_LEN, "{} bytes do not fit inline", bytes.len());
        // SAFETY: the length was checked, source and target cannot overlap because no safe code has
        // a slice of the target, and the caller holds the slot, so that no one else reads or writes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.inline_ptr(), bytes.len()) };
    }

    /// Describes the payload. Only the slot's present holder may call it, before it hands on.
    pub fn describe(&self, payload: Payload) {
        self.kind.store(payload.kind, Ordering::Relaxed);
        self.len.store(payload.len, Ordering::Relaxed);
        self.offset.store(payload.offset.unwrap_or(INLINE), Ordering::Relaxed);
        self.note_len.store(payload.note_len, Ordering::Relaxed);
    }

    /// Returns what the last holder said of the payload, unchecked but for the inline length.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let offset = self.offset.load(Ordering::Relaxed);
        let mut len = self.len.load(Ordering::Relaxed);
        if offset == INLINE {
            len = len.min(INLINE_LEN as u64);
        }
        Payload {
            kind: self.kind.load(Ordering::Relaxed),
            len,
            offset: (offset != INLINE).then_some(offset),
            note_len: self.note_len.load(Ordering::Relaxed).min(len),
        }
    }

    /// Parent: hands a filled slot out; the ring makes it visible.
    pub(crate) fn fill(&self, turn: u64) {
        // SYNC: word. Release pairs with the Acquire of `take`: who takes sees payload and inline bytes.
        self.word.store(SlotWord::ready(turn).bits(), Ordering::Release);
    }

    /// Worker: claims the slot in its `turn`; false if it is no longer ready in that turn.
    pub(crate) fn take(&self, owner: Owner, turn: u64) -> bool {
        // SYNC: word. Acquire pairs with the Release of `fill`.
        self.word
            .compare_exchange(
                SlotWord::ready(turn).bits(),
                SlotWord::owned(Phase::Taken, owner, turn).bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Worker: says that the task begins now; from here on it dies with its worker.
    pub fn begin(&self, owner: Owner, turn: u64) {
        // SYNC: word. Release so that recovery, which acquires the word, orders what the worker did
        // before against what it finds.
        self.word.store(SlotWord::owned(Phase::Begun, owner, turn).bits(), Ordering::Release);
    }

    /// Worker: the result lies in the slot.
    pub(crate) fn finish(&self, owner: Owner, turn: u64) {
        // SYNC: word. Release pairs with the Acquire of `word` in the parent and in recovery.
        self.word.store(SlotWord::owned(Phase::Done, owner, turn).bits(), Ordering::Release);
    }

    /// Parent: gives a dead worker's task back, unbegun; false if the word has changed.
    pub(crate) fn give_back(&self, owner: Owner, turn: u64) -> bool {
        // SYNC: word. Release pairs with the Acquire of the next `take`.
        self.word
            .compare_exchange(
                SlotWord::owned(Phase::Taken, owner, turn).bits(),
                SlotWord::ready(turn).bits(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Parent: empties the slot and returns its next turn.
    pub fn free(&self, turn: u64) -> u64 {
        let next = next_turn(turn);
        // SYNC: word. Release: a worker that sees the new turn (it looks for result blocks that the
        // parent has read) also sees that the parent's reads are over.
        self.word.store(SlotWord::free(next).bits(), Ordering::Release);
        next
    }
}
