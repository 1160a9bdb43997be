//! Tasks on their way back.

use std::time::Duration;

use crate::error::Error;
use crate::lives::Incarnation;
use crate::parent::{Engine, Shared};
use crate::reader::View;
use crate::state::{End, Pending, State};
use crate::stops::Reason;

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// The worker has written a result.
    Result {
        /// The worker side's word on how to read the bytes.
        kind: u32,
        /// The bytes: a note, then the result proper.
        view: View,
        /// Length in bytes of the note.
        note_len: usize,
    },
    /// The task had begun, and its worker is gone.
    Lost(Incarnation),
    /// The task was condemned, and its worker is gone.
    Condemned(Incarnation, Reason),
    /// Nobody has begun the task, and nobody will: it was cancelled.
    Withdrawn,
    /// The worker described its result in a way that cannot be true.
    Damaged(Error),
}

/// A task that has ended. Give it back by [`Engine::release`] when its view has been read.
#[derive(Debug)]
pub struct Collected<T> {
    /// What the task was published with.
    pub ticket: T,
    /// How it ended.
    pub outcome: Outcome,
    /// How often it went out: once, and each time that it was tried again.
    pub attempts: u32,
    /// For how long it ran, if that was asked for, as its worker says.
    pub ran_for: Option<Duration>,
    pub(crate) slot: u32,
}

impl<T> Shared<T> {
    /// Takes all finished slots off the done stack, in order, into `pending`.
    pub(crate) fn gather(&self, state: &mut State<T>) {
        let mut found = std::mem::take(&mut state.found);
        if self.table().take_done(&mut found).is_err() {
            self.damaged(state);
        }
        for slot in found.drain(..) {
            self.note_done(state, slot);
        }
        state.found = found;
    }

    /// Notes that a slot holds a result, unless that is known, or cannot be.
    pub(crate) fn note_done(&self, state: &mut State<T>, slot: u32) {
        let place = self.table().slot(slot);
        let Some(record) = state.slots.get_mut(slot as usize) else {
            // A slot that was never used.
            self.damaged(state);
            return;
        };
        if record.is_pending {
            return;
        }
        if record.ticket.is_none() || place.word().turn() != record.turn {
            self.damaged(state);
            return;
        }
        record.is_pending = true;
        kill_point!("parent.collect.noted");
        record.result_at = place.payload().offset;
        state.pending.push_back(Pending { slot, end: End::Done });
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Returns the next task that has ended, in the order of completion, if there is one.
    #[must_use]
    pub fn collect(&self) -> Option<Collected<T>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.pending.is_empty() {
            self.shared.gather(state);
        }
        let Pending { slot, end } = state.pending.pop_front()?;
        let record = &mut state.slots[slot as usize];
        let ticket = record.ticket.take()?;
        kill_point!("parent.collect.ticket_taken");
        let attempts = record.attempts;
        let is_timed = record.is_timed && matches!(end, End::Done);
        let ran_for = is_timed.then(|| self.shared.table().slot(slot).ran_for());
        let outcome = match end {
            End::Done => self.outcome_of(state, slot),
            End::Lost(incarnation) => Outcome::Lost(incarnation),
            End::Withdrawn => Outcome::Withdrawn,
            End::Condemned(incarnation, reason) => {
                match reason {
                    Reason::Deadline => state.timeouts += 1,
                    Reason::Memory(_) => state.memory_kills += 1,
                    Reason::Cancelled => {}
                }
                Outcome::Condemned(incarnation, reason)
            }
        };
        Some(Collected { ticket, outcome, attempts, ran_for, slot })
    }

    fn outcome_of(&self, state: &mut State<T>, slot: u32) -> Outcome {
        let place = self.shared.table().slot(slot);
        let payload = place.payload();
        // `result_at` was read when the slot was found; what the worker may have changed since does
        // not count.
        let view = match state.slots[slot as usize].result_at {
            None if payload.offset.is_some() => Err(Error::bad_payload(0, payload.len, 0)),
            None => Ok(View::inline(place.inline_ptr(), payload.len as usize)),
            Some(offset) => state.results.view(offset, payload.len),
        };
        match view {
            Ok(view) => {
                Outcome::Result { kind: payload.kind, view, note_len: payload.note_len as usize }
            }
            Err(error) => {
                state.damaged += 1;
                Outcome::Damaged(error)
            }
        }
    }

    /// Frees the slot of a task that was collected, and returns its ticket. Its view is gone first.
    pub fn release(&self, collected: Collected<T>) -> T {
        let Collected { ticket, outcome, slot, .. } = collected;
        drop(outcome);
        let table = self.shared.table();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        state.drop_limits(slot);
        let record = &mut state.slots[slot as usize];
        record.is_pending = false;
        record.original = None;
        let parts = std::mem::take(&mut record.parts);
        if let Some(block) = record.arguments.take() {
            state.space.give_back(block);
        }
        if let Some(offset) = record.result_at.take()
            && let Some(range) = state.ranges.read(offset, &self.shared.results)
        {
            state.results.forget_range(range);
        }
        kill_point!("parent.release.read");
        record.turn = table.slot(slot).free(record.turn);
        kill_point!("parent.release.freed");
        for part in parts {
            state.store.let_go(table, &mut state.space, part);
        }
        state.give_slot(slot);
        ticket
    }
}
