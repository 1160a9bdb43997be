//! The parent's side of a pool.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use millpond_sys::eventfd::Bell;
use millpond_sys::file_range::punch_hole;
use millpond_sys::mapping::page_size;
use millpond_sys::poller::Poller;
use millpond_sys::{memfd, pidfd, probe, process};
use millpond_table::{Layout, Seat, Table};

use crate::config::{Config, Sizes};
use crate::error::Result;
use crate::handover::HandOver;
use crate::lives::{Incarnation, Vacancy};
use crate::object_store::ObjectStore;
use crate::ranges::Ranges;
use crate::reader::Reader;
use crate::shared_table::{SharedTable, file_len};
use crate::space::Space;
use crate::state::State;
use crate::supervisor;
use crate::waiting::Keeper;

/// A pool's engine, in the process that made it.
///
/// `T` is the ticket that the front gives with each task and gets back with its end. Every task that
/// was [published](Self::publish) comes out of [`Self::collect`] exactly once, whatever becomes of
/// its worker.
#[derive(Debug)]
pub struct Engine<T: Send + 'static> {
    pub(crate) shared: Arc<Shared<T>>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    creator: u32,
}

#[derive(Debug)]
pub(crate) struct Shared<T> {
    pub(crate) layout: Layout,
    pub(crate) sizes: Sizes,
    pub(crate) table_file: OwnedFd,
    pub(crate) arena: Arc<OwnedFd>,
    pub(crate) results: Arc<OwnedFd>,
    pub(crate) parent_pidfd: Option<OwnedFd>,
    shared_table: SharedTable,
    state: Mutex<State<T>>,
    pub(crate) poller: Poller,
    pub(crate) control: Bell,
    pub(crate) ending: AtomicBool,
    /// News for the leader other than completions: a kick, or lost tasks.
    pub(crate) news: AtomicBool,
    pub(crate) keeper: Keeper,
    pub(crate) cpu_count: usize,
}

impl<T> Shared<T> {
    pub(crate) fn table(&self) -> Table<'_> {
        self.shared_table.table()
    }

    /// Tells whether who waits spins before it sleeps: on a single CPU nobody would act meanwhile.
    pub(crate) fn spins(&self) -> bool {
        self.cpu_count > 1
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic under the lock is a defect of this crate; the state is still whole enough to end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine has counted since it was made.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Tasks published.
    pub tasks_dispatched: u64,
    /// Payload bytes published, stored parts not included.
    pub task_bytes: u64,
    /// Workers that died without a word.
    pub worker_deaths: u64,
    /// Bytes in the object store now.
    pub stored_bytes: u64,
    /// Bytes of results' buffers that the front reads now.
    pub borrowed_bytes: u64,
    /// Bytes that the parent keeps for reuse now.
    pub warm_bytes: u64,
    /// Values from workers that were refused.
    pub damaged: u64,
    /// Times that a task went out once more.
    pub retries: u64,
    /// Tasks that were stopped past their deadline.
    pub timeouts: u64,
    /// Tasks that were stopped because their worker held too much memory.
    pub memory_kills: u64,
}

