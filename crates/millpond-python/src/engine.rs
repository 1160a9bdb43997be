//! The parent's engine, as `millpond._native.Engine`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millpond_engine::{Config, Ending, Incarnation, Rest, Task, WARM_LEN_MAX};
use pyo3::exceptions::{PyException, PyOSError, PyRecursionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::deliver::{Desk, Ticket, read_outcome, refusal};
use crate::direct::{DIRECT, Encoder};
use crate::errors;
use crate::graph;
use crate::job::{Draw, HAS_INDICES, HAS_PARTS, Job, TaskKind, Told};
use crate::names::{self, Names};
use crate::pack::Packer;
use crate::parts::{Candidates, PartHook, Parts, Plan, Row, is_plain_task};
use crate::shared;

/// What the standard library adds to each pickled task, in bytes: the message's length, the outer
/// tuple, job and index.
const MESSAGE_OVERHEAD_LEN: u64 = 24;

/// Bytes of parts that are kept for a next dispatch, with what proves them, unless told otherwise.
const KEPT_LEN_MAX: u64 = 512 << 20;

/// Why a dispatch ended; the values are known to `millpond.dispatch`.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Dispatched {
    /// All tasks of the job are published.
    All = 0,
    /// There is no room for another task.
    NoRoom = 1,
    /// The feeder has offered nothing more yet.
    Empty = 2,
    /// `buffersize` holds the job back.
    Full = 3,
    /// The next task might run code of the user's when it is pickled, and the caller did not want it.
    NotPlain = 4,
}

/// The parent's side of a pool. See the crate `millpond-engine`.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Engine {
    /// None once the pool is shut down: descriptors and mappings go with it, though the pool's object
    /// may live on.
    live: Mutex<Option<Arc<Live>>>,
    /// What was counted, as of the end.
    last_counts: Mutex<Counted>,
    desk: Desk,
}

