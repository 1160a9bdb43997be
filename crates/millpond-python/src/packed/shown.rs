//! Packing and unpacking as Python functions, for tests and diagnosis.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::{PartKind, Referrers, are_texts, pack_numbers, pack_texts, unpack as unpack_part};
use crate::items::Items;

/// Returns kind and bytes of a list or tuple as they are packed for a result; None for what is left
/// to pickle. With `comes_once` they are those of an argument that comes once.
#[pyfunction]
pub(crate) fn pack<'py>(
    value: &Bound<'py, PyAny>,
    comes_once: bool,
) -> PyResult<Option<(u64, Bound<'py, PyBytes>)>> {
    let not_flat = || PyTypeError::new_err("not an exact list or tuple");
    let items = Items::of(value).ok_or_else(not_flat)?;
    let mut bytes = Vec::new();
    let referrers = if comes_once { Referrers::NotAllowed } else { Referrers::None };
    let kind = if are_texts(&items) {
        pack_texts(&items, referrers, &mut bytes).map(|packed| packed.kind)
    } else {
        pack_numbers(&items, &mut bytes)
    };
    Ok(kind.map(|kind| (kind.bits(), PyBytes::new(value.py(), &bytes))))
}

/// Makes a list or tuple of its kind and bytes.
///
/// Raises RuntimeError if they cannot be true.
#[pyfunction]
#[allow(unsafe_code, reason = "packed bytes are read by their address")]
pub(crate) fn unpack<'py>(kind: u64, bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let (address, len) = (bytes.as_bytes().as_ptr(), bytes.as_bytes().len());
    // SAFETY: the bytes are alive as long as the borrow.
    unsafe { unpack_part(bytes.py(), PartKind::from_bits(kind), address, len) }
}
