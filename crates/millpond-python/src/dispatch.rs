//! Tasks on their way out: drawn from their job, written or pickled, and published.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_engine::{StoreId, Task};
use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::buffers::{self, BufferHook};
use crate::deliver::{Ticket, refusal};
use crate::direct::{DIRECT, Encoder};
use crate::engine::Engine;
use crate::errors;
use crate::graph;
use crate::job::{Draw, HAS_INDICES, HAS_PARTS, Job, Limits, TaskKind};
use crate::live::Live;
use crate::names::{self, Names};
use crate::pack::Packer;
use crate::parts::{Candidates, HEAVY_LEN_MIN, PartHook, is_plain_task};
use crate::shared;

/// What the standard library adds to each pickled task, in bytes: the message's length, the outer
/// tuple, job and index.
const MESSAGE_OVERHEAD_LEN: u64 = 24;

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

/// One task that is about to be pickled.
struct Drawn {
    func: Py<PyAny>,
    second: Py<PyAny>,
    kwds: Option<Py<PyAny>>,
    kind: TaskKind,
    raised: bool,
}

impl Drawn {
    /// The tuple that is pickled.
    fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let (func, second) = (self.func.bind(py), self.second.bind(py));
        match (&self.kwds, self.kind) {
            (Some(kwds), _) => PyTuple::new(py, [func, second, kwds.bind(py)]),
            (None, TaskKind::Call) => {
                let args = PyTuple::new(py, [second])?.into_any();
                PyTuple::new(py, [func, &args, PyDict::new(py).as_any()])
            }
            (None, _) => PyTuple::new(py, [func, second]),
        }
    }

    /// Items of a chunk; 1 if it carries the error that the iterable raised.
    fn item_count(&self, py: Python<'_>) -> usize {
        let chunk = self.second.bind(py).cast_exact::<PyTuple>();
        chunk.ok().filter(|_| !self.raised).map_or(1, |chunk| chunk.len())
    }

    /// Writes a task of atoms into `encoder`. Returns false for all others.
    fn encode(
        &self,
        py: Python<'_>,
        packer: &mut Packer<'_>,
        encoder: &mut Encoder,
    ) -> PyResult<bool> {
        if self.raised || !packer.is_stock()? {
            return Ok(false);
        }
        let names = Names::get(py)?;
        let (func, second) = (self.func.bind(py), self.second.bind(py));
        Ok(match (&self.kwds, self.kind) {
            (None, TaskKind::Call) => encoder.call_of_item(names, func, second),
            (kwds, _) => encoder.task(names, func, second, kwds.as_ref().map(|kwds| kwds.bind(py))),
        })
    }
}

impl Engine {
    /// See the method `dispatch` of the Python class.
    pub(crate) fn dispatch_job(
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
        let (kind, is_measured) = (native.kind(), native.is_measured());
        let item_count = Cell::new(1);
        let limits = native.limits();
        let out = Out { py, engine: self, live: &live, job, limits, is_measured, item_count };
        let is_left_to_keeper = native.is_left_to_keeper();
        if is_left_to_keeper && !is_keeper {
            return Ok(Dispatched::NotPlain as u32);
        }
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
                    Drawn { func, second: item, kwds: None, kind, raised: false }
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
            out.item_count.set(if is_measured { drawn.item_count(py) } else { 1 });
            let is_single = drawn.kwds.is_some();
            let raised = drawn.raised;
            let published = out.publish(&mut packer, &mut encoder, &drawn, only_plain);
            let put_back = |drawn: Drawn| {
                if !is_single {
                    native.put_back(drawn.second, raised);
                }
            };
            match published {
                Ok(true) => {}
                Ok(false) => {
                    put_back(drawn);
                    return Ok(Dispatched::NotPlain as u32);
                }
                Err(error) if !is_keeper && error.is_instance_of::<PyRecursionError>(py) => {
                    put_back(drawn);
                    return Ok(Dispatched::NotPlain as u32);
                }
                Err(error) if !errors::may_be_a_signals(py, &error) => {
                    if let Some(ticket) = out.ticket() {
                        self.desk.deliver(py, ticket, false, error.into_value(py).into_any());
                    }
                }
                Err(error) => {
                    put_back(drawn);
                    native.leave_to_keeper(true);
                    return Err(error);
                }
            }
            if is_left_to_keeper {
                native.leave_to_keeper(false);
            }
            if is_single || raised {
                self.exhaust(py, job, native.published(), raised);
                return Ok(Dispatched::All as u32);
            }
        }
    }
}

/// The way out of one job's tasks.
struct Out<'a, 'py> {
    py: Python<'py>,
    engine: &'a Engine,
    live: &'a Arc<Live>,
    job: &'a Bound<'py, Job>,
    limits: Option<Arc<Limits>>,
    /// Whether the sizes of its chunks are measured, and so many items has the one that goes out.
    is_measured: bool,
    item_count: Cell<usize>,
}

