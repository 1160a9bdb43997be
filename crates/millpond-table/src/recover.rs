//! What a dead worker held is found by a walk over the owner ids.

use crate::state::{Owner, Phase};
use crate::sync::{Ordering, fence};
use crate::table::Table;

/// What the walk over a dead worker's slots found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Slots whose task was begun, or condemned: it died with the worker.
    pub lost: Vec<u32>,
    /// Slots whose result is complete but may not be on the done stack.
    pub done: Vec<u32>,
    /// Number of slots whose task had not begun and is at the head of the ring again.
    pub given_back: usize,
}

impl Table<'_> {
    /// Parent: settles all that a dead worker held.
    ///
    /// The worker must be dead, seen by its pidfd: none of its stores can follow. Only one thread of
    /// the parent may publish or recover at a time. The caller takes the done stack *after* this, so
    /// that a slot in both is known by then, and wakes every sleeper: a wake that the worker owed is
    /// lost with it.
    ///
    /// A seat's slots that are lost or done and not yet freed are found again when the next worker
    /// of the seat dies.
    #[must_use]
    pub fn recover(&self, dead: Owner) -> Recovered {
        self.recover_among(dead, self.slot_count())
    }

    /// Parent: as [`Self::recover`], where only the first `count` slots were ever published: memory
    /// that was never touched is not touched by a walk over it.
    #[must_use]
    pub fn recover_among(&self, dead: Owner, count: u32) -> Recovered {
        let mut found = Recovered::default();
        self.worker_awake(dead);
        self.end_spin(dead);
        kill_point!("parent.recover.sleeper_cleared");
        for (index, slot) in self.slots.iter().enumerate().take(count as usize).rev() {
            let word = slot.word();
            if word.owner() != dead {
                continue;
            }
            let index = index as u32;
            match word.phase() {
                #[cfg(canary = "lost-is-done")]
                Some(Phase::Begun) => found.done.push(index),
                Some(Phase::Begun | Phase::Condemned) => found.lost.push(index),
                Some(Phase::Done) => found.done.push(index),
                Some(Phase::Taken) if slot.give_back(dead, word.turn()) => {
                    kill_point!("parent.recover.word_ready");
                    if self.push_front(index, word.turn()) {
                        found.given_back += 1;
                        kill_point!("parent.recover.head_moved");
                    } else {
                        // The ring holds more stale cells than it has room for, which only a
                        // damaged table can show: the task ends as lost, and is told so.
                        found.lost.push(index);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Parent: wakes every sleeper, because a dead worker may have owed a wake. Calls `wake` with
    /// each bell.
    pub fn wake_all(&self, mut wake: impl FnMut(&crate::sync::AtomicU32)) {
        // SYNC: publish-or-sleep. See `worker_may_sleep`.
        fence(Ordering::SeqCst);
        // One pass: who sleeps again behind it has looked again, and to wake it again would not end.
        for (index, word) in self.control.sleepers.iter().enumerate() {
            // SYNC: sleepers. See `worker_may_sleep`.
            let mut bits = word.swap(0, Ordering::Acquire);
            kill_point!("parent.wake_all.bits_taken");
            while bits != 0 {
                if let Some(bell) = self.silence(index, bits.trailing_zeros()) {
                    wake(bell);
                }
                bits &= bits - 1;
            }
        }
        self.control.bell.store(0, Ordering::Relaxed);
        wake(&self.control.bell);
    }

    /// Parent: silences the bells of the first `count` seats and calls `wake` with each, whether anybody is
    /// known to sleep there: a worker that died between taking a sleeper's bit and ringing its bell has
    /// left no trace of it. Who is woken in vain looks, and sleeps again.
    ///
    /// A call of futex alone is not enough: the sleeper may have announced itself and be on the way to its
    /// own call, and nobody would find its bit after that.
    pub fn ring_all(&self, count: usize, mut wake: impl FnMut(&crate::sync::AtomicU32)) {
        for seat in self.seats.iter().take(count) {
            seat.bell.store(0, Ordering::Relaxed);
            wake(&seat.bell);
        }
    }
}
