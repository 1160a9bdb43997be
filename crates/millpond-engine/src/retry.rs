//! Tasks that go out once more, as they were.

use millpond_sys::futex;
use millpond_table::{INLINE_LEN, Payload};

use crate::collect::Collected;
use crate::parent::Engine;

/// What of a task a worker may have overwritten by the time that it ends: all that lies in the slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original {
    pub(crate) payload: Payload,
    pub(crate) inline: [u8; INLINE_LEN],
    /// The task's size in bytes as the standard library would pickle it.
    pub(crate) counted_len: u64,
}

impl<T: Send + 'static> Engine<T> {
    /// Hands a task that has ended out once more, behind all that are out: the bytes that it was
    /// published with, and the same parts. Its result is dropped.
    ///
    /// # Errors
    /// Gives the task back if it was not published to be tried again, or the ring is damaged.
    pub fn retry(&self, collected: Collected<T>) -> Result<(), Collected<T>> {
        let Collected { ticket, outcome, slot, attempts, .. } = collected;
        drop(outcome);
        let shared = &self.shared;
        let table = shared.table();
        let mut guard = shared.lock();
        let state = &mut *guard;
        let record = &mut state.slots[slot as usize];
        let Some(original) = record.original.as_deref().copied() else {
            return Err(Collected {
                ticket,
                outcome: crate::Outcome::Withdrawn,
                slot,
                attempts,
                ran_for: None,
            });
        };
        if let Some(offset) = record.result_at.take()
            && let Some(range) = state.ranges.read(offset, &shared.results)
        {
            state.results.forget_range(range);
        }
        let place = table.slot(slot);
        // The next turn: a worker's late word about this one means nothing, and it takes its result's
        // memory back.
        record.turn = place.free(record.turn);
        kill_point!("parent.retry.freed");
        place.write_inline(&original.inline);
        place.describe(original.payload);
        place.time(record.is_timed || record.time_limit_ns.is_some());
        record.is_pending = false;
        record.attempts = attempts + 1;
        record.ticket = Some(ticket);
        record.condemned = None;
        let turn = record.turn;
        let limit = record.time_limit_ns.map(std::time::Duration::from_nanos);
        if limit.is_some() {
            state.timed_count -= 1;
        }
        let due = state.note_limits(slot, limit, shared.sizes.memory_limit.is_some());
        let Some(position) = table.publish(slot, turn) else {
            shared.damaged(state);
            let record = &mut state.slots[slot as usize];
            record.is_pending = true;
            return match record.ticket.take() {
                Some(ticket) => Err(Collected {
                    ticket,
                    outcome: crate::Outcome::Withdrawn,
                    slot,
                    attempts,
                    ran_for: None,
                }),
                None => Ok(()),
            };
        };
        state.slots[slot as usize].position = position;
        shared.published(state, position);
        state.run_ahead.published(position, original.counted_len);
        state.retries += 1;
        kill_point!("parent.retry.out");
        if let Some(due) = due {
            shared.look_by(state, due);
        }
        drop(guard);
        if let Some(bell) = table.wake_one() {
            kill_point!("parent.retry.wake_owed");
            futex::wake(bell, 1);
        }
        Ok(())
    }
}