impl<'py> Out<'_, 'py> {
    /// Pickles and publishes one task. Returns false if it is not plain and only plain ones are
    /// wanted. Errors are those of pickling.
    fn publish(
        &self,
        packer: &mut Packer<'py>,
        encoder: &mut Encoder,
        drawn: &Drawn,
        only_plain: bool,
    ) -> PyResult<bool> {
        let (py, live, kind) = (self.py, self.live, drawn.kind as u32);
        if drawn.encode(py, packer, encoder)? {
            let refused = self.hand_out(kind | DIRECT, encoder.bytes(), &[], encoder.pickled_len());
            self.settle(refused);
            return Ok(true);
        }
        let task = drawn.task(py)?;
        let is_plain = is_plain_task(&[task.as_any()]);
        if only_plain && !is_plain {
            return Ok(false);
        }
        // A plain task is short, but it may have a long text in it.
        let may_be_heavy = !is_plain || graph::is_heavy(task.as_any(), HEAVY_LEN_MIN);
        let (mut parts, mut buffers) = (None, None);
        if may_be_heavy && !drawn.raised {
            let func = drawn.func.bind(py);
            let second = drawn.second.bind(py);
            let kwds = drawn.kwds.as_ref().map(|kwds| kwds.bind(py));
            let seen = |address| live.parts.seen(address);
            let mut candidates = Candidates::of(drawn.kind, func, second, kwds, &seen)?;
            if !candidates.is_empty() && graph::prepare(py) {
                // Python has run, and may have changed what was just looked at.
                candidates = Candidates::of(drawn.kind, func, second, kwds, &seen)?;
            }
            let may_share = shared::any();
            if (may_share || !candidates.is_empty()) && packer.is_stock()? {
                let name = || names::callable_name(func);
                let is_simple =
                    |apart: &[Bound<'py, PyAny>]| graph::is_simple(&[task.as_any()], apart);
                let engine = &live.engine;
                let plan = live.parts.plan(py, engine, candidates, packer, name, is_simple)?;
                if may_share || !plan.is_empty() {
                    parts = Some(Bound::new(py, PartHook::new(live, plan))?);
                }
            }
            if !is_plain && buffers::may_occur(py)? && packer.is_stock()? {
                let hook = BufferHook::new(live, names::callable_name(func), 0);
                buffers = Some(Bound::new(py, hook)?);
            }
        }
        if parts.is_some() || buffers.is_some() {
            let published = self.publish_with_hooks(packer, &task, kind, &parts, &buffers);
            if let Some(hook) = &parts {
                hook.get().plan().let_go(&live.engine);
            }
            if let Some(hook) = &buffers {
                hook.get().let_go();
            }
            return published.map(|()| true);
        }
        self.publish_packed(packer, &task, kind, is_plain)?;
        Ok(true)
    }

    /// Pickles and publishes one task whole.
    fn publish_packed(
        &self,
        packer: &mut Packer<'py>,
        task: &Bound<'py, PyTuple>,
        kind: u32,
        is_plain: bool,
    ) -> PyResult<()> {
        let packed = packer.pack(task.as_any(), is_plain)?;
        let len = packed.as_bytes().len() as u64;
        let refused = self.hand_out(kind, packed.as_bytes(), &[], len);
        drop(packed);
        self.settle(refused);
        Ok(())
    }

    fn publish_with_hooks(
        &self,
        packer: &mut Packer<'py>,
        task: &Bound<'py, PyTuple>,
        mut kind: u32,
        parts: &Option<Bound<'py, PartHook>>,
        buffers: &Option<Bound<'py, BufferHook>>,
    ) -> PyResult<()> {
        let has_failed = || {
            parts.as_ref().is_some_and(|hook| hook.get().has_failed())
                || buffers.as_ref().is_some_and(|hook| hook.get().has_failed())
        };
        let hooks =
            (parts.as_ref().map(|hook| hook.as_any()), buffers.as_ref().map(|hook| hook.as_any()));
        match packer.pack_with_hooks(task.as_any(), hooks.0, hooks.1) {
            Ok(()) => {}
            // A hook takes room on the stack that the standard library's pickler has, or has failed by
            // itself: once more without it, for the same answer.
            Err(error) if error.is_instance_of::<PyRecursionError>(self.py) || has_failed() => {
                drop(error);
                return self.publish_packed(packer, task, kind, false);
            }
            Err(error) => return Err(error),
        }
        let packed = packer.packed();
        let bytes = packed.as_bytes();
        let mut pickled_len = bytes.len() as u64;
        let mut ids = Vec::new();
        if let Some(hook) = parts {
            let hook = hook.get();
            ids.extend(hook.send());
            kind |= HAS_PARTS | if hook.has_indices() { HAS_INDICES } else { 0 };
            pickled_len += hook.plan().counted_len();
        }
        if let Some(hook) = buffers {
            ids.extend(hook.get().ids());
            pickled_len += hook.get().counted_len();
        }
        let refused = self.hand_out(kind, bytes, &ids, pickled_len);
        drop(packed);
        self.settle(refused);
        Ok(())
    }

    /// Counts a task as published; `None` if the job was ended by hand.
    fn ticket(&self) -> Option<Ticket> {
        let index = self.job.get().count_published(self.item_count.get())?;
        Some(Ticket { job: self.job.clone().unbind(), index })
    }

    /// Publishes a task; `pickled_len` is its size in bytes as pickle would have written it. Returns
    /// what the engine refused.
    fn hand_out(
        &self,
        kind: u32,
        bytes: &[u8],
        parts: &[StoreId],
        pickled_len: u64,
    ) -> Option<(Ticket, millpond_engine::Error)> {
        let counted_len = pickled_len + MESSAGE_OVERHEAD_LEN;
        self.live.last_len.store(counted_len, Ordering::Relaxed);
        let ticket = self.ticket()?;
        let limits = self.limits.as_deref();
        let task = Task {
            ticket,
            kind,
            bytes,
            parts,
            counted_len,
            time_limit: limits.and_then(|limits| limits.time_limit).map(|limit| {
                limit.saturating_mul(u32::try_from(self.item_count.get()).unwrap_or(u32::MAX))
            }),
            is_timed: self.is_measured,
            may_retry: limits.is_some_and(|limits| limits.retries > 0),
        };
        self.live.engine.publish(task).err()
    }

    fn settle(&self, refused: Option<(Ticket, millpond_engine::Error)>) {
        if let Some((ticket, error)) = refused {
            self.engine.desk.deliver(self.py, ticket, false, refusal(self.py, &error));
        }
    }
}
