#![allow(unsafe_code, reason = "mmap, madvise and munmap")]
//! A piece of a file in this process's address space, which unmaps itself.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::{Error, Result, process};

/// How a mapping reads and writes its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `MAP_SHARED`, `PROT_READ | PROT_WRITE`: what is written is seen by every other mapping.
    ReadWrite,
    /// `MAP_SHARED`, `PROT_READ`: what others write is seen, writing here is a fault.
    ReadOnly,
    /// `MAP_PRIVATE | MAP_NORESERVE`, `PROT_READ`: as `ReadOnly`, and should the pages be made
    /// writable later, the writes stay in this process.
    ///
    /// This is not a snapshot: pages not yet written here follow the file.
    PrivateReadOnly,
}

impl Access {
    fn flags(self) -> (ProtFlags, MapFlags) {
        match self {
            Self::ReadWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Self::ReadOnly => (ProtFlags::READ, MapFlags::SHARED),
            Self::PrivateReadOnly => (ProtFlags::READ, MapFlags::PRIVATE | MapFlags::NORESERVE),
        }
    }
}

/// A piece of a file in this process's address space, which unmaps itself when dropped.
///
/// It does so only in the process that made it: a forked child that drops its copy leaves the pages
/// where they are, since objects inherited from the parent may still read them.
///
/// The pointer is valid for [`len`](Self::len) bytes as long as the mapping lives. Other processes
/// may write to the same memory at any time, so Rust references into it must be to atomics, or to
/// bytes that a protocol keeps from being written.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    /// As asked for; the kernel maps whole pages.
    len: usize,
    creator_pid: u32,
}

// SAFETY: The mapping owns its range of addresses and is tied to no thread; munmap may be called
// from any. Who reads or writes through the pointer upholds the rules of memory itself.
unsafe impl Send for Mapping {}
// SAFETY: As above; a shared reference gives nothing but the pointer and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `mmap(NULL, len, prot, flags, fd, offset)`, `madvise(MADV_DONTDUMP)`
    ///
    /// Maps `len` bytes of the file from `offset` on. No mapping enters a core dump, because the
    /// dump would fill every hole of a sparse file.
    ///
    /// A `len` of zero is refused. The caller keeps `offset + len` within the file: to touch a page
    /// beyond its end raises `SIGBUS`.
    ///
    /// # Panics
    ///
    /// Panics if `offset` is no multiple of [`page_size`].
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize, access: Access) -> Result<Self> {
        let page_bytes = page_size();
        assert!(
            offset.is_multiple_of(page_bytes as u64),
            "a mapping begins at {offset}, which is no multiple of the page size {page_bytes}"
        );
        let (protection, flags) = access.flags();
        // SAFETY: The address is null and MAP_FIXED is absent, so the kernel picks a free range and
        // no memory that Rust knows of changes.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, fd, offset) }
            .map_err(Error::of("mmap"))?;
        // Cannot happen: the kernel gives address zero only to who asks for it.
        let start = NonNull::new(start).ok_or(Error::new("mmap", Errno::NOMEM))?;
        // SAFETY: The range was mapped just now, and this advice changes no byte of it.
        // The outcome is ignored: a larger core dump is no reason to fail.
        let _ = unsafe { madvise(start.as_ptr(), len, Advice::LinuxDontDump) };
        Ok(Self { start, len, creator_pid: process::id() })
    }

    /// Returns the address of the first byte.
    ///
    /// Writing through it is a fault unless the access is [`Access::ReadWrite`].
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr().cast()
    }

    /// Returns the number of bytes asked for.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns false: an empty mapping cannot be made.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    /// `munmap(start, len)`
    fn drop(&mut self) {
        if self.creator_pid != process::id() {
            return;
        }
        // SAFETY: `new` mapped exactly this range, nothing else unmaps it, and with the mapping
        // ends the validity of its pointer.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of {self:?} gives {unmapped:?}");
    }
}

/// `sysconf(_SC_PAGESIZE)`
///
/// Returns the number of bytes of a page, a power of two; no system call is made.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// `open("/proc/self/maps")`
///
/// Tells whether a range of addresses is mapped as a whole, privately, and from no file: then nobody
/// but this process's own threads can write to it.
pub fn is_private_anonymous(start: usize, len: usize) -> bool {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return false };
    let end = start.saturating_add(len);
    let mut at = start;
    for line in maps.lines() {
        // "start-end perms offset device inode path", in the order of addresses (proc(5)).
        let mut fields = line.split_ascii_whitespace();
        let Some((from, to)) = fields.next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        else {
            continue;
        };
        if to <= at {
            continue;
        }
        let is_private = fields.next().is_some_and(|perms| perms.ends_with('p'));
        let is_anonymous = fields.nth(2) == Some("0");
        if from > at || !is_private || !is_anonymous {
            return false;
        }
        at = to;
        if at >= end {
            return true;
        }
    }
    false
}
