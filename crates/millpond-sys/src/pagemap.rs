#![allow(unsafe_code, reason = "PAGEMAP_SCAN has no safe wrapper")]
//! What the kernel tells of each page of this process: `/proc/self/pagemap`.
//!
//! Two ways lead to it: the ioctl `PAGEMAP_SCAN` (Linux 6.7) gives the ranges of pages that a
//! [`Query`] asks for; `read(2)` gives one word for each page, on any kernel.
//!
//! The descriptor speaks of the memory of the process that opened it, also in that process's forked
//! children, at the same addresses. So there every question is refused.
//!
//! Sources: `include/uapi/linux/fs.h` and `Documentation/admin-guide/mm/pagemap.rst` of Linux 6.7.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

use crate::birthmark::Birthmark;
use crate::mapping::page_size;
use crate::{Error, Result};

const SCAN: &str = "ioctl(PAGEMAP_SCAN)";
const READ: &str = "read(/proc/self/pagemap)";

/// What a page can be: one bit each, `PAGE_IS_...` in C.
pub mod category {
    /// Written since it was last protected; where nothing is tracked, always.
    pub const WRITTEN: u64 = 1 << 1;
    /// Of a file or of shared memory, and not a private copy.
    pub const FILE: u64 = 1 << 2;
    /// In memory, and mapped.
    pub const PRESENT: u64 = 1 << 3;
    /// In swap, or on its way from one place in memory to another.
    pub const SWAPPED: u64 = 1 << 4;
}

/// The page is in memory, and mapped: a bit of the words that [`Pagemap::words`] gives.
pub const WORD_PRESENT: u64 = 1 << 63;
/// The page is in swap, or on its way from one place in memory to another.
pub const WORD_SWAPPED: u64 = 1 << 62;
/// The page is of a file or of shared memory, and not a private copy.
pub const WORD_FILE: u64 = 1 << 61;

/// The pages that a scan is to find, and what it does with them.
///
/// Bits of `inverted` are turned over first. Then a page is found if it has all bits of `all_of`,
/// and one bit of `any_of` unless that is zero.
#[derive(Clone, Copy, Default, Debug)]
pub struct Query {
    /// Address of the first page.
    pub start: usize,
    /// Address after the last page.
    pub end: usize,
    /// Categories whose absence is asked for.
    pub inverted: u64,
    /// Categories that a page must have.
    pub all_of: u64,
    /// Categories of which a page must have one.
    pub any_of: u64,
    /// The scan ends when so many pages are found; zero is no limit.
    pub pages_max: u64,
    /// `PM_SCAN_WP_MATCHING`: what is found is protected against writing.
    pub protects: bool,
    /// `PM_SCAN_CHECK_WPASYNC`: fails with `EPERM` where writes are not tracked.
    pub checks_tracking: bool,
}

/// Pages that lie side by side: a range of addresses.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Region {
    /// Address of the first byte.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Some of what the pages are.
    categories: u64,
}

/// How far a scan came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// Regions that were written to the caller's array.
    pub regions: usize,
    /// Where it ended: the end of the query, or earlier if the array or `pages_max` was full.
    pub end: usize,
}

/// This process's `/proc/self/pagemap`.
#[derive(Debug)]
pub struct Pagemap {
    file: OwnedFd,
    birthmark: Birthmark,
}

impl Pagemap {
    /// `open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)`
    ///
    /// # Errors
    /// If there is no `/proc`, or a sandbox denies it.
    pub fn open() -> Result<Self> {
        let birthmark = Birthmark::new()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| open("/proc/self/pagemap", flags, Mode::empty()))
            .map_err(Error::of("open(/proc/self/pagemap)"))?;
        Ok(Self { file, birthmark })
    }

    /// Tells whether this is the process whose memory is meant, and not a child of it.
    pub fn is_here(&self) -> bool {
        self.birthmark.is_here()
    }

    fn require_here(&self, operation: &'static str) -> Result<()> {
        if self.is_here() { Ok(()) } else { Err(Error::new(operation, Errno::SRCH)) }
    }

    /// `ioctl(PAGEMAP_SCAN)`
    ///
    /// Writes the regions that the query asks for to `found`, in order of their addresses, until one
    /// more has no room. With no room at all it only protects. Addresses at which nothing is mapped
    /// are passed over in silence.
    ///
    /// # Errors
    /// In a forked child; where the kernel has no such call (`ENOTTY`); if tracking is checked and a
    /// mapping in the range is not tracked (`EPERM`).
    pub fn scan(&self, query: &Query, found: &mut [Region]) -> Result<Scanned> {
        self.require_here(SCAN)?;
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: u64::from(query.protects) | u64::from(query.checks_tracking) << 1,
            start: query.start as u64,
            end: query.end as u64,
            walk_end: 0,
            vec: if found.is_empty() { 0 } else { found.as_mut_ptr().expose_provenance() as u64 },
            vec_len: found.len() as u64,
            max_pages: query.pages_max,
            category_inverted: query.inverted,
            category_mask: query.all_of,
            category_anyof_mask: query.any_of,
            // The kernel wants one; and that it is the only category in question makes the scan for
            // written pages three times as fast.
            return_mask: category::WRITTEN,
        };
        // SAFETY: the argument is a `struct pm_scan_arg` whose array is the caller's, of the length
        // that is said, and borrowed for the call. Protection changes no content.
        let regions =
            unsafe { ioctl::ioctl(self.file.as_fd(), Scan(&mut arg)) }.map_err(Error::of(SCAN))?;
        Ok(Scanned {
            regions: usize::try_from(regions).unwrap_or_default().min(found.len()),
            end: usize::try_from(arg.walk_end).unwrap_or_default(),
        })
    }

    /// `pread(fd, words, 8 * pages, 8 * page)`
    ///
    /// Fills `words` with one word for each page from the address `start` on. Where nothing is
    /// mapped it is zero.
    ///
    /// # Errors
    /// In a forked child, and beyond the end of the address space.
    pub fn words(&self, start: usize, words: &mut [u64]) -> Result<()> {
        self.require_here(READ)?;
        let mut at = (start / page_size()) as u64 * 8;
        let mut read = 0;
        let mut bytes = [0; 4096];
        while read < words.len() {
            let wanted = (8 * (words.len() - read)).min(bytes.len());
            let got = retry_on_intr(|| pread(&self.file, &mut bytes[..wanted], at))
                .map_err(Error::of(READ))?;
            if got < 8 {
                return Err(Error::new(READ, Errno::NODATA));
            }
            for (word, bytes) in words[read..].iter_mut().zip(bytes[..got].chunks_exact(8)) {
                *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
            }
            read += got / 8;
            at += got as u64 / 8 * 8;
        }
        Ok(())
    }
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

/// The ioctl, whose return value is wanted.
struct Scan<'a>(&'a mut ScanArg);

// SAFETY: the opcode is the one of `struct pm_scan_arg`, which the pointer points to, and which the
// kernel may change.
unsafe impl Ioctl for Scan<'_> {
    type Output = i32;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        ioctl::opcode::read_write::<ScanArg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(out)
    }
}
