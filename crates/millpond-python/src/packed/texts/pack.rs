//! Texts into bytes.
#![allow(unsafe_code, reason = "texts are read from CPython's own structures")]

use std::collections::hash_map::Entry;

use pyo3::ffi;

use super::{HEAD_LEN, REPEAT, Text, WORD_LEN};
use crate::graph::text_len;
use crate::items::Items;
use crate::packed::PartKind;
use crate::parts::LONG_TEXT_LEN;
use crate::saved::Positions;

/// What else may refer to the texts of a list, in what is pickled with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Referrers {
    /// Anything, and the positions of all texts are wanted.
    Any,
    /// Nothing: the list is all that is sent.
    None,
    /// Anything, and positions would be of no use. Only texts to which nothing but the list refers
    /// are packed.
    NotAllowed,
}

/// What was packed.
pub(crate) struct PackedTexts {
    pub(crate) kind: PartKind,
    /// Its size in bytes in a pickle, about.
    pub(crate) counted_len: u64,
    /// Address and first position of the texts that were looked up.
    pub(crate) positions: Positions,
}

/// The most bytes that texts may have on average. Pickle copies long ones as fast as memory allows,
/// and encodes faster than this.
const MEAN_LEN_MAX: usize = 256;

/// Texts by which the first ones of a list may exceed it.
const MEAN_SLACK: usize = 64;

/// Tells whether the items may be texts of one type, as the first of them lets expect.
pub(crate) fn are_texts(items: &Items<'_>) -> bool {
    // SAFETY: the items are live objects, and the GIL is held by whoever has the borrow.
    items.as_slice().first().is_some_and(|&first| unsafe { text_of(first) }.is_some())
}

/// Returns the type of a text; None for all else. `item` is a live object.
unsafe fn text_of(item: *mut ffi::PyObject) -> Option<Text> {
    // SAFETY: the caller gives a live object; exact type checks read its type pointer only.
    unsafe {
        if ffi::PyUnicode_CheckExact(item) != 0 {
            Some(Text::Str)
        } else if ffi::PyBytes_CheckExact(item) != 0 {
            Some(Text::Bytes)
        } else {
            None
        }
    }
}

/// Packs a list or tuple of short texts of one exact type into `bytes`, in the place of what they
/// hold. `None` for all else.
pub(crate) fn pack_texts(
    items: &Items<'_>,
    referrers: Referrers,
    bytes: &mut Vec<u8>,
) -> Option<PackedTexts> {
    let all = items.as_slice();
    let count = u32::try_from(all.len()).ok().filter(|count| *count < REPEAT)?;
    // SAFETY: the items are live objects, and the GIL is held by whoever has the borrow.
    let text = unsafe { text_of(*all.first()?)? };
    let mut positions = Positions::default();
    if referrers == Referrers::Any {
        positions.reserve(all.len());
    }
    let mut counted_len = 0;
    bytes.clear();
    bytes.resize(HEAD_LEN + WORD_LEN * all.len(), 0);
    for (index, &item) in all.iter().enumerate() {
        // SAFETY: as above.
        let (kind, refcount) = unsafe { (text_of(item), ffi::Py_REFCNT(item)) };
        if kind != Some(text) {
            return None;
        }
        // What has one reference stands in this place only.
        let is_elsewhere = refcount != 1;
        if referrers == Referrers::NotAllowed {
            // SAFETY: as above; the item is of this type.
            if is_elsewhere && !unsafe { is_one_of_a_kind(item, text) } {
                return None;
            }
        } else if is_elsewhere || referrers == Referrers::Any {
            match positions.entry(item.addr()) {
                Entry::Occupied(first) => {
                    counted_len += if *first.get() <= 0xff { 2 } else { 5 };
                    set_word(bytes, index, REPEAT | *first.get());
                    continue;
                }
                Entry::Vacant(place) => _ = place.insert(index as u32),
            }
        }
        let start = bytes.len();
        // SAFETY: as above; the item is of this type.
        if !unsafe { append(item, text, bytes) } {
            return None;
        }
        let len = bytes.len() - start;
        if bytes.len() > HEAD_LEN + WORD_LEN * all.len() + MEAN_LEN_MAX * (index + MEAN_SLACK) {
            return None;
        }
        counted_len += len as u64 + if len <= 0xff { 3 } else { 6 };
        set_word(bytes, index, len as u32);
    }
    bytes[..HEAD_LEN].copy_from_slice(&count.to_ne_bytes());
    let kind = PartKind::Texts { is_list: items.is_list, text };
    Some(PackedTexts { kind, counted_len, positions })
}

