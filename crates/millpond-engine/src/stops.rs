//! Workers that the parent stops on account of their task: past its deadline, over its memory, or
//! cancelled.
//!
//! The task is condemned first, by one exchange of its slot's word, which its completion would need as
//! well: so a task either completes or is condemned, and a worker whose task is condemned takes no
//! other. Then the worker gets SIGTERM, and after a time of grace SIGKILL. Its end is settled like any
//! other's; the task's outcome tells why.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millpond_sys::{clock, futex, pidfd, process};
use millpond_table::{Owner, Phase};

use crate::lives::Stop;
use crate::parent::{Engine, Shared};
use crate::state::{End, Pending, State};
use crate::waiting::KeeperNews;

/// How long a worker that is asked to stop may take to do so, before it is killed.
const GRACE_NS: u64 = 1_000_000_000;

/// How often a worker is looked at that must be killed and has no process id yet.
const UNSEATED_LOOK_NS: u64 = 1_000_000;

/// How often the memory of workers is looked at, while tasks are out and there is a limit.
const MEMORY_LOOK_NS: u64 = 20_000_000;

/// Why a task was condemned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It ran for longer than it may.
    Deadline,
    /// Its worker held more memory than it may: so many bytes.
    Memory(u64),
    /// Somebody has cancelled it.
    Cancelled,
}

impl<T> Shared<T> {
    /// Condemns what must not go on, kills who does not stop, and returns when to look again. Runs in
    /// the supervisor.
    pub(crate) fn enforce(&self) -> Option<Duration> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = clock::monotonic_ns();
        let mut next = u64::MAX;
        if state.timed_count > 0 {
            next = next.min(self.enforce_deadlines(state, now));
        }
        if let Some(limit) = self.sizes.memory_limit
            && state.has_tasks_out()
        {
            self.enforce_memory(state, now, limit);
            next = next.min(now + MEMORY_LOOK_NS);
        }
        self.stop_damaged(state, now);
        for life in state.lives.values_mut() {
            let Some(stop) = life.stop else { continue };
            if now < stop.kill_at_ns {
                next = next.min(stop.kill_at_ns);
            } else if life.pid.is_none() {
                // It claimed a task before the parent's thread that started it could say who it is.
                next = next.min(now + UNSEATED_LOOK_NS);
            } else {
                life.signal(process::Signal::KILL);
                life.stop = Some(Stop { kill_at_ns: u64::MAX });
            }
        }
        next = next.min(self.patrol(state, now));
        next = next.min(self.audit(state, now));
        let is_due = now >= state.remind_at_ns;
        if is_due {
            state.remind_at_ns = u64::MAX;
        }
        next = next.min(state.remind_at_ns);
        state.next_look_ns = next;
        drop(guard);
        if is_due {
            self.tell_keeper(KeeperNews::VACANCY);
            self.tell_leader();
        }
        (next != u64::MAX).then(|| Duration::from_nanos(next.saturating_sub(now)))
    }

    /// Returns when the next deadline may pass: a task that is not begun may begin right now.
    fn enforce_deadlines(&self, state: &mut State<T>, now: u64) -> u64 {
        let mut next = u64::MAX;
        for index in 0..state.slots.len() {
            let record = &state.slots[index];
            let Some(limit) = record.time_limit_ns else { continue };
            if record.ticket.is_none() || record.is_pending || record.condemned.is_some() {
                continue;
            }
            let slot = self.table().slot(index as u32);
            let word = slot.word();
            let due = if word.phase() == Some(Phase::Begun) && word.turn() == record.turn {
                // A worker wrote the time: it is no earlier than the task went out, and not to come.
                slot.begun_at_ns().clamp(record.published_at_ns, now).saturating_add(limit)
            } else {
                now.saturating_add(limit)
            };
            if due > now {
                next = next.min(due);
            } else {
                self.condemn(state, index as u32, Reason::Deadline, GRACE_NS, now);
            }
        }
        next
    }

    fn enforce_memory(&self, state: &mut State<T>, now: u64, limit: u64) {
        let heavy: Vec<(u32, u64, bool)> = state
            .lives
            .values()
            .filter(|life| life.stop.is_none())
            .filter_map(|life| {
                let has_worked = self.tasks_of(life.seat) != life.tasks_before;
                Some((life.seat, process::resident_len(life.pid?)?, has_worked))
            })
            .filter(|(_, len, _)| *len > limit)
            .collect();
        for (seat, len, has_worked) in heavy {
            let owner = Owner(seat as u16);
            let is_its = |word: millpond_table::SlotWord| {
                word.phase() == Some(Phase::Begun) && word.owner() == owner
            };
            let table = self.table();
            let held = (0..state.slots.len() as u32).find(|&slot| is_its(table.slot(slot).word()));
            // Memory is short: there is no time of grace.
            let is_condemned =
                held.is_some_and(|slot| self.condemn(state, slot, Reason::Memory(len), 0, now));
            // Between two tasks it leaves before the next. One that has done nothing yet may try, even if
            // it began its life above the limit: each of a row of workers that leave at once would leave
            // the tasks to the next.
            if !is_condemned
                && has_worked
                && let Some(bell) = table.dismiss(owner)
            {
                kill_point!("parent.dismiss.wake_owed");
                futex::wake(bell, 1);
            }
        }
    }

    /// Condemns a begun task, and asks its worker to stop. False if it is not begun, or complete.
    fn condemn(
        &self,
        state: &mut State<T>,
        slot: u32,
        reason: Reason,
        grace_ns: u64,
        now: u64,
    ) -> bool {
        let Some(record) = state.slots.get_mut(slot as usize) else { return false };
        let Some(owner) = self.table().slot(slot).condemn(record.turn) else { return false };
        record.condemned = Some(reason);
        kill_point!("parent.condemn.word_changed");
        let life = state.lives.values_mut().find(|life| life.seat == u32::from(owner.0));
        if let Some(life) = life {
            let first = if grace_ns == 0 { process::Signal::KILL } else { process::Signal::TERM };
            life.signal(first);
            kill_point!("parent.condemn.signalled");
            life.stop = Some(Stop { kill_at_ns: now.saturating_add(grace_ns) });
        }
        true
    }

    /// Asks the supervisor to look again at `due_ns`, unless it will look earlier anyway.
    pub(crate) fn look_by(&self, state: &mut State<T>, due_ns: u64) {
        if due_ns < state.next_look_ns {
            state.next_look_ns = due_ns;
            self.control.ring();
        }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Takes back the tasks that `is_meant` picks by their tickets and no worker has begun; they come
    /// out of [`Self::collect`] as withdrawn. With `running`, stops the workers that run one. Returns
    /// how many were taken back or are being stopped; others of them run on.
    ///
    /// `is_meant` is called under the engine's lock.
    pub fn cancel(&self, is_meant: impl Fn(&T) -> bool, running: bool) -> usize {
        let shared = &self.shared;
        let (mut withdrawn, mut condemned) = (0, 0);
        let now = clock::monotonic_ns();
        let mut guard = shared.lock();
        let state = &mut *guard;
        for index in 0..state.slots.len() {
            let record = &mut state.slots[index];
            if record.is_pending || !record.ticket.as_ref().is_some_and(&is_meant) {
                continue;
            }
            if shared.table().slot(index as u32).withdraw(record.turn) {
                record.is_pending = true;
                kill_point!("parent.cancel.withdrawn");
                let position = record.position;
                // The refill that was asked for may lie behind this task, and who steps over it tells
                // nobody. The leader, who is told below, asks anew.
                state.run_ahead.withdrawn(position);
                state.pending.push_back(Pending { slot: index as u32, end: End::Withdrawn });
                withdrawn += 1;
            } else if running
                && shared.condemn(state, index as u32, Reason::Cancelled, GRACE_NS, now)
            {
                condemned += 1;
            }
        }
        if condemned > 0 {
            shared.look_by(state, now.saturating_add(GRACE_NS));
        }
        drop(guard);
        if withdrawn > 0 {
            shared.tell_leader();
        }
        withdrawn + condemned
    }

    /// Tells the keeper to look for vacancies when this time has passed.
    pub fn remind_keeper(&self, after: Duration) {
        let due = clock::monotonic_ns()
            .saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let mut state = self.shared.lock();
        state.remind_at_ns = state.remind_at_ns.min(due);
        self.shared.look_by(&mut state, due);
    }
}

