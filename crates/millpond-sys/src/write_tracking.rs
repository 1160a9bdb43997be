//! Write tracking: the kernel tells whether memory was written since it was last protected.
//!
//! Linux 6.7 and later, without privileges: a `userfaultfd` for user mode only, with asynchronous
//! write protection, lets the first write to a page through and remembers it; the ioctl
//! `PAGEMAP_SCAN` of `/proc/self/pagemap` finds the pages that were so written, by whatever thread,
//! and by the kernel itself (`read(2)` into the memory). A write costs one page fault more, the
//! first time; a scan of 100 MB in which nothing was written takes some tens of microseconds.
//!
//! Nothing is protected anew by a scan: who finds a write lets the range go and, if he likes, tracks
//! it again. So two owners of one range cannot hide writes from each other by their scans, and a
//! range that is tracked a second time ends the first tracking (see [`WriteTracker::track`]).
//!
//! The descriptors speak of the memory of the process that opened them, also in its children. There
//! every range counts as written, and nothing is changed.
//!
//! # What is not seen
//!
//! The writes of one process through its own page tables are seen. So these are not, and memory to
//! which they can happen must be compared:
//! * what others write to a file or to shared memory that is mapped here, and what is written to it
//!   here by another mapping or by `write(2)`: a page that is not a private copy follows its file;
//! * in a private mapping of a file, a page that was written before it was tracked, was then given up
//!   by `MADV_DONTNEED`, and was read again: it is the file's, and still counts as protected;
//! * what a device writes to pages that were pinned before they were tracked and stay so (buffers
//!   registered with `io_uring`, RDMA): it does not use the page tables.
//!
//! None can happen to a block of an allocator that nobody was lent for such a purpose.
//!
//! Source: `include/uapi/linux/userfaultfd.h` of Linux 6.7.
#![allow(unsafe_code, reason = "userfaultfd, its ioctls and msync have no safe wrapper")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::ioctl::{self, Opcode, Updater};
use rustix::mm::{MsyncFlags, UserfaultfdFlags, msync};

use crate::mapping::page_size;
use crate::pagemap::{Pagemap, Query, Region, category};
use crate::{Error, Result};

/// Tracks writes to memory of this process.
#[derive(Debug)]
pub struct WriteTracker {
    uffd: OwnedFd,
    /// Knows whether this is the process whose memory both descriptors speak of.
    pagemap: Pagemap,
    /// Ranges that are tracked: start and end address, and the flag that ends a tracking. Ranges are
    /// registered, protected and unregistered under the lock. A protection that came late would hide
    /// what was written since another tracking of the same pages began.
    tracked: Mutex<Vec<(usize, usize, Arc<AtomicBool>)>>,
}

/// Whether anybody may drop pages of the memory behind its owner's back (`MADV_DONTNEED`), after
/// which they read as zeros though nobody wrote them. An allocator never does so to a block that is
/// in use; a program may do it to a mapping of its own. To look for dropped pages makes a scan three
/// times as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drops {
    /// The memory is a block of an allocator.
    Never,
    /// It may be anything.
    Possible,
}

/// A range of whole pages whose writes are tracked, until this is dropped.
#[derive(Debug)]
pub struct Tracked {
    tracker: Arc<WriteTracker>,
    start: usize,
    end: usize,
    drops: Drops,
    /// Set when another tracking of these pages has protected them anew.
    is_lost: Arc<AtomicBool>,
}

