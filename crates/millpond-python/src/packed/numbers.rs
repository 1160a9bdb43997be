//! Lists and tuples of numbers.
//!
//! Numbers have no identity that pickle keeps, so their bytes are all that there is to them.
#![allow(unsafe_code, reason = "numbers are read from CPython's own structures")]

use millpond_engine::{Engine, Result};
use pyo3::ffi;
use pyo3::prelude::*;

use super::{PartKind, Stored, fill};
use crate::deliver::Ticket;
use crate::items::Items;

/// The bytes of a packed number, in native order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Width {
    /// Ints of 4 bytes.
    Int32 = 1,
    /// Ints of 8 bytes.
    Int64 = 2,
    /// Floats of 8 bytes.
    Float64 = 3,
}

impl Width {
    /// Packs items into a piece of just their length. Returns false if one does not fit.
    ///
    /// # Safety
    /// The items are live objects, and the GIL is held.
    unsafe fn pack(
        self,
        items: &[*mut ffi::PyObject],
        piece: &mut [u8],
        counted_len: &mut u64,
    ) -> bool {
        // SAFETY: the caller's duty.
        unsafe {
            match self {
                Self::Int32 => pack_ints32(items, piece, counted_len),
                Self::Int64 => pack_ints64(items, piece, counted_len),
                Self::Float64 => pack_floats(items, piece, counted_len),
            }
        }
    }

    const fn byte_len(self) -> usize {
        match self {
            Self::Int32 => 4,
            Self::Int64 | Self::Float64 => 8,
        }
    }
}

/// Stores a list or tuple of exact ints of up to 64 bits, or of exact floats. `None` for all else.
pub(crate) fn store_numbers(
    engine: &Engine<Ticket>,
    items: &Items<'_>,
    tag: u64,
) -> Result<Option<Stored>> {
    for &width in widths_of(items) {
        let mut rest = items.as_slice();
        let mut counted_len = 0;
        let stored_len = (rest.len() * width.byte_len()) as u64;
        let kind = PartKind::Numbers { is_list: items.is_list, width };
        let stored = engine.store_pieces(stored_len, kind.bits(), tag, |piece| {
            let (now, later) = rest.split_at(piece.len() / width.byte_len());
            rest = later;
            // SAFETY: the items are live objects, the GIL is held by whoever has the borrow, and no
            // Python runs between the pieces.
            unsafe { width.pack(now, piece, &mut counted_len) }
        })?;
        if let Some(id) = stored {
            return Ok(Some(Stored { id, stored_len, counted_len }));
        }
    }
    Ok(None)
}

/// Packs a list or tuple of exact ints of up to 64 bits, or of exact floats, into `bytes`, in the place
/// of what they hold. `None` for all else.
pub(crate) fn pack_numbers(items: &Items<'_>, bytes: &mut Vec<u8>) -> Option<PartKind> {
    let is_list = items.is_list;
    widths_of(items).iter().copied().find_map(|width| {
        bytes.clear();
        bytes.resize(items.len() * width.byte_len(), 0);
        // SAFETY: the items are live objects, and the GIL is held by whoever has the borrow.
        let is_packed = unsafe { width.pack(items.as_slice(), bytes, &mut 0) };
        is_packed.then_some(PartKind::Numbers { is_list, width })
    })
}

/// Returns the widths in which the items may fit, as the first of them lets expect.
fn widths_of(items: &Items<'_>) -> &'static [Width] {
    let Some(&first) = items.as_slice().first() else { return &[] };
    // SAFETY: the items are live objects, and the GIL is held by whoever has the borrow.
    let (is_int, is_float) =
        unsafe { (ffi::PyLong_CheckExact(first) != 0, ffi::PyFloat_CheckExact(first) != 0) };
    // Most ints fit four bytes; the first that does not begins it anew.
    match (is_int, is_float) {
        (true, _) => &[Width::Int32, Width::Int64],
        (_, true) => &[Width::Float64],
        _ => &[],
    }
}

/// Returns an exact int's value, if it has 64 bits. `item` is a live object and the GIL is held.
unsafe fn int_of(item: *mut ffi::PyObject) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: the conversion of an exact int runs no Python and sets no error.
    let value = unsafe {
        if ffi::PyLong_CheckExact(item) == 0 {
            return None;
        }
        ffi::PyLong_AsLongLongAndOverflow(item, &raw mut overflow)
    };
    (overflow == 0).then_some(value)
}

unsafe fn pack_ints32(
    items: &[*mut ffi::PyObject],
    piece: &mut [u8],
    counted_len: &mut u64,
) -> bool {
    for (&item, bytes) in items.iter().zip(piece.as_chunks_mut().0) {
        // SAFETY: the caller gives live objects and holds the GIL.
        let Some(value) = unsafe { int_of(item) }.and_then(|value| i32::try_from(value).ok())
        else {
            return false;
        };
        *counted_len += match value {
            0..=0xff => 2,
            0x100..=0xffff => 3,
            _ => 5,
        };
        *bytes = value.to_ne_bytes();
    }
    true
}

unsafe fn pack_ints64(
    items: &[*mut ffi::PyObject],
    piece: &mut [u8],
    counted_len: &mut u64,
) -> bool {
    for (&item, bytes) in items.iter().zip(piece.as_chunks_mut().0) {
        // SAFETY: the caller gives live objects and holds the GIL.
        let Some(value) = (unsafe { int_of(item) }) else { return false };
        *counted_len += 10;
        *bytes = value.to_ne_bytes();
    }
    true
}

unsafe fn pack_floats(
    items: &[*mut ffi::PyObject],
    piece: &mut [u8],
    counted_len: &mut u64,
) -> bool {
    for (&item, bytes) in items.iter().zip(piece.as_chunks_mut().0) {
        // SAFETY: the caller gives live objects and holds the GIL.
        unsafe {
            if ffi::PyFloat_CheckExact(item) == 0 {
                return false;
            }
            *bytes = ffi::PyFloat_AS_DOUBLE(item).to_ne_bytes();
        }
    }
    *counted_len += 9 * items.len() as u64;
    true
}

/// Makes the list or tuple that was packed.
///
/// # Safety
/// `address` is valid for reads of `len` bytes.
pub(super) unsafe fn unpack_numbers<'py>(
    py: Python<'py>,
    is_list: bool,
    width: Width,
    address: *const u8,
    len: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let count = len / width.byte_len();
    // SAFETY: the caller's duty is passed on; each number is read where it lies, `count` of them. The
    // conversions give new references, or null with an error set.
    unsafe {
        match width {
            Width::Int32 => fill(py, is_list, count, |index, _| {
                let value = address.cast::<i32>().add(index).read_unaligned();
                ffi::PyLong_FromLong(value.into())
            }),
            Width::Int64 => fill(py, is_list, count, |index, _| {
                ffi::PyLong_FromLongLong(address.cast::<i64>().add(index).read_unaligned())
            }),
            Width::Float64 => fill(py, is_list, count, |index, _| {
                ffi::PyFloat_FromDouble(address.cast::<f64>().add(index).read_unaligned())
            }),
        }
    }
}
