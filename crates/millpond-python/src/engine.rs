//! The parent's engine, as `millpond._native.Engine`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millpond_engine::{Config, Ending, Incarnation, Outcome, Rest, WARM_LEN_MAX};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::buffers;
use crate::deliver::{Desk, Ticket, note_attempts, read_outcome};
use crate::errors;
use crate::job::{Job, Told};
use crate::live::Live;
use crate::parts::Row;

/// Bytes of parts that are kept for a next dispatch, with what proves them, unless told otherwise.
const KEPT_LEN_MAX: u64 = 512 << 20;

/// After how long a leader that sleeps looks for a signal: one that came while it span, or just before
/// the kernel put it to sleep, has interrupted nothing.
const SIGNAL_LOOK_TIME: Duration = Duration::from_secs(1);

/// The parent's side of a pool. See the crate `millpond-engine`.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Engine {
    /// None once the pool is shut down: descriptors and mappings go with it, though the pool's object
    /// may live on.
    live: Mutex<Option<Arc<Live>>>,
    /// What was counted, as of the end.
    last_counts: Mutex<Counted>,
    pub(crate) desk: Desk,
}

/// Counts by name, and the rows of heavy objects.
type Counted = (Vec<(&'static str, u64)>, Vec<Row>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Engine {
    /// Makes an engine for a pool that begins with `worker_count` workers. `memory_len_max` is what the parent, and each
    /// worker, may keep for later while no task needs it, in bytes. `memory_limit` is what a worker may
    /// have resident while it runs a task, in bytes.
    #[new]
    #[pyo3(signature = (worker_count, memory_len_max=None, memory_limit=None))]
    fn new(
        worker_count: u32,
        memory_len_max: Option<u64>,
        memory_limit: Option<u64>,
    ) -> PyResult<Self> {
        let warm_len_max = memory_len_max.unwrap_or(WARM_LEN_MAX);
        let kept_len_max = memory_len_max.unwrap_or(KEPT_LEN_MAX);
        let config = Config { worker_count, warm_len_max, memory_limit };
        let engine = millpond_engine::Engine::new(config)
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        let live = Live::new(engine, kept_len_max);
        Ok(Self {
            live: Mutex::new(Some(Arc::new(live))),
            last_counts: Mutex::default(),
            desk: Desk::default(),
        })
    }

    /// Takes a seat for a new worker. Returns its incarnation, the descriptors and the numbers that
    /// `serve` needs.
    fn take_seat(&self) -> PyResult<(u64, Vec<i32>, Vec<u64>)> {
        let given =
            self.running()?.engine.take_seat().map_err(|error| errors::to_python(&error))?;
        let fds = vec![given.table_fd, given.arena_fd, given.results_fd, given.parent_fd];
        let numbers = vec![
            u64::from(given.seat),
            u64::from(given.seat_count),
            given.arena_len,
            given.arena_small_len,
            given.range_start,
            given.range_len,
            given.range_small_len,
            given.warm_len_max,
            u64::from(given.spins),
        ];
        Ok((given.incarnation.0, fds, numbers))
    }

    /// Tells that a worker's process has been started.
    fn seated(&self, incarnation: u64, pid: u32, sentinel_fd: i32) -> PyResult<()> {
        self.running()?
            .engine
            .seated(Incarnation(incarnation), pid, sentinel_fd)
            .map_err(|error| errors::to_python(&error))
    }

    /// Tells that a worker's process could not be started.
    fn unseat(&self, incarnation: u64) {
        if let Some(live) = self.live() {
            live.engine.unseat(Incarnation(incarnation));
        }
    }

    /// Tells that a worker's process that could not be watched has ended.
    fn ended(&self, incarnation: u64) {
        if let Some(live) = self.live() {
            live.engine.ended(Incarnation(incarnation));
        }
    }

    /// Returns the most workers that the pool can have at a time.
    #[getter]
    fn seat_count(&self) -> PyResult<u32> {
        Ok(self.running()?.engine.seat_count())
    }

    /// Dismisses surplus workers, or recalls dismissed ones, so that `wanted` stay. Returns the
    /// incarnations of those that were dismissed and of those that were recalled, and how many workers
    /// are to be started.
    fn staff(&self, wanted: usize) -> (Vec<u64>, Vec<u64>, usize) {
        let Some(live) = self.live() else { return (Vec::new(), Vec::new(), 0) };
        let staffing = live.engine.staff(wanted);
        let numbers = |all: Vec<Incarnation>| all.into_iter().map(|one| one.0).collect();
        (numbers(staffing.dismissed), numbers(staffing.recalled), staffing.missing)
    }

    /// Returns the next worker whose end was settled: (incarnation, ending, failure, length of the note
    /// in it), or None.
    #[allow(clippy::type_complexity, reason = "it is a row for Python")]
    fn next_vacancy<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(u64, &'static str, Bound<'py, PyBytes>, u64)> {
        let vacancy = self.live()?.engine.next_vacancy()?;
        let (ending, bytes, note_len) = match vacancy.ending {
            Ending::NeverReady => ("never ready", Vec::new(), 0),
            Ending::Failed { bytes, note_len } => ("failed", bytes, note_len),
            Ending::Retired => ("retired", Vec::new(), 0),
            Ending::Stopped => ("stopped", Vec::new(), 0),
            Ending::Died => ("died", Vec::new(), 0),
            Ending::Damaged => ("damaged", Vec::new(), 0),
        };
        let bytes = PyBytes::new(py, &bytes);
        Some((vacancy.incarnation.0, ending, bytes, note_len))
    }

    /// Whether the pool's shared memory is damaged, so that all jobs must be ended by hand.
    #[getter]
    fn is_damaged(&self) -> bool {
        self.live().is_some_and(|live| live.engine.is_damaged())
    }

    /// Starts the thread that watches over workers' lives.
    fn start_supervisor(&self) -> PyResult<()> {
        Ok(self.running()?.engine.start_supervisor()?)
    }

    /// Asks all workers to end once no task is ready.
    fn stop_workers(&self) {
        if let Some(live) = self.live() {
            live.engine.stop_workers();
        }
    }

    /// Ends the supervisor and gives all memory back.
    fn shut_down(&self, py: Python<'_>) {
        let Some(live) = lock(&self.live).take() else { return };
        live.parts.expire(&live.engine, true);
        live.buffers.expire(&live, true);
        buffers::sweep(py);
        self.desk.clear_deferred();
        *lock(&self.last_counts) = (live.counts(), live.rows());
        let tickets = py.detach(|| live.engine.shut_down());
        drop(tickets);
    }

    /// Publishes tasks of a job until one of the reasons of `Dispatched`. Only the thread with the
    /// dispatcher's role calls this.
    ///
    /// `is_keeper` tells that the caller's stack is as shallow as that of the standard library's task
    /// thread. Elsewhere a task that exceeds the recursion limit is left to the keeper.
    ///
    /// An error of pickling becomes the task's; what is not an `Exception` is raised, and the task
    /// stays in the job.
    fn dispatch(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        only_plain: bool,
        is_keeper: bool,
    ) -> PyResult<u32> {
        self.dispatch_job(py, job, only_plain, is_keeper)
    }

    /// Ends a job's source: what is published is all that it comes to.
    fn cut(&self, py: Python<'_>, job: &Bound<'_, Job>) {
        self.exhaust(py, job, job.get().published(), false);
    }

    /// Says whether jobs wait for room. Returns whether there is room already.
    fn expect_room(&self, jobs_wait: bool) -> bool {
        self.live().is_some_and(|live| live.engine.expect_room(jobs_wait))
    }

    /// Takes the ends of tasks, and puts them into their jobs. `describe_loss(incarnation, owner, index,
    /// attempts, reason, bytes)` returns the error of a task that died with its worker, or was stopped.
    /// (The engine does not keep it: the collector does not see through native objects.)
    fn collect(&self, py: Python<'_>, describe_loss: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(live) = self.live() else { return Ok(()) };
        while let Some(mut collected) = live.engine.collect() {
            let (ok, value, goes_on) = read_outcome(py, &live, &collected, describe_loss);
            if !ok && goes_on.is_none() {
                let has_died = matches!(collected.outcome, Outcome::Lost(_));
                let attempts = collected.attempts;
                if collected.ticket.job.get().is_retried(py, has_died, &value, attempts) {
                    collected = match live.engine.retry(collected) {
                        Ok(()) => continue,
                        Err(collected) => collected,
                    };
                }
                if attempts > 1 && !has_died {
                    note_attempts(py, &value, attempts);
                }
            }
            if let Some(time) = collected.ran_for {
                collected.ticket.job.get().ran(collected.ticket.index, time);
            }
            let ticket = live.engine.release(collected);
            self.desk.deliver(py, ticket, ok, value);
            if let Some(error) = goes_on {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends a job with `error`, takes back its tasks that no worker has begun, and with `running` stops
    /// the workers that run one. Returns whether it was ended: not if its end is known already, nor a
    /// single call that runs on. The GIL is held all the while, so nothing of the job goes out in between.
    fn cancel(
        &self,
        py: Python<'_>,
        job: &Bound<'_, Job>,
        running: bool,
        error: Py<PyAny>,
    ) -> bool {
        let Some(live) = self.live() else { return false };
        let was_unpublished = job.get().is_unpublished();
        let is_meant = |ticket: &Ticket| ticket.job.is(job);
        let stopped = live.engine.cancel(is_meant, running);
        if !job.get().may_be_cancelled(was_unpublished, stopped) {
            return false;
        }
        let told = job.get().abandon(error);
        self.note(py, job, told);
        true
    }

    /// Tells the keeper to look for vacancies when so many seconds have passed.
    fn remind_keeper(&self, after_s: f64) {
        if let Some(live) = self.live() {
            live.engine.remind_keeper(duration(after_s));
        }
    }

    /// Returns the first Python object whose job has news, or None. It stays until `pop_news`.
    fn first_news(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.desk.first_news(py)
    }

    /// Takes an object off the list of news, if it is still first.
    fn pop_news(&self, owner: &Bound<'_, PyAny>) {
        self.desk.pop_news(owner);
    }

    /// Delivers results that waited behind a callback; returns the next job whose callback is due.
    fn deliver_deferred(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.desk.deliver_deferred(py)
    }

    /// Notes that a job was ended by hand: `told` is what the job's method returned.
    fn note(&self, py: Python<'_>, job: &Bound<'_, Job>, told: u32) {
        let told = match told {
            1 => Told::News,
            2 => Told::Callback,
            _ => Told::Nothing,
        };
        self.desk.tell(py, job.as_unbound(), told);
    }

    /// Waits for work for the leader, without the GIL. Returns whether there may be some; runs the
    /// handlers of signals.
    #[pyo3(signature = (timeout_s=None))]
    fn rest(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let timeout = timeout_s.map(duration);
        let Some(live) = self.live() else { return Ok(true) };
        let until_look = timeout.filter(|timeout| *timeout < SIGNAL_LOOK_TIME);
        match py.detach(|| live.engine.rest(until_look.or(Some(SIGNAL_LOOK_TIME)))) {
            Rest::Work => Ok(true),
            Rest::TimedOut if until_look.is_some() => Ok(false),
            Rest::TimedOut | Rest::Interrupted => {
                py.check_signals()?;
                Ok(true)
            }
        }
    }

    /// Ends the leader's rest.
    fn kick(&self) {
        if let Some(live) = self.live() {
            live.engine.kick();
        }
    }

    /// Puts news into the keeper's letter box.
    fn tell_keeper(&self, news: u32) {
        if let Some(live) = self.live() {
            live.engine.tell_keeper(news);
        }
    }

    /// Waits for news for the keeper, without the GIL; returns 0 if the time is over.
    #[pyo3(signature = (timeout_s=None))]
    fn keeper_wait(&self, py: Python<'_>, timeout_s: Option<f64>) -> u32 {
        let timeout = timeout_s.map(duration);
        let Some(live) = self.live() else { return 0 };
        py.detach(|| live.engine.keeper_wait(timeout))
    }

    /// Whether anything is kept that is let go when it has lain unused for a while.
    #[getter]
    fn keeps_anything(&self) -> bool {
        self.live().is_some_and(|live| live.parts.keeps_any() || live.buffers.keeps_any())
    }

    /// Lets go of what is only kept for a next dispatch. Returns whether anything is still kept.
    fn expire(&self, py: Python<'_>) -> bool {
        let Some(live) = self.live() else { return false };
        buffers::sweep(py);
        let any_kept = live.parts.expire(&live.engine, false) | live.buffers.expire(&live, false);
        any_kept | live.engine.cool()
    }

    /// Returns what was counted so far, by name.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = match self.live() {
            Some(live) => live.counts(),
            None => lock(&self.last_counts).0.clone(),
        };
        let dict = PyDict::new(py);
        for (name, count) in counts {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    /// Returns what became of each heavy object: a row for each place in each callable's tasks; see
    /// `millpond.stats`.
    fn parts(&self) -> Vec<Row> {
        self.live().map_or_else(|| lock(&self.last_counts).1.clone(), |live| live.rows())
    }
}

impl Engine {
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone()
    }

    fn running(&self) -> PyResult<Arc<Live>> {
        self.live().ok_or_else(|| PyValueError::new_err("Pool not running"))
    }

    pub(crate) fn exhaust(&self, py: Python<'_>, job: &Bound<'_, Job>, count: u64, raised: bool) {
        let told = job.get().exhaust(py, count, raised);
        self.desk.tell(py, job.as_unbound(), told);
    }
}

/// The longest time that is waited for at once, in seconds; whoever waits longer asks again.
const WAIT_TIME_MAX_S: f64 = 1e6;

fn duration(seconds: f64) -> Duration {
    // Not a number counts as no time.
    Duration::from_secs_f64(if seconds > 0.0 { seconds.min(WAIT_TIME_MAX_S) } else { 0.0 })
}