impl WriteTracker {
    /// `userfaultfd(UFFD_USER_MODE_ONLY)`, `ioctl(UFFDIO_API)`
    ///
    /// Opens what tracking needs, and proves with a page of its own that a write is seen.
    ///
    /// # Errors
    /// If this kernel or sandbox lacks or denies any of it, down to a `/proc` that is not there.
    /// Whatever the error is, compare.
    pub fn new() -> Result<Arc<Self>> {
        const OPERATION: &str = "userfaultfd";
        // User mode only is what needs no privileges: faults of the kernel's own are not reported.
        // That takes nothing away here, as asynchronous protection reports none at all.
        let flags = UserfaultfdFlags::CLOEXEC
            | UserfaultfdFlags::NONBLOCK
            | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
        // SAFETY: the descriptor is used below for write protection alone, which changes no memory's
        // content and makes no thread wait.
        let uffd = unsafe { rustix::mm::userfaultfd(flags) }.map_err(Error::of(OPERATION))?;
        let features = FEATURE_PAGEFAULT_FLAG_WP
            | FEATURE_WP_HUGETLBFS_SHMEM
            | FEATURE_WP_UNPOPULATED
            | FEATURE_WP_ASYNC;
        let mut api = UffdApi { api: UFFD_API, features, ioctls: 0 };
        // SAFETY: the opcode takes a `struct uffdio_api`, which the kernel reads and writes.
        unsafe { ioctl::ioctl(&uffd, Updater::<UFFDIO_API, _>::new(&mut api)) }
            .map_err(Error::of("ioctl(UFFDIO_API)"))?;
        if api.features & features != features {
            return Err(Error::new(OPERATION, Errno::OPNOTSUPP));
        }
        let pagemap = Pagemap::open()?;
        let tracker = Arc::new(Self { uffd, pagemap, tracked: Mutex::default() });
        tracker.prove()?;
        Ok(tracker)
    }

    /// Tells whether this is the process whose memory is tracked, and not a child of it.
    pub fn is_here(&self) -> bool {
        self.pagemap.is_here()
    }

    /// Tracks a page, writes it, and looks.
    fn prove(self: &Arc<Self>) -> Result<()> {
        let page = page_size();
        let mut memory = vec![1_u8; 3 * page];
        let start = memory.as_mut_ptr().addr().next_multiple_of(page);
        let tracked = self.track(start, page, Drops::Never)?;
        let is_quiet = !tracked.is_written();
        let at = start - memory.as_ptr().addr();
        // SAFETY: the offset is within the vector; a plain store could be left out.
        unsafe { memory.as_mut_ptr().add(at).write_volatile(2) };
        if is_quiet && tracked.is_written() {
            Ok(())
        } else {
            Err(Error::new("write tracking", Errno::OPNOTSUPP))
        }
    }

    /// `ioctl(UFFDIO_REGISTER)`, `ioctl(PAGEMAP_SCAN)`
    ///
    /// Tracks writes to the whole pages in `len` bytes at the address `start`: from the return of
    /// this call on, every write is seen by a later [`Tracked::is_written`]. So protect first and
    /// read the content after. What lies on the partial pages at both ends is the caller's to
    /// compare; [`Tracked::start`] and [`Tracked::end`] tell what is tracked. Earlier trackings of
    /// any of the pages end: they count as written from here on.
    ///
    /// The memory is only protected, never read or changed, so any address may be given.
    ///
    /// # Errors
    /// If there is no whole page in the range, or it is not memory that can be tracked.
    pub fn track(self: &Arc<Self>, start: usize, len: usize, drops: Drops) -> Result<Tracked> {
        const OPERATION: &str = "ioctl(UFFDIO_REGISTER)";
        let page = page_size();
        let end = start.checked_add(len).ok_or(Error::new(OPERATION, Errno::INVAL))?;
        let start = start.checked_next_multiple_of(page);
        let start = start.ok_or(Error::new(OPERATION, Errno::INVAL))?;
        let end = end / page * page;
        if start >= end || !self.is_here() {
            return Err(Error::new(OPERATION, Errno::INVAL));
        }
        let mut all = self.lock();
        for (other_start, other_end, is_lost) in &*all {
            if *other_start < end && start < *other_end {
                is_lost.store(true, Ordering::Release);
            }
        }
        let mut register = UffdRegister {
            range: UffdRange { start: start as u64, len: (end - start) as u64 },
            mode: REGISTER_MODE_WP,
            ioctls: 0,
        };
        // SAFETY: the opcode takes a `struct uffdio_register`. The call changes no content: it marks
        // the range for write protection, which the kernel itself lifts at a write.
        unsafe { ioctl::ioctl(&self.uffd, Updater::<UFFDIO_REGISTER, _>::new(&mut register)) }
            .map_err(Error::of(OPERATION))?;
        let protect = Query {
            start,
            end,
            all_of: category::WRITTEN,
            protects: true,
            checks_tracking: true,
            ..Query::default()
        };
        if let Err(error) = self.pagemap.scan(&protect, &mut []) {
            self.unregister(start, end);
            return Err(error);
        }
        let is_lost = Arc::new(AtomicBool::new(false));
        all.push((start, end, Arc::clone(&is_lost)));
        Ok(Tracked { tracker: Arc::clone(self), start, end, drops, is_lost })
    }