/// Counts by name, and the rows of heavy objects.
type Counted = (Vec<(&'static str, u64)>, Vec<Row>);

/// What goes when the pool is shut down.
pub(crate) struct Live {
    pub(crate) engine: millpond_engine::Engine<Ticket>,
    pub(crate) parts: Parts,
    /// Counted size of the last task, by which the next one's is guessed.
    last_len: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One task that is about to be pickled.
struct Drawn {
    func: Py<PyAny>,
    second: Py<PyAny>,
    kwds: Option<Py<PyAny>>,
    kind: TaskKind,
    raised: bool,
}

#[pymethods]
impl Engine {
    /// Makes an engine for up to `seat_count` workers. `memory_len_max` is what the parent, and each
    /// worker, may keep for later while no task needs it, in bytes.
    #[new]
    #[pyo3(signature = (seat_count, memory_len_max=None))]
    fn new(seat_count: u32, memory_len_max: Option<u64>) -> PyResult<Self> {
        let warm_len_max = memory_len_max.unwrap_or(WARM_LEN_MAX);
        let kept_len_max = memory_len_max.unwrap_or(KEPT_LEN_MAX);
        let engine = millpond_engine::Engine::new(Config { seat_count, warm_len_max })
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        let live = Live { engine, parts: Parts::new(kept_len_max), last_len: AtomicU64::new(0) };
        Ok(Self {
            live: Mutex::new(Some(Arc::new(live))),
            last_counts: Mutex::default(),
            desk: Desk::default(),
        })
    }

    /// Takes a seat for a new worker. Returns its incarnation, the descriptors and the numbers that
    /// `serve` needs.
    fn take_seat(&self, seat: u32) -> PyResult<(u64, Vec<i32>, Vec<u64>)> {
        let given =
            self.running()?.engine.take_seat(seat).map_err(|error| errors::to_python(&error))?;
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

    /// Returns the next seat that has lost its worker: (incarnation, seat, ending, failure, length of
    /// the note in it), or None.
    #[allow(clippy::type_complexity, reason = "it is a row for Python")]
    fn next_vacancy<'py>(
        &self,
        py: Python<'py>,
    ) -> Option<(u64, u32, &'static str, Bound<'py, PyBytes>, u64)> {
        let vacancy = self.live()?.engine.next_vacancy()?;
        let (ending, bytes, note_len) = match vacancy.ending {
            Ending::NeverReady => ("never ready", Vec::new(), 0),
            Ending::Failed { bytes, note_len } => ("failed", bytes, note_len),
            Ending::Retired => ("retired", Vec::new(), 0),
            Ending::Died => ("died", Vec::new(), 0),
        };
        let bytes = PyBytes::new(py, &bytes);
        Some((vacancy.incarnation.0, vacancy.seat, ending, bytes, note_len))
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
        let names = Names::get(py)?;
        let mut packer = Packer::new(py, &names.connection)?;
        let mut encoder = Encoder::default();
        let native = job.get();
        let Some(live) = self.live() else { return Ok(Dispatched::NoRoom as u32) };
        loop {
            if !live.engine.has_room(live.last_len.load(Ordering::Relaxed)) {
                return Ok(Dispatched::NoRoom as u32);
            }
            let drawn = match native.draw(py)? {
                Draw::Call { func, args, kwds } => Drawn {
                    func,
                    second: args,
                    kwds: Some(kwds),
                    kind: TaskKind::Call,
                    raised: false,
                },
                Draw::Item { func, item } => {
                    Drawn { func, second: item, kwds: None, kind: native.kind, raised: false }
                }
                Draw::Raise { error } => Drawn {
                    func: names.reraise.clone_ref(py),
                    second: error,
                    kwds: None,
                    kind: TaskKind::Call,
                    raised: true,
                },
                Draw::Empty => return Ok(Dispatched::Empty as u32),
                Draw::Full => return Ok(Dispatched::Full as u32),
                Draw::Exhausted => {
                    self.exhaust(py, job, native.published(), false);
                    return Ok(Dispatched::All as u32);
                }
            };
            let is_single = drawn.kwds.is_some();
            let raised = drawn.raised;
            match self.publish(py, &live, job, &mut packer, &mut encoder, &drawn, only_plain) {
                Ok(true) => {}
                Ok(false) => {
                    if !is_single {
                        native.put_back(drawn.second, raised);
                    }
                    return Ok(Dispatched::NotPlain as u32);
                }
                Err(error) if !is_keeper && error.is_instance_of::<PyRecursionError>(py) => {
                    if !is_single {
                        native.put_back(drawn.second, raised);
                    }
                    return Ok(Dispatched::NotPlain as u32);
                }
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    let index = native.count_published();
                    let ticket = Ticket { job: job.clone().unbind(), index };
                    self.desk.deliver(py, ticket, false, error.into_value(py).into_any());
                }
                Err(error) => {
                    if !is_single {
                        native.put_back(drawn.second, raised);
                    }
                    return Err(error);
                }
            }
            if is_single || raised {
                self.exhaust(py, job, native.published(), raised);
                return Ok(Dispatched::All as u32);
            }
        }
    }

    /// Ends a job's source: what is published is all that it comes to.
    fn cut(&self, py: Python<'_>, job: &Bound<'_, Job>) {
        self.exhaust(py, job, job.get().published(), false);
    }

    /// Says whether jobs wait for room. Returns whether there is room already.
    fn expect_room(&self, jobs_wait: bool) -> bool {
        self.live().is_some_and(|live| live.engine.expect_room(jobs_wait))
    }

    /// Takes the ends of tasks, and puts them into their jobs. `describe_loss(incarnation, owner,
    /// index)` returns the error of a task that died with its worker. (The engine does not keep it:
    /// the collector does not see through native objects.)
    fn collect(&self, py: Python<'_>, describe_loss: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(live) = self.live() else { return Ok(()) };
        while let Some(collected) = live.engine.collect() {
            let (ok, value, goes_on) =
                read_outcome(py, &collected.outcome, describe_loss, &collected.ticket);
            let ticket = live.engine.release(collected);
            self.desk.deliver(py, ticket, ok, value);
            if let Some(error) = goes_on {
                return Err(error);
            }
        }
        Ok(())
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
        match py.detach(|| live.engine.rest(timeout)) {
            Rest::Work => Ok(true),
            Rest::TimedOut => Ok(false),
            Rest::Interrupted => {
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

    /// Lets go of what is only kept for a next dispatch. Returns whether anything is still kept.
    fn expire(&self) -> bool {
        let Some(live) = self.live() else { return false };
        let any_parts = live.parts.expire(&live.engine, false);
        any_parts | live.engine.cool()
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

impl Live {
    fn rows(&self) -> Vec<Row> {
        self.parts.records.rows(&self.engine.part_counts())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.engine.counts();
        let part_bytes = self.parts.pickled_bytes.load(Ordering::Relaxed);
        let mut all = vec![
            ("tasks_dispatched", counts.tasks_dispatched),
            ("bytes_pickled", counts.task_bytes + part_bytes),
            ("heavy_parts_pickled", self.parts.pickled.load(Ordering::Relaxed)),
            ("heavy_bytes_pickled", part_bytes),
            ("heavy_parts_tracked", self.parts.tracked.load(Ordering::Relaxed)),
            ("heavy_parts_verified", self.parts.verified.load(Ordering::Relaxed)),
            ("stored_bytes", counts.stored_bytes),
            ("worker_deaths", counts.worker_deaths),
            ("damaged", counts.damaged),
        ];
        all.extend(self.engine.worker_counts().into_iter().map(|(name, sum)| match name {
            "heavy_parts_verified" => ("heavy_parts_verified_by_workers", sum),
            "heavy_parts_changed" => ("heavy_parts_changed_by_tasks", sum),
            "tasks" => ("tasks_completed", sum),
            other => (other, sum),
        }));
        all
    }
}

impl Engine {
    fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone()
    }

    fn running(&self) -> PyResult<Arc<Live>> {
        self.live().ok_or_else(|| PyValueError::new_err("Pool not running"))
    }

    fn exhaust(&self, py: Python<'_>, job: &Bound<'_, Job>, count: u64, raised: bool) {
        let told = job.get().exhaust(py, count, raised);
        self.desk.tell(py, job.as_unbound(), told);
    }

    /// Pickles and publishes one task. Returns false if it is not plain and only plain ones are
    /// wanted. Errors are those of pickling.
    #[allow(clippy::too_many_arguments, reason = "each is a part of one dispatch")]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        live: &Arc<Live>,
        job: &Bound<'py, Job>,
        packer: &mut Packer<'py>,
        encoder: &mut Encoder,
        drawn: &Drawn,
        only_plain: bool,
    ) -> PyResult<bool> {
        let func = drawn.func.bind(py);
        let second = drawn.second.bind(py);
        if self.is_direct(py, packer, encoder, drawn)? {
            let counted_len = encoder.pickled_len() + MESSAGE_OVERHEAD_LEN;
            live.last_len.store(counted_len, Ordering::Relaxed);
            let index = job.get().count_published();
            let ticket = Ticket { job: job.clone().unbind(), index };
            let kind = drawn.kind as u32 | DIRECT;
            let bytes = encoder.bytes();
            let refused =
                live.engine.publish(Task { ticket, kind, bytes, parts: &[], counted_len });
            self.settle_refusal(py, refused);
            return Ok(true);
        }
        let task = match (&drawn.kwds, drawn.kind) {
            (Some(kwds), _) => PyTuple::new(py, [func, second, kwds.bind(py)])?,
            (None, TaskKind::Call) => {
                let args = PyTuple::new(py, [second])?.into_any();
                PyTuple::new(py, [func, &args, PyDict::new(py).as_any()])?
            }
            (None, _) => PyTuple::new(py, [func, second])?,
        };
        let is_plain = is_plain_task(&[task.as_any()]);
        if only_plain && !is_plain {
            return Ok(false);
        }
        let kind = drawn.kind as u32;
        if !is_plain && !drawn.raised {
            let kwds = drawn.kwds.as_ref().map(|kwds| kwds.bind(py));
            let seen = |address| live.parts.seen(address);
            let candidates = Candidates::of(drawn.kind, func, second, kwds, &seen)?;
            let may_share = shared::any();
            if (may_share || !candidates.is_empty()) && packer.is_stock()? {
                let name = || names::callable_name(func);
                let is_simple =
                    |apart: &[Bound<'py, PyAny>]| graph::is_simple(&[task.as_any()], apart);
                let engine = &live.engine;
                let plan = live.parts.plan(py, engine, candidates, packer, name, is_simple)?;
                if may_share || !plan.is_empty() {
                    return self.publish_with_parts(py, live, job, packer, &task, kind, plan);
                }
            }
        }
        self.publish_packed(py, live, job, packer, &task, kind, is_plain)
    }

    /// Writes a task of atoms into `encoder`. Returns false for all others.
    fn is_direct(
        &self,
        py: Python<'_>,
        packer: &mut Packer<'_>,
        encoder: &mut Encoder,
        drawn: &Drawn,
    ) -> PyResult<bool> {
        if drawn.raised || !packer.is_stock()? {
            return Ok(false);
        }
        let names = Names::get(py)?;
        let (func, second) = (drawn.func.bind(py), drawn.second.bind(py));
        Ok(match (&drawn.kwds, drawn.kind) {
            (None, TaskKind::Call) => encoder.call_of_item(names, func, second),
            (kwds, _) => encoder.task(names, func, second, kwds.as_ref().map(|kwds| kwds.bind(py))),
        })
    }

    /// Pickles and publishes one task whole.
    #[allow(clippy::too_many_arguments, reason = "each is a part of one dispatch")]
    fn publish_packed<'py>(
        &self,
        py: Python<'py>,
        live: &Arc<Live>,
        job: &Bound<'py, Job>,
        packer: &mut Packer<'py>,
        task: &Bound<'py, PyTuple>,
        kind: u32,
        is_plain: bool,
    ) -> PyResult<bool> {
        let packed = packer.pack(task.as_any(), is_plain)?;
        let bytes = packed.as_bytes();
        let counted_len = bytes.len() as u64 + MESSAGE_OVERHEAD_LEN;
        live.last_len.store(counted_len, Ordering::Relaxed);
        let index = job.get().count_published();
        let ticket = Ticket { job: job.clone().unbind(), index };
        let refused = live.engine.publish(Task { ticket, kind, bytes, parts: &[], counted_len });
        drop(packed);
        self.settle_refusal(py, refused);
        Ok(true)
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of one dispatch")]
    fn publish_with_parts<'py>(
        &self,
        py: Python<'py>,
        live: &Arc<Live>,
        job: &Bound<'py, Job>,
        packer: &mut Packer<'py>,
        task: &Bound<'py, PyTuple>,
        kind: u32,
        plan: Plan,
    ) -> PyResult<bool> {
        let hook = Bound::new(py, PartHook::new(live, plan))?;
        let published = self.publish_with_hook(py, live, job, packer, task, kind, &hook);
        hook.get().plan().let_go(&live.engine);
        published
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of one dispatch")]
    fn publish_with_hook<'py>(
        &self,
        py: Python<'py>,
        live: &Arc<Live>,
        job: &Bound<'py, Job>,
        packer: &mut Packer<'py>,
        task: &Bound<'py, PyTuple>,
        kind: u32,
        hook: &Bound<'py, PartHook>,
    ) -> PyResult<bool> {
        match packer.pack_with_hook(task.as_any(), hook.as_any()) {
            Ok(()) => {}
            // The hook takes room on the stack that the standard library's pickler has: once more
            // without it, for the same answer.
            Err(error) if error.is_instance_of::<PyRecursionError>(py) => {
                drop(error);
                return self.publish_packed(py, live, job, packer, task, kind, false);
            }
            Err(error) => return Err(error),
        }
        let packed = packer.packed();
        let bytes = packed.as_bytes();
        let plan = hook.get().plan();
        let counted_len = bytes.len() as u64 + MESSAGE_OVERHEAD_LEN + plan.counted_len();
        live.last_len.store(counted_len, Ordering::Relaxed);
        let index = job.get().count_published();
        let ticket = Ticket { job: job.clone().unbind(), index };
        let parts = hook.get().send();
        let kind = kind | HAS_PARTS | if hook.get().has_indices() { HAS_INDICES } else { 0 };
        let refused = live.engine.publish(Task { ticket, kind, bytes, parts: &parts, counted_len });
        drop(packed);
        self.settle_refusal(py, refused);
        Ok(true)
    }

    fn settle_refusal(
        &self,
        py: Python<'_>,
        refused: Result<(), (Ticket, millpond_engine::Error)>,
    ) {
        if let Err((ticket, error)) = refused {
            self.desk.deliver(py, ticket, false, refusal(py, &error));
        }
    }
}

/// The longest time that is waited for at once, in seconds; whoever waits longer asks again.
const WAIT_TIME_MAX_S: f64 = 1e6;

fn duration(seconds: f64) -> Duration {
    // Not a number counts as no time.
    Duration::from_secs_f64(if seconds > 0.0 { seconds.min(WAIT_TIME_MAX_S) } else { 0.0 })
}
