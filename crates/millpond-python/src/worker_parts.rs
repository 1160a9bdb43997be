//! Heavy parts, worker's side: live copies, and the proof that a task has left them as they were.
#![allow(unsafe_code, reason = "reference counts are read, and packed bytes unpacked")]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millpond_engine::{StoreId, Worker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PySequence;

use crate::deliver::load_view;
use crate::errors;
use crate::items::Items;
use crate::names::Names;
use crate::packed::{PartKind, unpack_numbers};
use crate::parts::{WHOLE_ONCE, counted};
use crate::witness::{Tracking, Witness};

/// Indices of `millpond_engine::Seat::COUNTS`.
const LOADED: usize = 1;
const VERIFIED: usize = 2;
const CHANGED: usize = 3;

/// A live copy of a stored part.
struct Copy {
    /// The only reference that may be left after a task.
    live: Py<PyAny>,
    /// None for a part that no other task will name.
    witness: Option<Witness>,
    /// A list's allocated length after loading: `sys.getsizeof` shows it.
    allocated: isize,
    is_used: bool,
    /// Idle seconds since its last use.
    idle_s: u32,
}

/// A part, and which of its copies: equal parts of one task are stored once and arrive as many.
type CopyId = (StoreId, u32);

/// The worker, and what it has loaded, where both the loop and the unpickler's hook reach them.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct WorkerDesk {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) worker: Worker,
    copies: HashMap<CopyId, Copy>,
    tracking: Tracking,
}

impl WorkerDesk {
    pub(crate) fn new(worker: Worker) -> Self {
        Self {
            inner: Mutex::new(Inner {
                worker,
                copies: HashMap::new(),
                tracking: Tracking::default(),
            }),
        }
    }

    /// No code of the user's may run under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl WorkerDesk {
    /// The unpickler's `persistent_load`: a part, or the atom at an index of it.
    fn __call__(&self, py: Python<'_>, id: (u32, u64, u32, i64)) -> PyResult<Py<PyAny>> {
        let (entry, turn, copy, index) = id;
        let part = self.lock().part(py, (StoreId { entry, turn }, copy), index == WHOLE_ONCE)?;
        if index < 0 {
            return Ok(part);
        }
        let items = part.bind(py);
        Ok(items.cast::<PySequence>()?.get_item(index as usize)?.unbind())
    }
}

impl Inner {
    fn part(&mut self, py: Python<'_>, id: CopyId, is_once: bool) -> PyResult<Py<PyAny>> {
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.is_used = true;
            copy.idle_s = 0;
            return Ok(copy.live.clone_ref(py));
        }
        let begin = Instant::now();
        let stored = self.worker.stored(id.0).map_err(|error| errors::to_python(&error))?;
        let Some((view, kind)) = stored else {
            return Err(PyRuntimeError::new_err(format!("part {:?} is not in the store", id.0)));
        };
        let live = match PartKind::from_bits(kind) {
            PartKind::Pickle => {
                load_view(py, Names::get(py)?.loads.bind(py), &view, 0)?.into_bound(py)
            }
            // SAFETY: the view's bytes are readable as long as it lives.
            PartKind::Numbers { is_list, width } => unsafe {
                unpack_numbers(py, is_list, width, view.as_ptr(), view.len())?
            },
        };
        let items = Items::of(&live);
        let allocated = items.as_ref().map_or(0, |items| items.allocated);
        let witness = match &items {
            _ if is_once => None,
            Some(items) => {
                let is_packed = PartKind::from_bits(kind) != PartKind::Pickle;
                let tracking = if is_packed { Witness::track(&self.tracking, items) } else { None };
                tracking.or_else(|| Witness::save(items))
            }
            None => None,
        };
        if witness.is_none() && !is_once {
            return Err(PyRuntimeError::new_err("a stored part is not a list of atoms"));
        }
        let live = live.unbind();
        let given = live.clone_ref(py);
        self.copies.insert(id, Copy { live, witness, allocated, is_used: true, idle_s: 0 });
        self.worker.count(LOADED, 1);
        self.worker.count_part(id.0, counted::LOADED, 1);
        self.worker.count_part(id.0, counted::LOADED_NS, elapsed_ns(begin));
        Ok(given)
    }

    /// After a task, and after all that it left has been dropped: keeps the copies that are proved
    /// to be as they were after loading, and returns the others, to be dropped without the lock.
    pub(crate) fn verify(&mut self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let mut changed = Vec::new();
        let worker = &self.worker;
        self.copies.retain(|(id, _), copy| {
            if !copy.is_used {
                return true;
            }
            copy.is_used = false;
            let Some(witness) = &copy.witness else {
                changed.push(copy.live.clone_ref(py));
                return false;
            };
            let begin = Instant::now();
            worker.count(VERIFIED, 1);
            let live = copy.live.bind(py);
            // SAFETY: the object is alive and the GIL is held.
            let is_ours_alone = unsafe { ffi::Py_REFCNT(live.as_ptr()) } == 1;
            let is_same = is_ours_alone
                && Items::of(live).is_some_and(|items| {
                    items.allocated == copy.allocated && witness.holds(&items)
                });
            if !is_same {
                worker.count(CHANGED, 1);
                worker.count_part(*id, counted::CHANGED, 1);
                changed.push(copy.live.clone_ref(py));
            }
            worker.count_part(*id, counted::PROVED, 1);
            worker.count_part(*id, counted::PROVED_NS, elapsed_ns(begin));
            is_same
        });
        changed
    }

    pub(crate) fn has_used_copies(&self) -> bool {
        self.copies.values().any(|copy| copy.is_used)
    }

    /// Drops copies whose part is gone, and, after an idle second, those that were not used for one.
    pub(crate) fn forget(&mut self, is_idle: bool) {
        let worker = &self.worker;
        self.copies.retain(|(id, _), copy| {
            copy.idle_s += u32::from(is_idle);
            copy.idle_s < 2 && worker.is_listed(*id)
        });
    }

    /// Leaves the copies to the process's end, which frees them faster.
    pub(crate) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.copies));
    }
}

fn elapsed_ns(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
