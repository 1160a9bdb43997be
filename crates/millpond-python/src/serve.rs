//! A worker's loop.

mod reply;

use millpond_engine::{HandOver, Incarnation, Next, TaskRef, Worker};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use self::reply::{Codec, Reply};
use crate::deliver::load_view;
use crate::direct::{self, DIRECT};
use crate::errors;
use crate::job::{HAS_INDICES, HAS_PARTS, TaskKind};
use crate::names::Names;
use crate::pack::Packer;
use crate::worker_parts::{self, WorkerDesk};

/// What the loop needs of the Python side: see `millpond.worker`.
struct Helpers<'py> {
    /// `encode_error(error, wrap) -> (note, pickle)`.
    encode_error: Bound<'py, PyAny>,
    /// `encode_unsendable(error, value) -> (note, pickle)`.
    encode_unsendable: Bound<'py, PyAny>,
    /// `spread(func, args, kwds)`, which calls with whatever `*` and `**` take.
    spread: Bound<'py, PyAny>,
    /// `hush()`: what else comes of Ctrl-C raises no more.
    hush: Bound<'py, PyAny>,
}

/// Takes a seat, runs the initializer, then tasks, until the pool ends, the task limit is reached,
/// or an initializer or a signal handler raises.
///
/// `helpers` is the module `millpond.worker`. Returns whether the worker ended in order.
#[pyfunction]
#[pyo3(signature = (descriptors, numbers, task_count_max, initialize, helpers))]
pub(crate) fn serve(
    py: Python<'_>,
    descriptors: Vec<i32>,
    numbers: Vec<u64>,
    task_count_max: Option<u64>,
    initialize: &Bound<'_, PyAny>,
    helpers: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let hand_over = hand_over(&descriptors, &numbers)?;
    let worker = Worker::join(&hand_over).map_err(|error| errors::to_python(&error))?;
    let helpers = Helpers {
        encode_error: helpers.getattr("encode_error")?,
        encode_unsendable: helpers.getattr("encode_unsendable")?,
        spread: helpers.getattr("spread")?,
        hush: helpers.getattr("hush")?,
    };
    let desk = Bound::new(py, WorkerDesk::new(worker))?;
    worker_parts::set_current(&desk);
    if let Err(error) = initialize.call0() {
        let (note, bytes) = encoded(&helpers.encode_error.call1((raised(py, &error), true))?)?;
        let told = desk.get().lock().worker.fail(note.as_bytes(), bytes.as_bytes());
        told.map_err(|error| errors::to_python(&error))?;
        return Err(error);
    }
    desk.get().lock().worker.ready();
    let outcome = run_tasks(py, &desk, task_count_max, &helpers);
    let mut inner = desk.get().lock();
    inner.abandon();
    match outcome {
        Ok(()) => {
            inner.worker.retire();
            Ok(true)
        }
        // Ctrl-C reaches the workers too; the parent tells the user of it, once. A key that is held down
        // interrupts what follows as well, this call included.
        Err(error) if is_interrupt(py, &error) => loop {
            match helpers.hush.call0() {
                Err(error) if is_interrupt(py, &error) => {}
                hushed => break hushed.map(|_| false),
            }
        },
        // So it has told the parent.
        Err(_) if inner.worker.saw_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_interrupt(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py)
}

fn hand_over(descriptors: &[i32], numbers: &[u64]) -> PyResult<HandOver> {
    let (
        &[table_fd, arena_fd, results_fd, parent_fd],
        &[
            seat,
            seat_count,
            arena_len,
            arena_small_len,
            range_start,
            range_len,
            range_small_len,
            warm_len_max,
            spins,
        ],
    ) = (descriptors, numbers)
    else {
        return Err(PyRuntimeError::new_err("a worker is handed 4 descriptors and 9 numbers"));
    };
    Ok(HandOver {
        incarnation: Incarnation(0),
        table_fd,
        arena_fd,
        results_fd,
        parent_fd,
        seat: seat as u32,
        seat_count: seat_count as u32,
        arena_len,
        arena_small_len,
        range_start,
        range_len,
        range_small_len,
        warm_len_max,
        spins: spins != 0,
    })
}

/// Tasks after which a worker that is never idle looks for copies whose part is gone.
const FORGET_EVERY: u64 = 64;

fn run_tasks<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    task_count_max: Option<u64>,
    helpers: &Helpers<'py>,
) -> PyResult<()> {
    let names = Names::get(py)?;
    let mut packer = Packer::new(py, &names.queues)?;
    let mut codec = Codec::default();
    let mut completed = 0;
    #[cfg(canary = "immortal-worker")]
    let task_count_max: Option<u64> = None;
    while task_count_max.is_none_or(|most| completed < most) {
        let claimed = {
            let inner = desk.get().lock();
            if inner.worker.must_leave() {
                break;
            }
            inner.worker.claim()
        };
        let task = match claimed.map_err(|error| errors::to_python(&error))? {
            Some(task) => task,
            None => match wait(py, desk)? {
                Some(task) => task,
                None => break,
            },
        };
        if !desk.get().lock().worker.begin(&task) {
            // It was cancelled between the claim and now.
            continue;
        }
        if !run_task(py, desk, &mut packer, &mut codec, &task, helpers)? {
            break;
        }
        completed += 1;
        settle(py, desk, completed % FORGET_EVERY == 0);
    }
    Ok(())
}

