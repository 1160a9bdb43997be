//! Workers' lives: who sits where, since when, and how it ended.

use std::os::fd::{AsFd, OwnedFd};

use millpond_sys::pidfd;
use millpond_table::{Owner, SeatState};

use crate::error::{Error, Result};
use crate::handover::HandOver;
use crate::parent::Shared;
use crate::state::{End, Pending, State};
use crate::waiting::KeeperNews;
use crate::worker::TASKS;

/// One worker process: seats are used again, incarnations are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Incarnation(pub u64);

/// How a worker's life ended, as far as shared memory tells; the exit code is the front's to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It was gone before it said that its initializer had run.
    NeverReady,
    /// Its initializer raised; the bytes are what the worker wrote, a note first.
    Failed {
        /// The note and the error, as the front's worker side wrote them.
        bytes: Vec<u8>,
        /// Length in bytes of the note.
        note_len: u64,
    },
    /// It ended in order: its task limit, or the pool's end.
    Retired,
    /// The parent has stopped it, on account of its task.
    Stopped,
    /// It was gone without a word.
    Died,
    /// It found the shared memory damaged.
    Damaged,
}

/// A worker that is gone, and has left its seat.
#[derive(Clone, Debug)]
pub struct Vacancy {
    /// The worker.
    pub incarnation: Incarnation,
    /// How it ended.
    pub ending: Ending,
}

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) seat: u32,
    pub(crate) range: u64,
    pub(crate) watch: Option<OwnedFd>,
    /// Whether `watch` is a pidfd.
    pub(crate) is_pidfd: bool,
    pub(crate) pid: Option<u32>,
    /// What the seat's count of tasks was when the life began.
    pub(crate) tasks_before: u64,
    /// Set once the worker was asked to stop.
    pub(crate) stop: Option<Stop>,
    /// Whether it is surplus: it ends after its present task, and is not replaced.
    pub(crate) is_leaving: bool,
}

/// A worker that has been asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// When it is killed, by the monotonic clock; `u64::MAX` once it was.
    pub(crate) kill_at_ns: u64,
}

