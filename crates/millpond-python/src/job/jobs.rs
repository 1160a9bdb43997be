//! The jobs of a pool that are not done, each with its Python object.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::Job;

/// Said by a job that is in no list.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A list of the jobs that are not done: eight bytes for each, of which there may be a million.
#[pyclass(frozen, module = "millpond._native")]
pub(crate) struct Jobs {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    places: Vec<Option<Py<PyAny>>>,
    free: Vec<u32>,
}

impl List {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Jobs {
    #[new]
    fn new() -> Self {
        Self { list: Mutex::default() }
    }

    /// Adds a job, with the object that its caller has. Once for each job.
    fn add(&self, job: &Bound<'_, Job>, result: Py<PyAny>) {
        let mut list = self.lock();
        let place = list.free.pop().unwrap_or(list.places.len() as u32);
        if place as usize == list.places.len() {
            list.places.push(Some(result));
        } else {
            list.places[place as usize] = Some(result);
        }
        job.get().lock().place = place;
    }

    /// Removes a job, if it is there.
    fn remove(&self, job: &Bound<'_, Job>) {
        let mut list = self.lock();
        let place = std::mem::replace(&mut job.get().lock().place, NOWHERE);
        let removed = list.places.get_mut(place as usize).and_then(Option::take);
        if removed.is_some() {
            list.free.push(place);
        }
        let all = if list.len() == 0 { std::mem::take(&mut *list) } else { List::default() };
        drop(list);
        drop((removed, all));
    }

    /// Returns the objects of all jobs that are there.
    fn all(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.lock().places.iter().flatten().map(|result| result.clone_ref(py)).collect()
    }

    fn __len__(&self) -> usize {
        self.lock().len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Whoever holds the lock is changing the list, which then is no garbage.
        let Ok(list) = self.list.try_lock() else { return Ok(()) };
        list.places.iter().flatten().try_for_each(|result| visit.call(result))
    }

    fn __clear__(&self) {
        let list = self.list.try_lock().map(|mut list| std::mem::take(&mut *list));
        drop(list);
    }
}
