//! The direct codec: tasks and results of atoms cross without pickle.
//!
//! A callable that travels by name, with arguments that are atoms or small tuples of atoms, is
//! written into the slot as tags and bytes. What arrives cannot be told from what unpickling would
//! have made: types are exact, and two references to one `str`, `bytes` or `tuple` arrive as one
//! object, because both sides number these in the same order. Whatever is anything else is left to
//! the pickler, and the task is then pickled whole.

mod decode;
mod encode;
pub(crate) mod shown;

pub(crate) use decode::{NameCache, read_result, read_task};
pub(crate) use encode::Encoder;

/// Set in a task's kind if its payload is direct.
pub(crate) const DIRECT: u32 = 0x200;

/// What stands before a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Tag {
    None,
    True,
    False,
    /// Eight bytes.
    Int,
    /// Eight bytes.
    Float,
    /// Bytes of a character (1, 2 or 4) in a byte, length in characters, characters.
    Str,
    /// Length, bytes.
    Bytes,
    /// Length, values.
    Tuple,
    /// Length, eight bytes for each item.
    TupleOfInts,
    TupleOfFloats,
    /// Only as a chunk's results, whose list is taken apart where it arrives.
    List,
    ListOfInts,
    ListOfFloats,
    /// The number of an object that came before.
    Again,
}

impl Tag {
    const ALL: [Self; 14] = [
        Self::None,
        Self::True,
        Self::False,
        Self::Int,
        Self::Float,
        Self::Str,
        Self::Bytes,
        Self::Tuple,
        Self::TupleOfInts,
        Self::TupleOfFloats,
        Self::List,
        Self::ListOfInts,
        Self::ListOfFloats,
        Self::Again,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
}

/// How deep tuples may be nested.
const DEPTH_MAX: usize = 8;

/// Objects with an identity that one payload may hold. They are searched one by one, and pickle's
/// table is faster for more.
const NUMBERED_MAX: usize = 48;
