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
//! What others write to a file or to shared memory that is mapped here is not seen, nor is what a
//! device writes to pages that were pinned before (`io_uring` buffers, RDMA): none of it uses this
//! process's page tables. None of it happens to a block of an allocator.
//!
//! The descriptors speak of the memory of the process that opened them, also in its children. There
//! every range counts as written, and nothing is changed.
//!
//! Sources: `include/uapi/linux/userfaultfd.h`, `include/uapi/linux/fs.h` and
//! `Documentation/admin-guide/mm/pagemap.rst` of Linux 6.7.
#![allow(unsafe_code, reason = "userfaultfd and two ioctls have no safe wrapper")]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode, Updater};
use rustix::mm::UserfaultfdFlags;

use crate::mapping::page_size;
use crate::{Error, Result, process};

/// Tracks writes to memory of this process.
#[derive(Debug)]
pub struct WriteTracker {
    uffd: OwnedFd,
    pagemap: OwnedFd,
    /// Ranges that are tracked: start and end address, and the flag that ends a tracking.
    tracked: Mutex<Vec<(usize, usize, Arc<AtomicBool>)>>,
    maker: u32,
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
    /// If this kernel or sandbox lacks or denies it; see [`Error::is_not_supported`].
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
        let pagemap = File::open("/proc/self/pagemap")
            .map_err(|error| Error::new("open(/proc/self/pagemap)", errno_of(&error)))?
            .into();
        let tracker =
            Arc::new(Self { uffd, pagemap, tracked: Mutex::default(), maker: process::id() });
        tracker.prove()?;
        Ok(tracker)
    }

    /// Tells whether this is the process whose memory is tracked, and not a child of it.
    pub fn is_here(&self) -> bool {
        self.maker == process::id()
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
        let is_lost = Arc::new(AtomicBool::new(false));
        let mut all = self.lock();
        for (other_start, other_end, is_lost) in &*all {
            if *other_start < end && start < *other_end {
                is_lost.store(true, Ordering::Relaxed);
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
        let tracked = Tracked { tracker: Arc::clone(self), start, end, drops, is_lost };
        all.push((start, end, Arc::clone(&tracked.is_lost)));
        let mut protect = ScanArg::new(start, end, SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC);
        protect.category_mask = PAGE_IS_WRITTEN;
        protect.return_mask = PAGE_IS_WRITTEN;
        // Under the lock: a protection that came late would hide what was written since another
        // tracking of the same pages began.
        let protected = self.scan(protect);
        drop(all);
        protected?;
        Ok(tracked)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, usize, Arc<AtomicBool>)>> {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of regions found.
    fn scan(&self, arg: ScanArg) -> Result<i32> {
        // SAFETY: `Scan` passes a `struct pm_scan_arg` whose vector is empty or a local of the caller
        // of the length that is said.
        unsafe { ioctl::ioctl(self.pagemap.as_fd(), Scan(arg)) }
            .map_err(Error::of("ioctl(PAGEMAP_SCAN)"))
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

    /// `ioctl(PAGEMAP_SCAN)`
    ///
    /// Tells whether any page may have been written since [`WriteTracker::track`]: it was, it is no
    /// longer there, the range is no longer tracked, or the kernel cannot tell.
    ///
    /// The caller knows that the range is mapped now, because an object that is alive lies in it: a
    /// hole where memory was says nothing.
    pub fn is_written(&self) -> bool {
        if self.is_lost.load(Ordering::Relaxed) || !self.tracker.is_here() {
            return true;
        }
        let mut found = [ScanRegion::default()];
        let mut arg = ScanArg::new(self.start, self.end, SCAN_CHECK_WPASYNC);
        arg.vec = found.as_mut_ptr().addr() as u64;
        arg.vec_len = 1;
        arg.max_pages = 1;
        match self.drops {
            Drops::Never => arg.category_mask = PAGE_IS_WRITTEN,
            // What is not present counts as written: pages in swap too, though these are as they were.
            Drops::Possible => {
                arg.category_inverted = PAGE_IS_PRESENT;
                arg.category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT;
            }
        }
        arg.return_mask = PAGE_IS_WRITTEN;
        !matches!(self.tracker.scan(arg), Ok(0))
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
        if self.is_lost.load(Ordering::Relaxed) {
            // The pages, or some of them, are another tracking's by now. The rest stays registered
            // until its memory goes, which costs at most one fault for each page.
            return;
        }
        let mut rest = UffdRange { start: self.start as u64, len: (self.end - self.start) as u64 };
        // Where the memory has gone meanwhile this fails, and nothing is left to be undone.
        // SAFETY: the opcode takes a `struct uffdio_range`; the call changes no content.
        let _ = unsafe {
            ioctl::ioctl(&self.tracker.uffd, Updater::<UFFDIO_UNREGISTER, _>::new(&mut rest))
        };
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
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
const PAGEMAP_SCAN: Opcode = ioctl::opcode::read_write::<ScanArg>(b'f', 16);

const SCAN_WP_MATCHING: u64 = 1 << 0;
const SCAN_CHECK_WPASYNC: u64 = 1 << 1;
const PAGE_IS_WRITTEN: u64 = 1 << 1;
const PAGE_IS_PRESENT: u64 = 1 << 3;

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

/// `struct pm_scan_arg`
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

impl ScanArg {
    fn new(start: usize, end: usize, flags: u64) -> Self {
        Self {
            size: size_of::<Self>() as u64,
            flags,
            start: start as u64,
            end: end as u64,
            walk_end: 0,
            vec: 0,
            vec_len: 0,
            max_pages: 0,
            category_inverted: 0,
            category_mask: 0,
            category_anyof_mask: 0,
            return_mask: 0,
        }
    }
}

/// `struct page_region`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ScanRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// The ioctl, whose return value is wanted.
struct Scan(ScanArg);

// SAFETY: the opcode is the one of `struct pm_scan_arg`, which the pointer points to, and which the
// kernel may change.
unsafe impl Ioctl for Scan {
    type Output = i32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(out)
    }
}
