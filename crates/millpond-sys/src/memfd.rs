//! Files that live in memory and have no name that another process could open.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::{Error, Result, limits};

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)`
///
/// Creates a sparse file of `len` bytes, which read as zeros and take no memory until they are
/// written. Its size is sealed: neither this process nor another can change it, so no mapping of it
/// ever faults beyond its end. It closes on exec and, from Linux 6.3, can never be executed.
///
/// `name` shows in `/proc` only; it may hold up to 249 bytes and no NUL.
///
/// A file that is larger than [`limits::file_size_max`] is refused here, because the kernel's own
/// refusal comes with the signal `SIGXFSZ`, which ends a program that does not ignore it.
pub fn create(name: &str, len: u64) -> Result<OwnedFd> {
    if len > limits::file_size_max() {
        return Err(Error::new("ftruncate", Errno::FBIG));
    }
    let file = open(name)?;
    ftruncate(&file, len).map_err(Error::of("ftruncate"))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(Error::of("fcntl(F_ADD_SEALS)"))?;
    Ok(file)
}

fn open(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know MFD_NOEXEC_SEAL.
        Err(Errno::INVAL) => memfd_create(name, flags),
        result => result,
    }
    .map_err(Error::of("memfd_create"))
}