impl crate::lives::Life {
    pub(crate) fn signal(&self, signal: process::Signal) {
        // An error says that the process is gone, which its descriptor will tell as well.
        let _ = match (&self.watch, self.pid) {
            (Some(watch), _) if self.is_pidfd => pidfd::send_signal(watch.as_fd(), signal),
            (_, Some(pid)) => process::send_signal(pid, signal),
            _ => Ok(()),
        };
    }
}

impl<T> State<T> {
    /// Notes the limits of a task that is about to go out, and returns when the supervisor must look.
    pub(crate) fn note_limits(
        &mut self,
        slot: u32,
        limit: Option<Duration>,
        has_memory_limit: bool,
    ) -> Option<u64> {
        let record = &mut self.slots[slot as usize];
        record.time_limit_ns =
            limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        record.condemned = None;
        if limit.is_none() && !has_memory_limit {
            return None;
        }
        let now = clock::monotonic_ns();
        record.published_at_ns = now;
        self.timed_count += usize::from(limit.is_some());
        let due = record.time_limit_ns.map_or(u64::MAX, |limit| now.saturating_add(limit));
        Some(if has_memory_limit { due.min(now + MEMORY_LOOK_NS) } else { due })
    }

    /// Forgets the limits of a task that has ended.
    pub(crate) fn drop_limits(&mut self, slot: u32) {
        let record = &mut self.slots[slot as usize];
        if record.time_limit_ns.take().is_some() {
            self.timed_count -= 1;
        }
        record.condemned = None;
    }
}

impl<T> Shared<T> {
    /// Tells whether the supervisor has to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}
