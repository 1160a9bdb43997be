//! The stored buffers that a worker has mapped.
#![allow(unsafe_code, reason = "a copy that nobody refers to is reset")]

use std::collections::HashMap;

use millpond_engine::{Leased, StoreId, Worker};
use millpond_sys::private_pages::PrivatePages;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::mapped::MappedBytes;
use crate::errors;
use crate::worker_parts;

/// A stored buffer, and which of its copies: a task that brings the same bytes twice gets two.
pub(crate) type BufferId = (StoreId, u64);

/// One mapped buffer.
struct Mapped {
    leased: Leased,
    bytes: MappedBytes,
    is_used: bool,
    /// Idle seconds since its last use.
    idle_s: u32,
}

/// All buffers that a worker has mapped.
#[derive(Default)]
pub(crate) struct Leases {
    mapped: HashMap<BufferId, Mapped>,
    /// Those that something refers to beyond their task. They serve no other one.
    escaped: Vec<Mapped>,
    pages: Option<PrivatePages>,
}

impl Leases {
    /// Returns a buffer's bytes, pristine: mapped, or copied if too many are mapped already.
    pub(crate) fn bytes<'py>(
        &mut self,
        py: Python<'py>,
        worker: &mut Worker,
        id: BufferId,
    ) -> PyResult<(Bound<'py, PyAny>, bool)> {
        if let Some(known) = self.mapped.get_mut(&id) {
            known.is_used = true;
            known.idle_s = 0;
            return Ok((known.bytes.object(py), false));
        }
        let leased = worker.lease(id.0).map_err(|error| errors::to_python(&error))?;
        let Some(leased) = leased else {
            let stored = worker.stored(id.0).map_err(|error| errors::to_python(&error))?;
            let Some((view, _)) = stored else {
                return Err(PyRuntimeError::new_err(format!("buffer {:?} is not stored", id.0)));
            };
            let all = view.to_vec();
            let bytes = all.split_last().map_or(&[][..], |(_, bytes)| bytes);
            return Ok((PyBytes::new(py, bytes).into_any(), true));
        };
        let bytes = MappedBytes::new(py, &leased.copy);
        let object = bytes.object(py);
        self.mapped.insert(id, Mapped { leased, bytes, is_used: true, idle_s: 0 });
        Ok((object, true))
    }

    pub(crate) fn has_used(&self) -> bool {
        !self.escaped.is_empty() || self.mapped.values().any(|mapped| mapped.is_used)
    }

    /// After a task: makes pristine what it has used, and lets go of what is referred to no longer.
    /// Calls `note` for each buffer that was used, with whether it has escaped.
    pub(crate) fn settle(
        &mut self,
        py: Python<'_>,
        worker: &Worker,
        mut note: impl FnMut(StoreId, bool),
    ) {
        let pages = self.pages.get_or_insert_with(PrivatePages::new);
        let used = self.mapped.extract_if(|_, mapped| {
            if !mapped.is_used {
                return false;
            }
            mapped.is_used = false;
            // SAFETY: nothing refers to the object, so nobody reads or writes its bytes.
            let is_pristine =
                mapped.bytes.is_free(py) && unsafe { mapped.leased.copy.reset(pages) }.is_ok();
            if is_pristine {
                // A bytes object remembers its hash.
                mapped.bytes.begin(py, &mapped.leased.copy);
            }
            !is_pristine
        });
        let gone: Vec<_> = used.collect();
        for (id, mapped) in gone {
            note(id.0, true);
            self.escaped.push(mapped);
        }
        for mapped in self.escaped.extract_if(.., |mapped| mapped.bytes.is_free(py)) {
            worker.end_lease(mapped.leased);
        }
    }

    /// Lets go of buffers whose part is gone, and, after an idle second, of those that were not used
    /// for one.
    pub(crate) fn forget(&mut self, py: Python<'_>, worker: &Worker, is_idle: bool) {
        let gone = self.mapped.extract_if(|(id, _), mapped| {
            mapped.idle_s += u32::from(is_idle);
            mapped.idle_s >= 2 || !worker.is_listed(*id)
        });
        let gone: Vec<_> = gone.collect();
        let free = self.escaped.extract_if(.., |mapped| mapped.bytes.is_free(py));
        for mapped in gone.into_iter().map(|(_, mapped)| mapped).chain(free) {
            worker.end_lease(mapped.leased);
        }
    }

    /// Leaves what is mapped to the process's end: what is torn down until then may read it.
    pub(crate) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.mapped));
        std::mem::forget(std::mem::take(&mut self.escaped));
    }
}

/// Returns the bytes of a stored buffer, in the worker whose task names it.
#[pyfunction]
pub(crate) fn stored_buffer(
    py: Python<'_>,
    entry: u32,
    turn: u64,
    copy: u64,
) -> PyResult<Bound<'_, PyAny>> {
    let desk = worker_parts::current(py)
        .ok_or_else(|| PyRuntimeError::new_err("a stored buffer is loaded outside of a worker"))?;
    desk.get().buffer(py, (StoreId { entry, turn }, copy))
}