/// Waits for a task, without the GIL; None when the pool ends.
fn wait(py: Python<'_>, desk: &Bound<'_, WorkerDesk>) -> PyResult<Option<TaskRef>> {
    let desk = desk.get();
    loop {
        // Only this thread uses the desk; the lock is held while it waits.
        let next = py.detach(|| desk.lock().worker.wait());
        match next.map_err(|error| errors::to_python(&error))? {
            Next::Task(task) => return Ok(Some(task)),
            Next::Stop => return Ok(None),
            Next::Interrupted => py.check_signals()?,
            Next::Idle => {
                py.check_signals()?;
                let mut inner = desk.lock();
                let forgotten = inner.forget(true);
                inner.worker.cool();
                drop(inner);
                drop(forgotten);
            }
        }
    }
}

/// Runs a task. Returns false if the parent has condemned it, and this worker with it.
fn run_task<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    packer: &mut Packer<'py>,
    codec: &mut Codec,
    task: &TaskRef,
    helpers: &Helpers<'py>,
) -> PyResult<bool> {
    // The arguments live until the result is out, as in the standard library.
    let loaded = load_task(py, desk, codec, task);
    let reply = match &loaded {
        Ok(loaded) => match call(py, task, loaded, helpers) {
            Ok(value) => Reply::Value(value),
            Err(error) => {
                let wrap = !loaded.func.is(&Names::get(py)?.reraise);
                let (note, bytes) =
                    encoded(&helpers.encode_error.call1((raised(py, &error), wrap))?)?;
                Reply::Error(note, bytes)
            }
        },
        Err(error) => {
            let (note, bytes) = encoded(&helpers.encode_error.call1((raised(py, error), true))?)?;
            Reply::Error(note, bytes)
        }
    };
    match reply::send(py, desk, packer, codec, task, &reply) {
        Ok(is_complete) => Ok(is_complete),
        Err(error) => {
            let value = match &reply {
                Reply::Value(value) => value.clone(),
                Reply::Error(note, _) => note.clone().into_any(),
            };
            let (note, bytes) =
                encoded(&helpers.encode_unsendable.call1((raised(py, &error), value))?)?;
            reply::send_error(desk, task, &note, &bytes).or_else(|_| {
                // The error shows the value, and finds no more room than the value did. Why there is
                // none is short enough to be written into the task's slot.
                let (_, bytes) =
                    encoded(&helpers.encode_error.call1((raised(py, &error), false))?)?;
                reply::send_error(desk, task, &PyBytes::new(py, &[]), &bytes)
            })
        }
    }
}