impl<T: Send + 'static> Engine<T> {
    /// Makes an engine without workers, and without threads: see [`Self::start_supervisor`].
    ///
    /// # Errors
    /// If the kernel denies shared memory or futexes, or memory is short.
    pub fn new(config: Config) -> Result<Self> {
        probe::require()?;
        let sizes = Sizes::new(config);
        let layout = Layout::new(sizes.seat_count);
        let table_file = memfd::create("millpond-table", file_len(layout) as u64)?;
        let shared_table = SharedTable::create(table_file.as_fd(), layout)?;
        let arena = Arc::new(memfd::create("millpond-arena", sizes.arena_len)?);
        let results = Arc::new(memfd::create("millpond-results", sizes.results_len())?);
        let state = State::new(
            layout,
            shared_table.table().tail_position(),
            Space::new(
                Arc::clone(&arena),
                0,
                sizes.arena_len,
                sizes.arena_small_len,
                sizes.warm_len_max,
            ),
            ObjectStore::new(layout.store_count),
            Reader::new(
                Arc::clone(&results),
                sizes.results_len(),
                sizes.range_len,
                sizes.range_small_len,
            ),
            Ranges::new(sizes.range_len, sizes.range_count),
        );
        let shared = Shared {
            layout,
            sizes,
            table_file,
            arena,
            results,
            parent_pidfd: pidfd::open(process::id()).ok(),
            shared_table,
            state: Mutex::new(state),
            poller: Poller::new()?,
            control: Bell::new()?,
            ending: AtomicBool::new(false),
            news: AtomicBool::new(false),
            keeper: Keeper::default(),
            cpu_count: millpond_sys::limits::usable_cpus(),
        };
        shared.poller.add(shared.control.as_fd(), supervisor::CONTROL)?;
        Ok(Self { shared: Arc::new(shared), supervisor: Mutex::new(None), creator: process::id() })
    }

    /// Starts the supervisor thread; called once the first workers have been started, so that these
    /// are forked from a process without a thread of ours.
    ///
    /// # Errors
    /// If the system denies a thread.
    pub fn start_supervisor(&self) -> std::io::Result<()> {
        let thread = supervisor::start(Arc::clone(&self.shared))?;
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Takes a seat for a new worker and returns what it needs. Follow with [`Self::seated`] or
    /// [`Self::unseat`].
    ///
    /// # Errors
    /// If no seat or no result range is free.
    pub fn take_seat(&self) -> Result<HandOver> {
        self.shared.take_seat()
    }

    /// Returns the most workers that the pool can have at a time.
    #[must_use]
    pub fn seat_count(&self) -> u32 {
        self.shared.sizes.seat_count
    }

    /// Tells that the process of this incarnation has been started. Its end is seen by pidfd, or by
    /// `sentinel_fd`, a descriptor that becomes readable when the process ends, where the kernel has
    /// no pidfds.
    ///
    /// # Errors
    /// If the system denies the watch. The process must then be ended, and [`Self::ended`] told.
    pub fn seated(&self, incarnation: Incarnation, pid: u32, sentinel_fd: i32) -> Result<()> {
        let sentinel = duplicate(sentinel_fd)?;
        #[cfg(canary = "leaked-descriptor")]
        std::mem::forget(duplicate(sentinel_fd)?);
        self.shared.seated(incarnation, pid, sentinel)
    }

    /// Tells that the process of this incarnation could not be started.
    pub fn unseat(&self, incarnation: Incarnation) {
        self.shared.unseat(incarnation);
    }

    /// Tells that the process of this incarnation, which could not be [`Self::seated`], was started
    /// and has ended.
    pub fn ended(&self, incarnation: Incarnation) {
        self.shared.ended(incarnation);
    }

    /// Returns the next worker whose end was settled, if there is one.
    #[must_use]
    pub fn next_vacancy(&self) -> Option<Vacancy> {
        self.shared.lock().vacancies.pop_front()
    }

    /// Asks all workers to end once no task is ready, and wakes those that sleep.
    pub fn stop_workers(&self) {
        let table = self.shared.table();
        {
            // Both at once: the audit compares them.
            let mut state = self.shared.lock();
            state.is_stopping = true;
            table.stop();
        }
        kill_point!("parent.stop.told");
        table.wake_all(|bell| {
            millpond_sys::futex::wake(bell, u32::MAX >> 1);
        });
    }

    /// Ends the supervisor and gives all shared memory back, also what forked children still have
    /// mapped. Workers must be gone. Tickets that never ended are returned, to be dropped where user
    /// code may run.
    pub fn shut_down(&self) -> Vec<T> {
        if self.creator != process::id() {
            return Vec::new();
        }
        if self.shared.ending.swap(true, Ordering::AcqRel) {
            return Vec::new();
        }
        self.shared.control.ring();
        let thread = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        let tickets = state.slots.iter_mut().filter_map(|record| record.ticket.take()).collect();
        let mut borrowed: Vec<_> =
            state.borrowed.iter().map(|(at, loan)| (*at, loan.len)).collect();
        drop(state);
        let _ = punch_hole(self.shared.arena.as_fd(), 0, self.shared.sizes.arena_len);
        // What the front still reads of the results goes when it is given back.
        borrowed.sort_unstable();
        let mut from = 0;
        for (at, len) in borrowed.into_iter().chain([(self.shared.sizes.results_len(), 0)]) {
            let _ = punch_hole(self.shared.results.as_fd(), from, at - from);
            from = at + len.next_multiple_of(page_size() as u64);
        }
        tickets
    }

    /// Returns what was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.shared.lock();
        Counts {
            tasks_dispatched: state.tasks_dispatched,
            task_bytes: state.task_bytes,
            worker_deaths: state.worker_deaths,
            stored_bytes: state.store.bytes,
            borrowed_bytes: state.borrowed.values().map(|loan| loan.len).sum(),
            warm_bytes: state.space.warm_len(),
            damaged: state.damaged,
            retries: state.retries,
            timeouts: state.timeouts,
            memory_kills: state.memory_kills,
        }
    }

    /// Returns the sums of what all workers have counted, with their names.
    #[must_use]
    pub fn worker_counts(&self) -> Vec<(&'static str, u64)> {
        // Those that never had a worker are not touched.
        let seat_count = self.shared.lock().seats.ever_taken();
        let seats = &self.shared.table().seats()[..seat_count];
        let sum = |index| seats.iter().map(|seat| seat.count(index)).sum();
        Seat::COUNTS.iter().enumerate().map(|(index, name)| (*name, sum(index))).collect()
    }
}

impl<T: Send + 'static> Drop for Engine<T> {
    fn drop(&mut self) {
        // A forked child uses, locks and drops nothing of its parent's engine. There the supervisor's
        // share in `shared` is never given up, so nothing below is dropped either.
        if self.creator == process::id() {
            drop(self.shut_down());
        }
    }
}

#[allow(unsafe_code, reason = "a raw descriptor of the front is borrowed for one call")]
fn duplicate(fd: i32) -> Result<OwnedFd> {
    // SAFETY: the front vouches that the descriptor is open during this call; it is only duplicated,
    // and `ManuallyDrop` keeps it from being closed here.
    let borrowed = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) });
    debug_assert!(borrowed.as_raw_fd() >= 0, "the front gives an open descriptor");
    Ok(pidfd::duplicate(borrowed.as_fd())?)
}
