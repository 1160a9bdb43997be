//! A worker without a task: it spins if no other one does, then sleeps, and looks once a second.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millpond_sys::futex::{self, Wait};
use millpond_sys::process;

use super::{TaskRef, Worker};
use crate::config::{DOUBT_TIME, RECHECK_TIME, SPIN_LOOKS, SPIN_TIME};
use crate::error::Result;

/// Index of "rescued_wakeups" in [`Seat::COUNTS`](millpond_table::Seat::COUNTS).
const RESCUED_WAKEUPS: usize = 4;

/// What a wait for a task came to.
#[derive(Debug)]
pub enum Next {
    /// A task was claimed.
    Task(TaskRef),
    /// The pool ends: the worker should return.
    Stop,
    /// Nothing came for a while.
    Idle,
    /// A signal came; its handlers should run.
    Interrupted,
}

impl Worker {
    /// Waits for a task: spins for a moment if no other idle worker does, then sleeps, a second at
    /// most.
    ///
    /// # Errors
    /// If the shared memory is damaged.
    pub fn wait(&self) -> Result<Next> {
        let table = self.table();
        if self.spins && table.may_spin(self.owner) {
            kill_point!("worker.spin.begun");
            let found = self.spin(SPIN_TIME);
            kill_point!("worker.spin.over");
            table.end_spin(self.owner);
            if let Some(task) = found? {
                // The parent saves a wake for each spinner that it sees, and may have seen this one
                // for two tasks.
                kill_point!("worker.spin.found");
                if table.has_ready()
                    && let Some(bell) = table.wake_another()
                {
                    kill_point!("worker.spin.wake_owed");
                    futex::wake(bell, 1);
                }
                return Ok(Next::Task(task));
            }
        }
        if let Some((bell, value)) = table.worker_may_sleep(self.owner) {
            let wait = futex::wait(bell, value, Some(RECHECK_TIME));
            kill_point!("worker.sleep.over");
            let is_forgotten = matches!(wait, Wait::TimedOut) && self.is_forgotten(bell, value);
            table.worker_awake(self.owner);
            match wait {
                Wait::Interrupted => return Ok(Next::Interrupted),
                Wait::TimedOut => {
                    return Ok(match self.claim()? {
                        Some(task) => {
                            self.count(RESCUED_WAKEUPS, u64::from(is_forgotten));
                            Next::Task(task)
                        }
                        None => Next::Idle,
                    });
                }
                Wait::Woken | Wait::Changed => {}
            }
        }
        if let Some(task) = self.claim()? {
            return Ok(Next::Task(task));
        }
        Ok(if table.is_stopping() || self.must_leave() { Next::Stop } else { Next::Interrupted })
    }

    /// Tells whether a task is ready that nobody will claim, though this worker sleeps: whether a wake
    /// was lost.
    ///
    /// That one is ready shows nothing: whoever published it may be about to wake this worker, or counts
    /// on one that is awake. So this one sleeps on for a moment, in which any of them would act.
    fn is_forgotten(&self, bell: &AtomicU32, value: u32) -> bool {
        let table = self.table();
        let head = table.head_position();
        table.has_ready()
            && matches!(futex::wait(bell, value, Some(DOUBT_TIME)), Wait::TimedOut)
            && bell.load(Ordering::Relaxed) == value
            && table.head_position() == head
            && table.has_ready()
    }

    fn spin(&self, time: Duration) -> Result<Option<TaskRef>> {
        let start = Instant::now();
        while start.elapsed() < time && !self.table().is_stopping() {
            for _ in 0..SPIN_LOOKS {
                if self.table().has_ready()
                    && let Some(task) = self.claim()?
                {
                    return Ok(Some(task));
                }
                std::hint::spin_loop();
            }
            process::give_way();
        }
        Ok(None)
    }
}
