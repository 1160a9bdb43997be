//! Tasks on their way out.

use std::collections::HashMap;
use std::time::Duration;

use millpond_sys::{clock, futex};
use millpond_table::{INLINE_LEN, Payload, StoreId};
use twox_hash::XxHash3_128;

use crate::error::{Error, Result};
use crate::object_store::PartCounts;
use crate::parent::Engine;
use crate::retry::Original;

/// Bytes of a piece in which a large part is made: it stays in the processor's cache.
const PIECE_LEN: u64 = 512 << 10;

/// A task, as the front gives it.
#[derive(Debug)]
pub struct Task<'a, T> {
    /// Comes back with the task's end.
    pub ticket: T,
    /// The front's word to its worker side on how to read the bytes.
    pub kind: u32,
    /// The pickled task.
    pub bytes: &'a [u8],
    /// The stored parts that the bytes name; they are held until the task ends.
    pub parts: &'a [StoreId],
    /// The task's size in bytes as the standard library would pickle it.
    pub counted_len: u64,
    /// For how long it may run, from when a worker begins it.
    pub time_limit: Option<Duration>,
    /// Whether its worker is to tell for how long it ran.
    pub is_timed: bool,
    /// Whether it may be [tried again](Engine::retry).
    pub may_retry: bool,
}

