//! Who waits in the parent: the leader for completions, the keeper for all other news.

use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond_sys::futex::{self, Wait};
use millpond_sys::process;

use crate::config::{SPIN_LOOKS, SPIN_TIME};
use crate::parent::{Engine, Shared};

/// Why the leader's rest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// There may be something to collect, room to dispatch, or other news.
    Work,
    /// The time is over.
    TimedOut,
    /// A signal came; its handlers should run.
    Interrupted,
}

/// News for the keeper, as bits.
#[derive(Clone, Copy, Debug)]
pub struct KeeperNews;

impl KeeperNews {
    /// A seat has lost its worker.
    pub const VACANCY: u32 = 1;
    /// A caller has stopped leading while tasks are out.
    pub const LEADERLESS: u32 = 2;
    /// A job waits that its caller could not dispatch.
    pub const JOB: u32 = 4;
    /// The pool's state has changed.
    pub const STATE: u32 = 8;
}

/// The keeper's letter box. It is private to this process, so a plain lock serves.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    news: Mutex<u32>,
    arrived: Condvar,
}

impl<T> Shared<T> {
    pub(crate) fn tell_keeper(&self, news: u32) {
        *self.keeper.news.lock().unwrap_or_else(PoisonError::into_inner) |= news;
        self.keeper.arrived.notify_one();
    }

    /// Ends the leader's rest, if it rests, or its next one.
    pub(crate) fn tell_leader(&self) {
        self.news.store(true, Ordering::SeqCst);
        let table = self.table();
        if table.must_wake_parent() {
            kill_point!("parent.tell.wake_owed");
            futex::wake(table.parent_bell(), u32::MAX >> 1);
        }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Tells whether a rest would end at once.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.shared.table().has_done() || self.shared.news.load(Ordering::Relaxed)
    }

    /// Waits until there may be work for the leader: spins for a moment, then sleeps. One thread at
    /// a time may rest.
    #[must_use]
    pub fn rest(&self, timeout: Option<Duration>) -> Rest {
        let table = self.shared.table();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        if self.shared.spins() {
            let start = Instant::now();
            loop {
                for _ in 0..SPIN_LOOKS {
                    if self.has_work() {
                        self.shared.news.store(false, Ordering::SeqCst);
                        return Rest::Work;
                    }
                    std::hint::spin_loop();
                }
                let now = Instant::now();
                if deadline.is_some_and(|deadline| now >= deadline) {
                    return Rest::TimedOut;
                }
                if now - start >= SPIN_TIME {
                    break;
                }
                process::give_way();
            }
        }
        let Some((bell, value)) = table.parent_may_sleep() else { return Rest::Work };
        // The news flag is stored before its teller looks for a sleeper, with a fence between; the
        // sleeper has announced itself, with a fence, before this load.
        if self.shared.news.swap(false, Ordering::SeqCst) {
            table.parent_awake();
            return Rest::Work;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = futex::wait(bell, value, left);
        kill_point!("parent.sleep.over");
        table.parent_awake();
        self.shared.news.store(false, Ordering::SeqCst);
        match wait {
            Wait::Woken | Wait::Changed => Rest::Work,
            Wait::TimedOut => Rest::TimedOut,
            Wait::Interrupted => Rest::Interrupted,
        }
    }

    /// Ends the leader's rest.
    pub fn kick(&self) {
        self.shared.tell_leader();
    }

    /// Puts news into the keeper's letter box.
    pub fn tell_keeper(&self, news: u32) {
        self.shared.tell_keeper(news);
    }

    /// Waits for news for the keeper, and returns them; 0 if the time is over.
    #[must_use]
    pub fn keeper_wait(&self, timeout: Option<Duration>) -> u32 {
        let keeper = &self.shared.keeper;
        let mut news = keeper.news.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        while *news == 0 {
            news = match deadline {
                None => keeper.arrived.wait(news).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return 0;
                    }
                    keeper
                        .arrived
                        .wait_timeout(news, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        std::mem::take(&mut *news)
    }
}
