#![allow(unsafe_code, reason = "a word of the probed mapping is read as an atomic")]
//! Whether this system has what no pool can do without.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicU32;

use crate::mapping::{Access, Mapping, page_size};
use crate::{Error, Result, futex, memfd};

/// `memfd_create`, `mmap`, `futex`
///
/// Makes one page of shared memory, maps it, and waits and wakes on a word of it, so that an old
/// kernel or a strict sandbox gives one clear error at the first pool and not a strange one later.
/// The error names the call that is denied.
pub fn require() -> Result<()> {
    let file = memfd::create("millpond-probe", page_size() as u64)
        .map_err(|error| error.during("a pool needs shared memory by memfd_create"))?;
    let mapping = Mapping::new(file.as_fd(), 0, page_size(), Access::ReadWrite)
        .map_err(|error| error.during("a pool needs shared memory mapped by mmap"))?;
    // SAFETY: The mapping is a page long, aligned to a page, writable, and outlives the reference;
    // nobody else has the file.
    let word = unsafe { AtomicU32::from_ptr(mapping.as_ptr().cast()) };
    futex::try_wake(word, 1)
        .and_then(|_| futex::try_wait(word, 1, None))
        .map_err(Error::of("a pool needs to wait on shared memory by futex"))?;
    Ok(())
}
