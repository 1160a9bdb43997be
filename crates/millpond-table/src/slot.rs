//! One slot: a task on its way out, then its result on its way back.
#![allow(unsafe_code, reason = "the inline bytes are shared memory that is reached by raw pointer")]

use std::cell::UnsafeCell;
use std::time::Duration;

use crate::state::{Owner, Phase, SlotWord, next_turn};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bytes of payload that lie in the slot itself; longer ones lie in an arena.
pub const INLINE_LEN: usize = 200;

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
    /// When the task was begun, as the worker says, if the parent asked for it; see [`Self::time`].
    begun_at_ns: AtomicU64,
    /// When the worker had its result ready, if the parent asked for the time.
    ended_at_ns: AtomicU64,
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
            begun_at_ns: AtomicU64::new(0),
            ended_at_ns: AtomicU64::new(0),
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

    /// Parent: asks for the time at which the task begins, or does not; before it hands the slot out.
    pub fn time(&self, is_timed: bool) {
        self.begun_at_ns.store(u64::from(is_timed), Ordering::Relaxed);
    }

    /// Worker: tells whether the parent has asked for the time.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.begun_at_ns.load(Ordering::Relaxed) != 0
    }

    /// Worker: tells the time in nanoseconds; before it begins.
    pub fn set_begun_at(&self, now_ns: u64) {
        self.begun_at_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Parent: returns the time that the worker of a begun task has told, unchecked.
    #[must_use]
    pub fn begun_at_ns(&self) -> u64 {
        self.begun_at_ns.load(Ordering::Relaxed)
    }

    /// Worker: tells at what time in nanoseconds the result was ready; before it finishes.
    pub fn set_ended_at(&self, now_ns: u64) {
        self.ended_at_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Parent: returns for how long a finished task ran, as its worker says, unchecked.
    #[must_use]
    pub fn ran_for(&self) -> Duration {
        let ended_at_ns = self.ended_at_ns.load(Ordering::Relaxed);
        Duration::from_nanos(ended_at_ns.saturating_sub(self.begun_at_ns()))
    }

    /// Worker: says that the task begins now; from here on it dies with its worker. False if the
    /// parent has withdrawn it, and the worker must not touch the slot any more.
    #[must_use]
    pub fn begin(&self, owner: Owner, turn: u64) -> bool {
        // Release so that the parent, which acquires the word, sees at what time the task began.
        self.exchange(
            SlotWord::owned(Phase::Taken, owner, turn),
            SlotWord::owned(Phase::Begun, owner, turn),
        )
    }

    /// Worker: the result lies in the slot. False if the parent has condemned the task.
    pub(crate) fn finish(&self, owner: Owner, turn: u64) -> bool {
        // Release pairs with the Acquire of `word` in the parent and in recovery.
        self.exchange(
            SlotWord::owned(Phase::Begun, owner, turn),
            SlotWord::owned(Phase::Done, owner, turn),
        )
    }

    /// Parent: takes back a task that no worker has begun. False if one has, or if the slot holds
    /// another task. The slot is the parent's again; its cell is stale.
    #[must_use]
    pub fn withdraw(&self, turn: u64) -> bool {
        let word = self.word();
        let may = word.turn() == turn && matches!(word.phase(), Some(Phase::Ready | Phase::Taken));
        // A claim, or a worker's beginning, in between makes the exchange fail. After a claim another
        // look may find the task taken, so there are two.
        may && (self.exchange(word, SlotWord::free(turn)) || {
            let word = self.word();
            word.turn() == turn
                && word.phase() == Some(Phase::Taken)
                && self.exchange(word, SlotWord::free(turn))
        })
    }

    /// Parent: condemns a task that has begun, and returns whose it is; `None` if it is not begun, or
    /// complete. Whoever's exchange comes first decides: the worker's completion or this.
    #[must_use]
    pub fn condemn(&self, turn: u64) -> Option<Owner> {
        let word = self.word();
        if word.turn() != turn || word.phase() != Some(Phase::Begun) {
            return None;
        }
        let owner = word.owner();
        self.exchange(word, SlotWord::owned(Phase::Condemned, owner, turn)).then_some(owner)
    }

    fn exchange(&self, from: SlotWord, to: SlotWord) -> bool {
        // SYNC: word. Release hands on what was written before, as in `fill`; Acquire sees what the
        // last holder has written.
        let order = Ordering::AcqRel;
        #[cfg(canary = "unreleased-result")]
        let order = Ordering::Acquire;
        self.word.compare_exchange(from.bits(), to.bits(), order, Ordering::Relaxed).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [Owner; 5] = [Owner(0), Owner(1), Owner(1023), Owner(1024), Owner(u16::MAX)];
    const TURNS: [u64; 4] = [0, 1, (1 << 40) - 2, (1 << 40) - 1];

    /// Every phase byte by edge owners and turns: words of peers of ours, and scribbled ones.
    fn words() -> impl Iterator<Item = SlotWord> {
        TURNS.into_iter().flat_map(|turn| {
            OWNERS.into_iter().flat_map(move |owner| {
                let bits = turn << 24 | u64::from(owner.0) << 8;
                (0..=u64::from(u8::MAX)).map(move |byte| SlotWord::from_bits(bits | byte))
            })
        })
    }

    /// Does a step on a slot whose word is `before`: it is done and leaves `after`, or is refused and
    /// leaves the word as it was.
    fn check(before: SlotWord, after: Option<SlotWord>, step: impl FnOnce(&Slot) -> bool) {
        let slot = Slot::new();
        slot.word.store(before.bits(), Ordering::Relaxed);
        assert_eq!(step(&slot), after.is_some(), "{before:?}");
        assert_eq!(slot.word(), after.unwrap_or(before), "from {before:?}");
    }

    /// From a word that a peer has scribbled no step leads to one that means another task or worker.
    #[test]
    fn each_step_is_taken_from_its_own_phase_owner_and_turn_and_from_no_other_word() {
        use Phase::{Begun, Condemned, Done, Taken};
        for before in words() {
            for turn in TURNS {
                for owner in OWNERS {
                    let owned = |phase| SlotWord::owned(phase, owner, turn);
                    let ready = SlotWord::ready(turn);
                    let from = |word, after| (before == word).then_some(after);
                    check(before, from(ready, owned(Taken)), |slot| slot.take(owner, turn));
                    check(before, from(owned(Taken), owned(Begun)), |slot| slot.begin(owner, turn));
                    check(before, from(owned(Begun), owned(Done)), |slot| slot.finish(owner, turn));
                    check(before, from(owned(Taken), ready), |slot| slot.give_back(owner, turn));
                }
                let in_turn = |phase| before.turn() == turn && before.phase() == Some(phase);
                let is_unbegun = in_turn(Phase::Ready) || in_turn(Taken);
                let free = SlotWord::free(turn);
                check(before, is_unbegun.then_some(free), |slot| slot.withdraw(turn));
                let condemned = SlotWord::owned(Condemned, before.owner(), turn);
                check(before, in_turn(Begun).then_some(condemned), |slot| {
                    slot.condemn(turn).inspect(|&owner| assert_eq!(owner, before.owner())).is_some()
                });
            }
        }
    }
}