impl<T> Shared<T> {
    pub(crate) fn take_seat(&self) -> Result<HandOver> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.seats.are_all_taken() {
            return Err(Error::no_seat(self.sizes.seat_count));
        }
        if !state.ranges.has_free() {
            self.complete_loans(state);
        }
        let Some(range) = state.ranges.take() else {
            return Err(Error::no_room(self.sizes.range_len, self.sizes.results_len()));
        };
        let seat = state.seats.take();
        state.store.seat_count = state.seats.bound();
        self.table().seats()[seat as usize].reset();
        kill_point!("parent.seat.reset");
        state.next_incarnation += 1;
        let incarnation = Incarnation(state.next_incarnation);
        let tasks_before = self.tasks_of(seat);
        state.lives.insert(
            incarnation,
            Life {
                seat,
                range,
                watch: None,
                is_pidfd: false,
                pid: None,
                tasks_before,
                stop: None,
                is_leaving: false,
            },
        );
        let start = state.ranges.start(range);
        Ok(self.hand_over(incarnation, seat, start))
    }

    /// The process of this incarnation runs. `sentinel` is watched where the kernel has no pidfd, or
    /// no more of them.
    pub(crate) fn seated(
        &self,
        incarnation: Incarnation,
        pid: u32,
        sentinel: OwnedFd,
    ) -> Result<()> {
        let (watch, is_pidfd) = match pidfd::open(pid) {
            Ok(watch) => (watch, true),
            Err(error) if error.is_no_such_process() => {
                self.ended(incarnation);
                return Ok(());
            }
            Err(_) => (sentinel, false),
        };
        kill_point!("parent.seat.started");
        let mut state = self.lock();
        if let Some(life) = state.lives.get_mut(&incarnation) {
            self.poller.add(watch.as_fd(), incarnation.0)?;
            life.watch = Some(watch);
            life.is_pidfd = is_pidfd;
            life.pid = Some(pid);
            kill_point!("parent.seat.watched");
        }
        if state.is_damaged {
            // The supervisor has not seen this one yet.
            self.look_by(&mut state, 0);
        }
        Ok(())
    }

    /// The incarnation's process could not be started: nothing of it has run.
    pub(crate) fn unseat(&self, incarnation: Incarnation) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(life) = state.lives.remove(&incarnation) {
            state.ranges.retire(life.range, 0, &self.results);
            state.give_seat(life.seat);
        }
    }

    /// The incarnation's process is gone: settles all that it held. Runs in the supervisor, but for
    /// a process that could not be watched.
    pub(crate) fn ended(&self, incarnation: Incarnation) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(life) = state.lives.remove(&incarnation) else { return };
        if let Some(watch) = &life.watch {
            // Forked siblings hold copies of the descriptor, so closing it would leave it polled.
            let _ = self.poller.remove(watch.as_fd());
        }
        let table = self.table();
        let recovered = table.recover_among(Owner(life.seat as u16), state.slots.len() as u32);
        kill_point!("parent.ended.recovered");
        self.gather(state);
        for slot in recovered.done {
            self.note_done(state, slot);
        }
        for slot in recovered.lost {
            let Some(record) = state.slots.get_mut(slot as usize) else { continue };
            if !record.is_pending && record.ticket.is_some() {
                record.is_pending = true;
                let end = match record.condemned {
                    Some(reason) => End::Condemned(incarnation, reason),
                    None => End::Lost(incarnation),
                };
                state.pending.push_back(Pending { slot, end });
            }
        }
        kill_point!("parent.ended.settled");
        table.seats()[life.seat as usize].end_leases();
        state.store.free_unleased(table, &mut state.space);
        let ending = self.ending_of(state, &life);
        if ending == Ending::Damaged {
            self.damaged(state);
        }
        state.worker_deaths += u64::from(matches!(ending, Ending::Died));
        let unread = self.unread_in(state, life.range);
        if state.ranges.retire(life.range, unread, &self.results) {
            state.results.forget_range(life.range);
        }
        state.give_seat(life.seat);
        state.vacancies.push_back(Vacancy { incarnation, ending });
        let seat_count = state.seats.ever_taken();
        drop(guard);
        kill_point!("parent.ended.vacant");
        // The dead worker may have owed a wake to anyone.
        table.wake_all(|bell| {
            millpond_sys::futex::wake(bell, u32::MAX >> 1);
        });
        table.ring_all(seat_count, |bell| {
            millpond_sys::futex::wake(bell, 1);
        });
        kill_point!("parent.ended.all_woken");
        self.tell_leader();
        self.tell_keeper(KeeperNews::VACANCY);
    }

    /// Returns how many tasks the workers of a seat have completed.
    pub(crate) fn tasks_of(&self, seat: u32) -> u64 {
        self.table().seats()[seat as usize].count(TASKS)
    }

    fn unread_in(&self, state: &State<T>, range: u64) -> usize {
        let in_range = |offset: u64| state.ranges.of(offset) == range;
        let unread = state.slots.iter().filter(|record| record.result_at.is_some_and(in_range));
        unread.count() + state.borrowed.keys().filter(|offset| in_range(**offset)).count()
    }

    fn ending_of(&self, state: &mut State<T>, life: &Life) -> Ending {
        let seat = &self.table().seats()[life.seat as usize];
        match seat.state() {
            SeatState::Retired => Ending::Retired,
            SeatState::Ready if life.stop.is_some() => Ending::Stopped,
            SeatState::Ready => Ending::Died,
            SeatState::Starting => Ending::NeverReady,
            SeatState::Damaged => Ending::Damaged,
            SeatState::Failed => {
                let (len, note_len) = seat.failure();
                let len = len.min(self.sizes.range_len);
                let view = state.results.view(state.ranges.start(life.range), len);
                match view {
                    Ok(view) => {
                        Ending::Failed { bytes: view.to_vec(), note_len: note_len.min(len) }
                    }
                    Err(_) => Ending::NeverReady,
                }
            }
        }
    }
}