impl<T: Send + 'static> Engine<T> {
    /// Tells whether the next task, which is expected to count `next_len` bytes, may be pickled now:
    /// whether there is a slot for it and room in the run-ahead of rule 2.
    #[must_use]
    pub fn has_room(&self, next_len: u64) -> bool {
        let mut state = self.shared.lock();
        if !state.has_slot() {
            return false;
        }
        let table = self.shared.table();
        state.run_ahead.claimed(table.head_position());
        state.run_ahead.has_room(next_len) && table.has_room()
    }

    /// Hands a task out, behind all that were published before.
    ///
    /// # Errors
    /// If there is no slot or no memory for it; the ticket comes back with the refusal.
    pub fn publish(&self, task: Task<'_, T>) -> std::result::Result<(), (T, Error)> {
        let table = self.shared.table();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(index) = state.take_slot() else {
            return Err((task.ticket, Error::no_room(task.bytes.len() as u64, 0)));
        };
        let slot = table.slot(index);
        let block = if task.bytes.len() <= INLINE_LEN {
            slot.write_inline(task.bytes);
            None
        } else {
            match state.space.store(&[task.bytes]) {
                Ok(block) => Some(block),
                Err(error) => {
                    state.give_slot(index);
                    return Err((task.ticket, error));
                }
            }
        };
        let payload = Payload {
            kind: task.kind,
            len: task.bytes.len() as u64,
            offset: block.as_ref().map(|block| block.offset),
            note_len: 0,
        };
        kill_point!("parent.publish.payload_written");
        slot.describe(payload);
        slot.time(task.is_timed || task.time_limit.is_some());
        for &part in task.parts {
            state.store.hold(part);
        }
        let record = &mut state.slots[index as usize];
        record.ticket = Some(task.ticket);
        record.arguments = block;
        record.parts.extend_from_slice(task.parts);
        record.attempts = 1;
        record.is_timed = task.is_timed;
        record.original = task.may_retry.then(|| {
            let mut inline = [0; INLINE_LEN];
            if payload.offset.is_none() {
                inline[..task.bytes.len()].copy_from_slice(task.bytes);
            }
            Box::new(Original { payload, inline, counted_len: task.counted_len })
        });
        let turn = record.turn;
        let has_memory_limit = self.shared.sizes.memory_limit.is_some();
        let due = state.note_limits(index, task.time_limit, has_memory_limit);
        let record = &mut state.slots[index as usize];
        kill_point!("parent.publish.recorded");
        let Some(position) = table.publish(index, turn) else {
            // The ring has four cells a slot, so only a damaged head can fill it. The slot's word may
            // say READY, so the slot is not used again.
            let ticket = record.ticket.take();
            state.drop_limits(index);
            self.shared.damaged(state);
            let Some(ticket) = ticket else { return Ok(()) };
            return Err((ticket, Error::damaged()));
        };
        record.position = position;
        self.shared.published(state, position);
        state.run_ahead.published(position, task.counted_len);
        if let Some(due) = due {
            self.shared.look_by(state, due);
        }
        kill_point!("parent.publish.out");
        state.tasks_dispatched += 1;
        state.task_bytes += task.bytes.len() as u64;
        if self.shared.is_crowded(state) {
            self.shared.mind_the_pace(state, clock::monotonic_ns());
        }
        let unclaimed = state.run_ahead.len();
        drop(guard);
        if unclaimed > usize::from(table.someone_spins())
            && let Some(bell) = table.wake_another()
        {
            kill_point!("parent.publish.wake_owed");
            futex::wake(bell, 1);
        }
        Ok(())
    }

    /// Says whether tasks wait for room. If they do, the leader's rest ends when there is some.
    /// Returns true if there is room already.
    #[must_use]
    pub fn expect_room(&self, tasks_wait: bool) -> bool {
        let table = self.shared.table();
        if !tasks_wait {
            return table.ask_refill(u64::MAX);
        }
        let position = {
            let mut state = self.shared.lock();
            state.run_ahead.claimed(table.head_position());
            if !state.has_slot() {
                // Room comes with the next completion, which wakes the leader anyway.
                return table.ask_refill(u64::MAX);
            }
            state.run_ahead.refill_position()
        };
        table.ask_refill(position)
    }

    /// Stores a part that many tasks will name, or finds its equal, and holds it for the front.
    /// `kind` tells the worker side how to read the bytes; what workers count for the part is added
    /// up under `tag`, of which the highest [`COUNTED_TAGS_MAX`](crate::COUNTED_TAGS_MAX) are kept.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn store(&self, bytes: &[u8], kind: u64, tag: u64) -> Result<StoreId> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        state.store.store(self.shared.table(), &mut state.space, bytes, kind, tag)
    }

    /// Stores a part of `len` bytes that `fill` makes piece by piece, so that they need not lie in
    /// memory as a whole; or finds its equal, and holds it for the front. `fill` is called without
    /// a lock, with the next piece to be filled, and returns false to give up.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn store_pieces(
        &self,
        len: u64,
        kind: u64,
        tag: u64,
        mut fill: impl FnMut(&mut [u8]) -> bool,
    ) -> Result<Option<StoreId>> {
        let block = self.shared.lock().space.allocate(len)?;
        let mut hash = XxHash3_128::new();
        let mut piece = vec![0; PIECE_LEN.min(len) as usize];
        let mut done = 0;
        while done < len {
            let piece = &mut piece[..PIECE_LEN.min(len - done) as usize];
            let is_filled = fill(piece);
            let mut guard = self.shared.lock();
            let written = if is_filled {
                guard.space.write(&block, block.offset + done, piece)
            } else {
                Ok(())
            };
            if !is_filled || written.is_err() {
                guard.space.give_back(block);
                return written.map(|()| None);
            }
            drop(guard);
            hash.write(piece);
            done += piece.len() as u64;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let hash = hash.finish_128();
        let table = self.shared.table();
        state.store.store_block(table, &mut state.space, block, hash, kind, tag).map(Some)
    }

    /// Returns what workers have counted for parts, by tag.
    #[must_use]
    pub fn part_counts(&self) -> HashMap<u64, PartCounts> {
        self.shared.lock().store.counts(self.shared.table())
    }

    /// Holds a part once more, for as long as a dispatch that names it is being made.
    pub fn hold(&self, part: StoreId) {
        self.shared.lock().store.hold(part);
    }

    /// Lets go of a part that [`Self::store`] gave, or [`Self::hold`] held; it is freed when no task names it any more.
    pub fn let_go(&self, part: StoreId) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        state.store.let_go(self.shared.table(), &mut state.space, part);
    }

    /// Gives the pages back that are kept warm for reuse. Returns whether there were any, or may be
    /// more: workers have leased what nobody holds.
    pub fn cool(&self) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let was_warm = state.space.is_warm() || state.store.any_leased();
        state.store.free_unleased(self.shared.table(), &mut state.space);
        state.space.cool();
        was_warm
    }
}
