//! Reading, writing and giving back pieces of a file without mapping them.

use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::{Error, Result};

/// The most that one call moves: a killed process leaves the kernel only between calls.
const CALL_BYTES_MAX: usize = 1 << 30;

/// `pwrite(fd, bytes, len, offset)`, repeated
///
/// Writes all bytes at `offset`, going on after partial writes and interruptions. For cold pages of
/// shared memory this costs half of what touching them through a mapping costs.
///
/// After an error some of the bytes may have been written. Beyond the end of a file whose size is
/// sealed it fails with `EPERM`.
pub fn write_all_at(fd: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Result<()> {
    let (mut offset, mut bytes) = (offset, bytes);
    while !bytes.is_empty() {
        let chunk = &bytes[..bytes.len().min(CALL_BYTES_MAX)];
        match retry_on_intr(|| pwrite(fd, chunk, offset)).map_err(Error::of("pwrite"))? {
            0 => return Err(Error::new("pwrite", Errno::IO)),
            written => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
        }
    }
    Ok(())
}

/// `pread(fd, bytes, len, offset)`, repeated
///
/// Fills `bytes` from `offset` on, going on after partial reads and interruptions.
///
/// Fails with `ENODATA` where the file ends earlier; some bytes may have been read then.
pub fn read_exact_at(fd: BorrowedFd<'_>, offset: u64, bytes: &mut [u8]) -> Result<()> {
    let mut read_bytes = 0;
    while read_bytes < bytes.len() {
        let chunk_end = bytes.len().min(read_bytes + CALL_BYTES_MAX);
        let chunk = &mut bytes[read_bytes..chunk_end];
        let position = offset + read_bytes as u64;
        match retry_on_intr(|| pread(fd, &mut *chunk, position)).map_err(Error::of("pread"))? {
            0 => return Err(Error::new("pread", Errno::NODATA)),
            count => read_bytes += count,
        }
    }
    Ok(())
}

/// `fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len)`
///
/// Gives the memory of whole pages in the range back to the system; all its bytes read as zeros
/// afterwards, in every mapping, private pages already written excepted. Returns false, with
/// nothing changed, where kernel, file system or sandbox do not offer it.
///
/// The caller makes sure that no process can still read the range.
pub fn punch_hole(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<bool> {
    if len == 0 {
        return Ok(true);
    }
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(fd, mode, offset, len)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => Ok(false),
        Err(errno) => Err(Error::new("fallocate(FALLOC_FL_PUNCH_HOLE)", errno)),
    }
}
