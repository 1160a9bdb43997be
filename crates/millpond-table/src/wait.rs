//! Who sleeps, and who must be woken: the bookkeeping of the two eventcounts.
//!
//! The futex calls themselves are the engine's; this file decides when they are needed. A sleeper
//! announces itself, then looks once more; a waker stores its news, then looks for sleepers. Both
//! have a sequentially consistent fence between their two steps, so at least one sees the other. See
//! README.md, "Sleep and wake".

use crate::seat::Seat;
use crate::state::Owner;
use crate::sync::{AtomicU32, Ordering, fence};
use crate::table::Table;

/// The value of a bell (of the parent's, or of a seat's) whose owner sleeps or means to.
pub(crate) const ASLEEP: u32 = 1;
const AWAKE: u32 = 0;

impl Table<'_> {
    fn seat_of(&self, owner: Owner) -> &Seat {
        &self.seats[usize::from(owner.0)]
    }

    /// Worker: announces that it means to sleep. Returns the word and the value to sleep on, or
    /// `None` if there is work, or the pool ends, and it must not.
    #[must_use]
    pub fn worker_may_sleep(&self, owner: Owner) -> Option<(&AtomicU32, u32)> {
        let seat = self.seat_of(owner);
        seat.bell.store(ASLEEP, Ordering::Relaxed);
        kill_point!("worker.sleep.bell_set");
        // SYNC: sleepers. Release pairs with the Acquire in `wake_one`: who takes the bit sees the
        // bell set.
        self.sleeper_word(owner).fetch_or(Self::sleeper_bit(owner), Ordering::Release);
        kill_point!("worker.sleep.announced");
        // SYNC: publish-or-sleep. The fence pairs with the one in `wake_one`.
        fence(Ordering::SeqCst);
        #[cfg(canary = "blind-sleep")]
        return Some((&seat.bell, ASLEEP));
        if self.has_ready() || self.is_stopping() || seat.must_leave() {
            self.worker_awake(owner);
            return None;
        }
        Some((&seat.bell, ASLEEP))
    }

    /// Worker: is awake again, for whatever reason.
    pub fn worker_awake(&self, owner: Owner) {
        self.sleeper_word(owner).fetch_and(!Self::sleeper_bit(owner), Ordering::Relaxed);
        kill_point!("worker.awake.bit_cleared");
        self.seat_of(owner).bell.store(AWAKE, Ordering::Relaxed);
    }

    fn sleeper_word(&self, owner: Owner) -> &crate::sync::AtomicU64 {
        &self.control.sleepers[usize::from(owner.0) / 64]
    }

    const fn sleeper_bit(owner: Owner) -> u64 {
        1 << (owner.0 % 64)
    }

    /// Parent: after a publish, picks one sleeping worker and returns its bell for the futex call.
    #[must_use]
    pub fn wake_one(&self) -> Option<&AtomicU32> {
        // SYNC: publish-or-sleep. See `worker_may_sleep`.
        fence(Ordering::SeqCst);
        self.take_sleeper()
    }

    fn take_sleeper(&self) -> Option<&AtomicU32> {
        for (index, word) in self.control.sleepers.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                // SYNC: sleepers. See `worker_may_sleep`. Whoever clears the bit owns the wake.
                let before = word.fetch_and(!bit, Ordering::Acquire);
                kill_point!("parent.wake.bit_taken");
                kill_point!("worker.wake.bit_taken");
                if before & bit != 0
                    && let Some(bell) = self.silence(index, bit.trailing_zeros())
                {
                    return Some(bell);
                }
                // A bit that was set since belongs to a sleeper that has seen the publish.
                bits &= !bit;
            }
        }
        None
    }

    /// Parent: from now on [`Self::wake_another`] lets so many workers sleep; 0 for none. Who says so
    /// looks after the tasks that wait on that account.
    pub fn hold_wakes(&self, spare: u32) {
        self.control.spare.store(spare, Ordering::Relaxed);
    }

    /// Anyone, after a publish: as [`Self::wake_one`], unless so many workers are awake that they will
    /// have claimed the task before another one has woken.
    #[must_use]
    pub fn wake_another(&self) -> Option<&AtomicU32> {
        // SYNC: publish-or-sleep. See `worker_may_sleep`: a worker that is not counted as a sleeper below
        // looks for tasks once more before it sleeps. And who saw the task that another wakes for, sees
        // behind this fence a `hold_wakes` from before its publish.
        fence(Ordering::SeqCst);
        let spare = self.control.spare.load(Ordering::Relaxed);
        if spare > 0 {
            let words = self.control.sleepers.iter();
            let asleep: u32 = words.map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
            if asleep <= spare {
                return None;
            }
        }
        self.take_sleeper()
    }

    /// Parent: asks one worker to end after its present task, and returns its bell for the futex call if
    /// it sleeps.
    #[must_use]
    pub fn dismiss(&self, owner: Owner) -> Option<&AtomicU32> {
        self.seat_of(owner).ask_to_leave();
        kill_point!("parent.dismiss.asked");
        #[cfg(canary = "silent-dismissal")]
        return None;
        // SYNC: publish-or-sleep. See `worker_may_sleep`: either the worker sees that it must leave, or
        // this load sees its bit.
        fence(Ordering::SeqCst);
        let (word, bit) = (self.sleeper_word(owner), Self::sleeper_bit(owner));
        // SYNC: sleepers. See `worker_may_sleep`.
        let before = word.fetch_and(!bit, Ordering::Acquire);
        if before & bit == 0 {
            return None;
        }
        self.silence(usize::from(owner.0) / 64, u32::from(owner.0) % 64)
    }

    /// Parent: takes a [`Self::dismiss`] back. The worker may have seen it already and be about to end; so
    /// the parent goes by its end, and not by this.
    pub fn recall(&self, owner: Owner) {
        self.seat_of(owner).ask_to_stay();
    }

    /// Silences the bell of the sleeper with this bit, and returns it for the futex call. `None` if
    /// there is no such seat: a peer wrote the bit.
    pub(crate) fn silence(&self, word: usize, bit: u32) -> Option<&AtomicU32> {
        let seat = self.seats.get(word * 64 + bit as usize)?;
        seat.bell.store(AWAKE, Ordering::Relaxed);
        Some(&seat.bell)
    }

    /// Parent: announces that it means to sleep. Returns the word and value to sleep on, or `None`
    /// if something is to be collected, or the head has reached `refill_at`.
    #[must_use]
    pub fn parent_may_sleep(&self) -> Option<(&AtomicU32, u32)> {
        self.control.bell.store(ASLEEP, Ordering::Relaxed);
        kill_point!("parent.sleep.bell_set");
        // SYNC: parent-bell. See `parent_sleeps`.
        fence(Ordering::SeqCst);
        // A worker that steps over stale cells tells nobody, so none may lie at the head.
        self.skip_stale();
        let refill_at = self.control.refill_at.load(Ordering::Relaxed);
        if self.has_done() || self.head_position() >= refill_at {
            self.parent_awake();
            return None;
        }
        Some((&self.control.bell, ASLEEP))
    }

    /// Parent: is awake again.
    pub fn parent_awake(&self) {
        self.control.bell.store(AWAKE, Ordering::Relaxed);
    }

    /// Anyone: tells whether the parent sleeps and takes over the duty to wake it; used after news
    /// other than a completion has been stored.
    #[must_use]
    pub fn must_wake_parent(&self) -> bool {
        self.parent_sleeps()
    }

    /// Returns the word that the parent sleeps on.
    #[must_use]
    pub fn parent_bell(&self) -> &AtomicU32 {
        &self.control.bell
    }

    /// Worker: tries to become the one idle worker that spins before it sleeps.
    #[must_use]
    pub fn may_spin(&self, owner: Owner) -> bool {
        let me = u32::from(owner.0) + 1;
        self.control.spinner.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Worker: no longer spins. If it has found a task, it looks whether there is another one, for which
    /// the parent may have counted on it.
    pub fn end_spin(&self, owner: Owner) {
        let me = u32::from(owner.0) + 1;
        let _ = self.control.spinner.compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
        // SYNC: publish-or-sleep. The fence pairs with the one in `someone_spins`: either the parent sees
        // that nobody spins, or this worker sees what was published.
        fence(Ordering::SeqCst);
    }

    /// Parent: after a publish, tells whether an idle worker spins, so that one task less needs a
    /// wake. It may be stale: a spinner that stops announces its sleep and looks once more.
    #[must_use]
    pub fn someone_spins(&self) -> bool {
        // SYNC: publish-or-sleep. The fence pairs with the one in `worker_may_sleep`: either the
        // spinner that stops sees the publish, or this load sees that it has stopped.
        fence(Ordering::SeqCst);
        self.control.spinner.load(Ordering::Relaxed) != 0
    }

    /// Parent: asks all workers to end once no task is ready.
    pub fn stop(&self) {
        self.control.stopping.store(1, Ordering::Release);
    }

    /// Tells whether the parent has asked all workers to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.control.stopping.load(Ordering::Acquire) != 0
    }
}
