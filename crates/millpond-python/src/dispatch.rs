//! Tasks on their way out: drawn from their job, written or pickled, and published.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millpond_engine::Task;
use pyo3::exceptions::{PyException, PyRecursionError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::deliver::{Ticket, refusal};
use crate::direct::{DIRECT, Encoder};
use crate::engine::Engine;
use crate::graph;
use crate::job::{Draw, HAS_INDICES, HAS_PARTS, Job, TaskKind};
use crate::live::Live;
use crate::names::{self, Names};
use crate::pack::Packer;
use crate::parts::{Candidates, PartHook, Plan, is_plain_task};
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
