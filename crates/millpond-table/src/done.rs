//! The done stack: finished slots on their way to the parent.
//!
//! Workers push, the parent takes all at once. A push is one compare-exchange, and the parent never
//! pops a single one, so the usual trouble of such stacks (ABA) cannot arise: whatever happened
//! between a worker's load and its exchange, if the top is the same again it is right to link to it.

use crate::error::{Error, Result};
use crate::state::{Owner, Phase};
use crate::sync::{Ordering, fence};
use crate::table::Table;

/// The finished slots that one [`Table::take_done`] found, oldest first.
pub type Completions = Vec<u32>;

impl Table<'_> {
    /// Worker: hands a finished slot to the parent. Returns whether the parent sleeps and must be
    /// woken; or `None` if the parent has condemned the task, and the worker should end.
    #[must_use]
    pub fn complete(&self, slot_index: u32, owner: Owner, turn: u64) -> Option<bool> {
        let slot = &self.slots[slot_index as usize];
        if !slot.finish(owner, turn) {
            return None;
        }
        kill_point!("worker.complete.done");
        let mut top = self.control.done.load(Ordering::Relaxed);
        // SYNC: done. Release pairs with the Acquire of `take_done`: who takes the stack sees this
        // slot's word, payload and link, and by the release sequence those below.
        let order = Ordering::Release;
        #[cfg(canary = "unreleased-result")]
        let order = Ordering::Relaxed;
        loop {
            slot.next.store(top, Ordering::Relaxed);
            kill_point!("worker.complete.linked");
            match self.control.done.compare_exchange_weak(
                top,
                slot_index + 1,
                order,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => top = now,
            }
        }
        kill_point!("worker.complete.pushed");
        Some(self.parent_sleeps())
    }

    /// Tells whether finished slots wait for the parent.
    #[must_use]
    pub fn has_done(&self) -> bool {
        self.control.done.load(Ordering::Relaxed) != 0
    }

    /// Parent: takes all finished slots and appends them to `found`, oldest first.
    ///
    /// # Errors
    /// If a link leads outside the table or in a circle: the shared memory is damaged. What was
    /// found before the damage is in `found`, perhaps more than once.
    pub fn take_done(&self, found: &mut Completions) -> Result<()> {
        if !self.has_done() {
            return Ok(());
        }
        // SYNC: done. Acquire pairs with the Release of `complete`.
        let mut link = self.control.done.swap(0, Ordering::Acquire);
        kill_point!("parent.collect.stack_taken");
        let first = found.len();
        let mut links_left = self.slots.len();
        let mut outcome = Ok(());
        while link != 0 {
            let index = link - 1;
            #[cfg(canary = "trusted-link")]
            let _ = &self.slots[index as usize];
            let Some(slot) = self.slots.get(index as usize) else {
                outcome = Err(Error::damaged("done link", link.into(), self.slots.len() as u64));
                break;
            };
            // Every link counts, finished slot or not: a circle of others would never end.
            if links_left == 0 {
                let limit = self.slots.len() as u64;
                outcome = Err(Error::damaged("done stack length", limit + 1, limit));
                break;
            }
            links_left -= 1;
            if slot.word().phase() == Some(Phase::Done) {
                found.push(index);
            }
            link = slot.next.load(Ordering::Relaxed);
        }
        found[first..].reverse();
        outcome
    }

    pub(crate) fn parent_sleeps(&self) -> bool {
        // SYNC: parent-bell. The fence pairs with the one in `parent_may_sleep`: either the parent
        // sees what was stored before, or this load sees that the parent means to sleep.
        #[cfg(not(canary = "unfenced-bell"))]
        fence(Ordering::SeqCst);
        self.control.bell.load(Ordering::Relaxed) != 0
            && self.control.bell.swap(0, Ordering::Relaxed) != 0
    }
}