    /// `ioctl(UFFDIO_UNREGISTER)`
    ///
    /// The caller holds the lock, and has seen that the pages are no living tracking's.
    fn unregister(&self, start: usize, end: usize) {
        let mut range = UffdRange { start: start as u64, len: (end - start) as u64 };
        // Where the memory has gone meanwhile this fails, and nothing is left to be undone.
        // SAFETY: the opcode takes a `struct uffdio_range`; the call changes no content.
        let _ =
            unsafe { ioctl::ioctl(&self.uffd, Updater::<UFFDIO_UNREGISTER, _>::new(&mut range)) };
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, usize, Arc<AtomicBool>)>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// Returns the address of the first byte that is tracked.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Returns the address after the last byte that is tracked.
    pub fn end(&self) -> usize {
        self.end
    }

    /// `msync(MS_ASYNC)`, `ioctl(PAGEMAP_SCAN)`
    ///
    /// Tells whether any page may have been written since [`WriteTracker::track`]: it was, it is no
    /// longer there, the range is no longer tracked, or the kernel cannot tell. A write that was
    /// done before this call is seen by it.
    pub fn is_written(&self) -> bool {
        // Another tracking may begin at any moment and protect anew what was written. It says so
        // before: what hides a write from the scan is seen by the look that follows the scan. The
        // look before it saves a useless scan.
        self.is_lost() || self.is_somewhere_unmapped() || self.is_found_written() || self.is_lost()
    }

    fn is_lost(&self) -> bool {
        !self.tracker.is_here() || self.is_lost.load(Ordering::Acquire)
    }

    /// The scan passes over what is not mapped. The other call does nothing with these flags, since
    /// Linux 2.6.19, but look at the mappings, and fails at a hole.
    fn is_somewhere_unmapped(&self) -> bool {
        let start = std::ptr::without_provenance_mut(self.start);
        // SAFETY: nothing is written, neither to memory nor to a file.
        unsafe { msync(start, self.end - self.start, MsyncFlags::ASYNC) }.is_err()
    }

    fn is_found_written(&self) -> bool {
        let mut query = Query {
            start: self.start,
            end: self.end,
            pages_max: 1,
            checks_tracking: true,
            ..Query::default()
        };
        match self.drops {
            Drops::Never => query.all_of = category::WRITTEN,
            // What is not present counts as written: pages in swap too, though these are as they were.
            Drops::Possible => {
                query.inverted = category::PRESENT;
                query.any_of = category::WRITTEN | category::PRESENT;
            }
        }
        let found = self.tracker.pagemap.scan(&query, &mut [Region::default()]);
        !found.is_ok_and(|scanned| scanned.regions == 0 && scanned.end == self.end)
    }
}

impl Drop for Tracked {
    /// `ioctl(UFFDIO_UNREGISTER)`
    fn drop(&mut self) {
        if !self.tracker.is_here() {
            return;
        }
        let mut all = self.tracker.lock();
        all.retain(|(_, _, flag)| !Arc::ptr_eq(flag, &self.is_lost));
        // If it is lost, some of the pages are another tracking's by now. The rest stays registered
        // until its memory goes, which costs at most one fault for each page.
        if !self.is_lost() {
            self.tracker.unregister(self.start, self.end);
        }
    }
}

const UFFD_USER_MODE_ONLY: u32 = 1;
const UFFD_API: u64 = 0xaa;
const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 1 << 1;

const UFFDIO_API: Opcode = ioctl::opcode::read_write::<UffdApi>(0xaa, 0x3f);
const UFFDIO_REGISTER: Opcode = ioctl::opcode::read_write::<UffdRegister>(0xaa, 0x00);
const UFFDIO_UNREGISTER: Opcode = ioctl::opcode::read::<UffdRange>(0xaa, 0x01);

/// `struct uffdio_api`
#[repr(C)]
struct UffdApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_range`
#[repr(C)]
struct UffdRange {
    start: u64,
    len: u64,
}

/// `struct uffdio_register`
#[repr(C)]
struct UffdRegister {
    range: UffdRange,
    mode: u64,
    ioctls: u64,
}
