//! Buffers: the bytes of arrays cross without a copy, and the objects are what pickle makes.
//!
//! With pickle's protocol 4 the bytes of a large numpy array arrive as one `bytes` object, which the
//! array reads and writes in place. Here that object lies in memory that is mapped privately from the
//! pool's, so nothing is copied that nobody writes, and flags, base and strides are what they are
//! with the standard library. `buffers/README.md` has the protocol and its argument.
//!
//! * `Source` knows the types whose bytes are found without running anything of the user's.
//! * [`BufferHook`] is the parent's pickler's hook; [`Kept`] are the buffers that it keeps, and proves.
//! * `MappedBytes` is a `bytes` object over mapped memory, [`Leases`] are those of a worker.
//! * [`ResultHook`] is the hook of a worker's pickler, and `lent` what becomes of results in the
//!   parent.

mod hook;
mod kept;
mod leases;
mod lent;
mod mapped;
mod result;
mod source;

pub(crate) use hook::{BufferHook, may_occur};
pub(crate) use kept::Kept;
pub(crate) use leases::{BufferId, Leases, stored_buffer};
pub(crate) use lent::{Arrivals, array_died, lent_array, lent_buffer, sweep};
pub(crate) use result::ResultHook;
pub(crate) use source::{is_array_of_atoms, plain_item_len};

use pyo3::Python;

/// Makes the types of hooks, which Python would make at their first use.
pub(crate) fn make_types(py: Python<'_>) {
    py.get_type::<hook::BufferName>();
    py.get_type::<BufferHook>();
    py.get_type::<ResultHook>();
}
