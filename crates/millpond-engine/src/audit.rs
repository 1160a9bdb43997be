//! Damage: what a worker has written where it should not, or a task's stray pointer.
//!
//! Some of it is met at once, by whoever reads it. The rest would show as a task that never ends; so
//! while tasks are out the supervisor looks, four times a second, whether the table can still be what we
//! have made of it. Either way nothing in the table can be relied on any more: the workers are stopped,
//! and the front is told to end all that is out.

use millpond_sys::{clock, process};
use millpond_table::{Known, Outstanding};

use crate::lives::Stop;
use crate::parent::{Engine, Shared};
use crate::state::State;
use crate::waiting::KeeperNews;

/// Between two looks. What cannot be explained at two of them is damage.
const LOOK_NS: u64 = 250_000_000;

/// How long a worker may take to end, once the table is damaged.
const GRACE_NS: u64 = 250_000_000;

impl<T> Shared<T> {
    /// A task has gone out at this position: has the supervisor look, unless it does already.
    pub(crate) fn published(&self, state: &mut State<T>, position: u64) {
        if position != state.next_position {
            self.damaged(state);
        }
        state.next_position = position.wrapping_add(1);
        if state.audit_at_ns == u64::MAX {
            let due_ns = clock::monotonic_ns() + LOOK_NS;
            state.audit_at_ns = due_ns;
            self.look_by(state, due_ns);
        }
    }

    /// Looks if it is time to. Runs in the supervisor; returns when it is to look again.
    pub(crate) fn audit(&self, state: &mut State<T>, now_ns: u64) -> u64 {
        if state.is_damaged {
            return u64::MAX;
        }
        if now_ns < state.audit_at_ns {
            return state.audit_at_ns;
        }
        if !state.has_tasks_out() {
            state.audit.forget();
            state.audit_at_ns = u64::MAX;
            return u64::MAX;
        }
        // What lies on the done stack has ended. A worker that was about to wake the leader for it may
        // have been scribbled over.
        let pending_before = state.pending.len();
        self.gather(state);
        if state.pending.len() > pending_before {
            self.tell_leader();
        }
        let out: Vec<_> = (0..)
            .zip(&state.slots)
            .filter(|(_, record)| record.ticket.is_some() && !record.is_pending)
            .map(|(slot, record)| Outstanding { slot, turn: record.turn })
            .collect();
        let lives = &state.lives;
        let known = Known {
            tail: state.next_position,
            is_stopping: state.is_stopping,
            out: &out,
            sits: |owner: millpond_table::Owner| {
                lives.values().any(|life| life.seat == u32::from(owner.0))
            },
        };
        let found = state.audit.look(self.table(), &known);
        #[cfg(canary = "blind-audit")]
        let found = found.or(Ok::<_, millpond_table::Error>(()));
        if found.is_err() {
            self.damaged(state);
        }
        state.audit_at_ns = now_ns + LOOK_NS;
        state.audit_at_ns
    }

    /// The table is damaged. Nobody can say any more what becomes of the tasks that are out.
    pub(crate) fn damaged(&self, state: &mut State<T>) {
        state.damaged += 1;
        if state.is_damaged {
            return;
        }
        state.is_damaged = true;
        // The supervisor stops the workers.
        self.look_by(state, 0);
        self.tell_keeper(KeeperNews::STATE);
        self.tell_leader();
    }

    /// Has all workers end, if the table is damaged. Runs in the supervisor, which kills those that do
    /// not heed it.
    pub(crate) fn stop_damaged(&self, state: &mut State<T>, now_ns: u64) {
        if !state.is_damaged {
            return;
        }
        for life in state.lives.values_mut().filter(|life| life.stop.is_none()) {
            life.signal(process::Signal::TERM);
            life.stop = Some(Stop { kill_at_ns: now_ns.saturating_add(GRACE_NS) });
        }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Tells whether the shared memory is damaged: all that is out must be ended by hand.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.shared.lock().is_damaged
    }
}