fn set_word(bytes: &mut [u8], index: usize, word: u32) {
    let at = HEAD_LEN + WORD_LEN * index;
    bytes[at..at + WORD_LEN].copy_from_slice(&word.to_ne_bytes());
}

/// Tells whether there is only one such text wherever it is loaded, so that it needs no identity: the
/// empty one, and a `str` of one Latin-1 character.
///
/// # Safety
/// `item` is a live exact text of this type.
unsafe fn is_one_of_a_kind(item: *mut ffi::PyObject, text: Text) -> bool {
    // SAFETY: the caller's duty; what is read is the type's own structure, of a `str` once it is
    // ready.
    unsafe {
        match text {
            Text::Bytes => ffi::Py_SIZE(item) == 0,
            Text::Str => {
                is_ready(item)
                    && match ffi::PyUnicode_GET_LENGTH(item) {
                        0 => true,
                        1 => ffi::PyUnicode_KIND(item) == 1,
                        _ => false,
                    }
            }
        }
    }
}

/// Makes sure that a `str` has its characters where they are read, which before Python 3.12 one made
/// by an old interface may not have.
///
/// # Safety
/// `item` is a live exact `str`, and the GIL is held.
unsafe fn is_ready(item: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's duty; only for want of memory the call fails.
    unsafe {
        let is_ready = ffi::PyUnicode_READY(item) == 0;
        if !is_ready {
            ffi::PyErr_Clear();
        }
        is_ready
    }
}

/// Appends a text's bytes. Returns false if it is long, or has a lone surrogate.
///
/// # Safety
/// `item` is a live exact text of this type, and the GIL is held.
unsafe fn append(item: *mut ffi::PyObject, text: Text, bytes: &mut Vec<u8>) -> bool {
    // SAFETY: the caller's duty. The bytes of a `bytes`, and the characters of a `str` once it is
    // ready, lie at its data, and nothing changes them; `kind` tells the width of a character.
    unsafe {
        if text == Text::Bytes {
            let len = ffi::Py_SIZE(item) as usize;
            let start = ffi::PyBytes_AS_STRING(item).cast::<u8>();
            bytes.extend_from_slice(std::slice::from_raw_parts(start, len.min(LONG_TEXT_LEN)));
            return len < LONG_TEXT_LEN;
        }
        if !is_ready(item) || text_len(item) >= LONG_TEXT_LEN {
            return false;
        }
        let len = ffi::PyUnicode_GET_LENGTH(item) as usize;
        let start = ffi::PyUnicode_DATA(item).cast_const();
        if ffi::PyUnicode_IS_COMPACT_ASCII(item) != 0 {
            bytes.extend_from_slice(std::slice::from_raw_parts(start.cast(), len));
            return true;
        }
        match ffi::PyUnicode_KIND(item) {
            1 => encode(std::slice::from_raw_parts(start.cast::<u8>(), len), bytes),
            2 => encode(std::slice::from_raw_parts(start.cast::<u16>(), len), bytes),
            _ => encode(std::slice::from_raw_parts(start.cast::<u32>(), len), bytes),
        }
    }
}

/// Appends characters in UTF-8. Returns false at a surrogate.
fn encode<T: Copy + Into<u32>>(characters: &[T], bytes: &mut Vec<u8>) -> bool {
    let mut at = bytes.len();
    // Characters of 1, 2 and 4 bytes take 2, 3 and 4 at most.
    bytes.resize(at + characters.len() * 4.min(size_of::<T>() + 1), 0);
    for &character in characters {
        let character = character.into();
        if character < 0x80 {
            bytes[at] = character as u8;
            at += 1;
        } else if let Some(character) = char::from_u32(character) {
            at += character.encode_utf8(&mut bytes[at..]).len();
        } else {
            return false;
        }
    }
    bytes.truncate(at);
    true
}
