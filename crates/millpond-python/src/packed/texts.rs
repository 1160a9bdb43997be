//! Lists and tuples of short texts: all exact `str`, or all exact `bytes`.
//!
//! Packed they are a word of 4 bytes that tells how many there are, a word for each text (its length,
//! or the index of the same object further ahead), and the bytes. A `str` is its UTF-8, as in a
//! pickle; one with a lone surrogate is left to pickle, whose error handler the user may have
//! replaced.
//!
//! Pickle remembers texts, so the same object twice arrives as one, and equal ones as two. They are
//! made by the functions by which Modules/_pickle.c makes them, so that those of which there is only
//! one, such as the empty text, are that one.

mod pack;
mod unpack;

pub(crate) use pack::{Referrers, are_texts, pack_texts};
pub(super) use unpack::unpack_texts;

/// The type of texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Text {
    Str,
    Bytes,
}

/// Bytes of the count, and of what stands for each text.
const HEAD_LEN: usize = 4;
const WORD_LEN: usize = 4;

/// Set in the word of a repeat; the rest is the index of the first one. Texts are shorter.
const REPEAT: u32 = 1 << 31;
