//! What a task came to, on its way to the parent.

use pyo3::exceptions::PyRecursionError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use millpond_engine::TaskRef;

use crate::buffers::{self, ResultHook};
use crate::deliver::{
    PACKED_SHIFT, RESULT_DIRECT, RESULT_ERROR, RESULT_LENT, RESULT_PACKED, RESULT_VALUE,
};
use crate::direct::{Encoder, NameCache};
use crate::errors;
use crate::items::Items;
use crate::pack::{PLAIN_COUNT_MAX, Packer, is_plain};
use crate::packed::{Referrers, are_texts, pack_numbers, pack_texts};
use crate::parts::HEAVY_LEN_MIN;
use crate::worker_parts::WorkerDesk;

/// What a task came to, ready to be sent.
pub(super) enum Reply<'py> {
    /// The value that the function returned; it is pickled into the packer.
    Value(Bound<'py, PyAny>),
    /// What was raised, encoded.
    Error(Bound<'py, PyBytes>, Bound<'py, PyBytes>),
}

/// What the direct codec keeps from task to task.
#[derive(Default)]
pub(super) struct Codec {
    encoder: Encoder,
    pub(super) names: NameCache,
    pub(super) bytes: Vec<u8>,
    /// The bits of what is packed in `bytes`.
    packed_kind: u32,
}

/// The largest buffer in bytes that is kept for the next task.
const KEPT_LEN_MAX: usize = 1 << 20;

impl Codec {
    /// Packs a result that is a long list or tuple of numbers or of short texts. Returns false for
    /// all else.
    fn pack(&mut self, value: &Bound<'_, PyAny>) -> bool {
        let Some(items) = Items::of(value).filter(|items| items.len() >= HEAVY_LEN_MIN) else {
            return false;
        };
        let kind = if are_texts(&items) {
            let packed = pack_texts(&items, Referrers::None, &mut self.bytes);
            packed.map(|packed| packed.kind)
        } else {
            pack_numbers(&items, &mut self.bytes)
        };
        let Some(kind) = kind else {
            self.shrink();
            return false;
        };
        self.packed_kind = kind.bits() as u32;
        true
    }

    fn shrink(&mut self) {
        if self.bytes.capacity() > KEPT_LEN_MAX {
            self.bytes = Vec::new();
        }
    }
}

/// Sends a reply by the first way that can carry it. Like all here that send, it returns whether the
/// parent takes it: it does not if it has condemned the task.
pub(super) fn send<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    packer: &mut Packer<'py>,
    codec: &mut Codec,
    task: &TaskRef,
    reply: &Reply<'py>,
) -> PyResult<bool> {
    match reply {
        Reply::Value(value)
            if packer.is_stock()? && codec.encoder.result(value, super::is_chunk(task)) =>
        {
            complete(desk, task, RESULT_DIRECT, &[], codec.encoder.bytes())
        }
        Reply::Value(value) if packer.is_stock()? && codec.pack(value) => {
            let kind = RESULT_PACKED | codec.packed_kind << PACKED_SHIFT;
            let told = complete(desk, task, kind, &[], &codec.bytes);
            codec.shrink();
            told
        }
        Reply::Value(value) => send_value(py, desk, packer, task, value),
        Reply::Error(note, bytes) => send_error(desk, task, note, bytes),
    }
}

fn complete(
    desk: &Bound<'_, WorkerDesk>,
    task: &TaskRef,
    kind: u32,
    note: &[u8],
    bytes: &[u8],
) -> PyResult<bool> {
    let told = desk.get().lock().worker.complete(task, kind, note, bytes);
    told.map_err(|error| errors::to_python(&error))
}

/// Pickles and sends what the function returned.
fn send_value<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    packer: &mut Packer<'py>,
    task: &TaskRef,
    value: &Bound<'py, PyAny>,
) -> PyResult<bool> {
    let is_plain = is_plain(value, &mut { PLAIN_COUNT_MAX });
    if !is_plain && buffers::may_occur(py)? && packer.is_stock()? {
        let hook = Bound::new(py, ResultHook::new(desk.clone().unbind()))?;
        let sent = send_with_buffers(py, desk, packer, task, value, &hook);
        if !matches!(sent, Ok(Some(true))) {
            hook.get().unlend();
        }
        if let Some(is_complete) = sent? {
            return Ok(is_complete);
        }
    }
    let packed = packer.pack(value, is_plain)?;
    complete(desk, task, RESULT_VALUE, &[], packed.as_bytes())
}

/// Sends a value whose buffers the parent maps. Returns `None` if it is to be sent without.
fn send_with_buffers<'py>(
    py: Python<'py>,
    desk: &Bound<'py, WorkerDesk>,
    packer: &mut Packer<'py>,
    task: &TaskRef,
    value: &Bound<'py, PyAny>,
    hook: &Bound<'py, ResultHook>,
) -> PyResult<Option<bool>> {
    if let Err(error) = packer.pack_with_hooks(value, None, Some(hook.as_any())) {
        let is_ours = hook.get().has_failed() || error.is_instance_of::<PyRecursionError>(py);
        return if is_ours { Ok(None) } else { Err(error) };
    }
    let note = hook.get().note();
    let kind = if note.is_empty() { RESULT_VALUE } else { RESULT_LENT };
    let packed = packer.packed();
    complete(desk, task, kind, &note, packed.as_bytes()).map(Some)
}

pub(super) fn send_error(
    desk: &Bound<'_, WorkerDesk>,
    task: &TaskRef,
    note: &Bound<'_, PyBytes>,
    bytes: &Bound<'_, PyBytes>,
) -> PyResult<bool> {
    complete(desk, task, RESULT_ERROR, note.as_bytes(), bytes.as_bytes())
}