/// Returns what was raised, with its traceback on it.
fn raised<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    error.clone_ref(py).into_value(py).into_bound(py).into_any()
}

fn encoded<'py>(pair: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    pair.extract()
}

fn is_chunk(task: &TaskRef) -> bool {
    task.kind & !(HAS_PARTS | HAS_INDICES | DIRECT) != TaskKind::Call as u32
}

/// A task as it was loaded.
struct Loaded<'py> {
    func: Bound<'py, PyAny>,
    /// The positional arguments, or the chunk.
    second: Bound<'py, PyAny>,
    /// Whatever was given as keyword arguments; None for none, and for chunks.
    kwds: Option<Bound<'py, PyAny>>,
}

/// Loads (func, args, kwds), or (func, chunk).
fn load_task<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    codec: &mut Codec,
    task: &TaskRef,
) -> PyResult<Loaded<'py>> {
    let names = Names::get(py)?;
    let view = desk.get().lock().worker.payload(task);
    let view = view.map_err(|error| errors::to_python(&error))?;
    if task.kind & DIRECT != 0 {
        view.copy_to(&mut codec.bytes);
        let (cache, has_keywords) = (&mut codec.names, !is_chunk(task));
        let call = direct::read_task(py, names, cache, &codec.bytes, has_keywords)?;
        let kwds = call.kwds.map(Bound::into_any);
        return Ok(Loaded { func: call.func, second: call.second.into_any(), kwds });
    }
    let loaded = if task.kind & HAS_PARTS == 0 {
        let class = Names::pickler_of(py, &names.queues)?;
        let loads = class.getattr(crate::intern!(py, "loads"))?;
        load_view(py, &loads, &view, 0)?.into_bound(py)
    } else {
        // Such a stream is short: what is heavy lies in the store.
        desk.get().lock().wants_memo = task.kind & HAS_INDICES != 0;
        let bytes = PyBytes::new(py, &view.to_vec());
        let file = names.bytes_io.bind(py).call1((bytes,))?;
        let unpickler = names.unpickler.bind(py).call1((file,))?;
        unpickler.setattr(crate::intern!(py, "persistent_load"), desk)?;
        unpickler.call_method0(crate::intern!(py, "load"))?
    };
    let loaded = loaded.cast_into::<PyTuple>()?;
    let kwds = if is_chunk(task) { None } else { Some(loaded.get_item(2)?) };
    Ok(Loaded { func: loaded.get_item(0)?, second: loaded.get_item(1)?, kwds })
}

fn call<'py>(
    py: Python<'py>,
    task: &TaskRef,
    loaded: &Loaded<'py>,
    helpers: &Helpers<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let Loaded { func, second, kwds } = loaded;
    if is_chunk(task) {
        let names = Names::get(py)?;
        let is_map = task.kind & !(HAS_PARTS | HAS_INDICES | DIRECT) == TaskKind::Map as u32;
        let mapper = if is_map { &names.mapstar } else { &names.starmapstar };
        return mapper.bind(py).call1(((func, second),));
    }
    let args = second.cast_exact::<PyTuple>();
    match (args, kwds) {
        (Ok(args), None) => func.call1(args),
        (Ok(args), Some(kwds)) if kwds.is_exact_instance_of::<PyDict>() => {
            let kwds = kwds.cast_exact::<PyDict>()?;
            func.call(args, (!kwds.is_empty()).then_some(kwds))
        }
        (_, kwds) => helpers.spread.call1((func, second, kwds)),
    }
}

/// After a task has been dropped: proves that it left the parts as they were.
fn settle(py: Python<'_>, desk: &Bound<'_, WorkerDesk>, forgets: bool) {
    let mut inner = desk.get().lock();
    if !inner.has_used_copies() && !forgets {
        return;
    }
    let changed = inner.verify(py);
    let forgotten = inner.forget(false);
    drop(inner);
    drop((changed, forgotten));
}
