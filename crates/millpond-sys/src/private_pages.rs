#![allow(unsafe_code, reason = "madvise gives pages up")]
//! The private copies of pages in a `MAP_PRIVATE` mapping of a file: which there are, and how the
//! mapping becomes the file's again.
//!
//! A page that was written is present **or swapped**, and no longer the file's. To look for presence
//! alone overlooks copies in swap, and copies on their way from one place in memory to another,
//! which happens without any swap.

use std::fmt;
use std::ops::Range;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::mapping::page_size;
use crate::pagemap::{Pagemap, Query, Region, WORD_FILE, WORD_PRESENT, WORD_SWAPPED, category};
use crate::{Error, Result};

/// How private copies are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the ioctl `PAGEMAP_SCAN`, on Linux 6.7 and later.
    Scan,
    /// By the words of `/proc/self/pagemap`, one for each page.
    Words,
    /// Not at all: every page counts as a copy.
    All,
}

/// Finds private copies of pages, and gives them up.
///
/// In a forked child of its maker every page counts as a copy, because the descriptor speaks of the
/// parent's pages there. So a worker makes its own.
pub struct PrivatePages {
    /// None with [`Way::All`].
    pagemap: Option<Pagemap>,
    way: Way,
}

impl PrivatePages {
    /// Takes the first way that this kernel and sandbox allow.
    pub fn new() -> Self {
        [Way::Scan, Way::Words]
            .into_iter()
            .find_map(|way| Self::by(way).ok())
            .unwrap_or(Self { pagemap: None, way: Way::All })
    }

    /// Takes this way.
    ///
    /// # Errors
    /// If this kernel or sandbox lacks or denies it. [`Way::All`] is always there.
    pub fn by(way: Way) -> Result<Self> {
        let pagemap = match way {
            Way::All => None,
            Way::Scan | Way::Words => Some(Pagemap::open()?),
        };
        let pages = Self { pagemap, way };
        // One page of this process's own: the descriptor may open and its calls be denied.
        let here = (&raw const pages).addr() / page_size() * page_size();
        pages.look(here, here + page_size(), &mut |_| ())?;
        Ok(pages)
    }

    /// Returns how copies are found.
    pub fn way(&self) -> Way {
        self.way
    }

    /// `ioctl(PAGEMAP_SCAN)`, or `pread(fd, words, 8 * pages, 8 * page)`
    ///
    /// Returns the ranges of addresses of private copies in the `len` bytes from `start` on, in
    /// their order; whole pages. Where the kernel does not tell, this is the whole range.
    ///
    /// # Errors
    /// If `start` is not the beginning of a page, or the range goes beyond the address space.
    pub fn find(&self, start: usize, len: usize) -> Result<Vec<Range<usize>>> {
        let end = end_of(start, len)?;
        let mut found: Vec<Range<usize>> = Vec::new();
        let looked = self.look(start, end, &mut |range| match found.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => found.push(range),
        });
        Ok(if looked.is_ok() { found } else { whole(start, end).into_iter().collect() })
    }

    /// `madvise(MADV_DONTNEED)` of what [`PrivatePages::find`] finds
    ///
    /// Gives the private copies up, so that the range reads as the file does, and returns the number
    /// of pages that were given up. Pages that were never written stay mapped.
    ///
    /// # Errors
    /// As of `find`; and with `EINVAL` if the memory is locked (`mlock`, `mlockall`), `ENOMEM` if
    /// some of it is not mapped. Some copies may have been given up then: map the file anew.
    ///
    /// # Safety
    /// The range is a private mapping of a file, and its content may change: no reference to it
    /// exists, nothing but the caller uses it, and no other thread writes it meanwhile. (In
    /// anonymous memory what is given up reads as zeros.)
    pub unsafe fn reset(&self, start: usize, len: usize) -> Result<usize> {
        let mut given_up = 0;
        for range in self.find(start, len)? {
            let pages = range.end - range.start;
            let at = std::ptr::with_exposed_provenance_mut(range.start);
            // SAFETY: the range lies in the caller's, of whose content he says that it may change.
            unsafe { madvise(at, pages, Advice::LinuxDontNeed) }
                .map_err(Error::of("madvise(MADV_DONTNEED)"))?;
            given_up += pages / page_size();
        }
        Ok(given_up)
    }

    fn look(&self, start: usize, end: usize, found: &mut dyn FnMut(Range<usize>)) -> Result<()> {
        match (self.way, &self.pagemap) {
            (Way::Scan, Some(pagemap)) => scan(pagemap, start, end, found),
            (Way::Words, Some(pagemap)) => read(pagemap, start, end, found),
            _ => {
                whole(start, end).into_iter().for_each(found);
                Ok(())
            }
        }
    }
}

impl Default for PrivatePages {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PrivatePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivatePages").field("way", &self.way).finish_non_exhaustive()
    }
}

/// Returns the end of the last page of the range.
fn end_of(start: usize, len: usize) -> Result<usize> {
    let end = start.checked_add(len).and_then(|end| end.checked_next_multiple_of(page_size()));
    match end {
        Some(end) if start.is_multiple_of(page_size()) => Ok(end),
        _ => Err(Error::new("a range of pages", Errno::INVAL)),
    }
}

fn whole(start: usize, end: usize) -> Option<Range<usize>> {
    (start < end).then_some(start..end)
}

fn scan(
    pagemap: &Pagemap,
    start: usize,
    end: usize,
    found: &mut dyn FnMut(Range<usize>),
) -> Result<()> {
    let mut regions = [Region::default(); 64];
    let mut query = Query {
        start,
        end,
        inverted: category::FILE,
        all_of: category::FILE,
        any_of: category::PRESENT | category::SWAPPED,
        ..Query::default()
    };
    while query.start < end {
        let scanned = pagemap.scan(&query, &mut regions)?;
        for region in &regions[..scanned.regions] {
            found(region.start as usize..region.end as usize);
        }
        // A scan that comes no further would be one for ever.
        if scanned.end <= query.start {
            return Err(Error::new("ioctl(PAGEMAP_SCAN)", Errno::IO));
        }
        query.start = scanned.end;
    }
    Ok(())
}

fn read(
    pagemap: &Pagemap,
    start: usize,
    end: usize,
    found: &mut dyn FnMut(Range<usize>),
) -> Result<()> {
    let mut words = [0; 512];
    let mut at = start;
    while at < end {
        let pages = ((end - at) / page_size()).min(words.len());
        pagemap.words(at, &mut words[..pages])?;
        for word in &words[..pages] {
            if word & (WORD_PRESENT | WORD_SWAPPED) != 0 && word & WORD_FILE == 0 {
                found(at..at + page_size());
            }
            at += page_size();
        }
    }
    Ok(())
}
