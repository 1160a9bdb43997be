#![allow(unsafe_code, reason = "mmap, munmap, and the first write to a page")]
//! A private, writable copy of a piece of a file, which costs nothing until it is written.
//!
//! `MAP_PRIVATE` is no snapshot: a page that was not yet written here follows the file. So whoever
//! owns the file leaves the piece alone as long as a copy of it lives. In a forked child it lives on
//! without anybody knowing; therefore all copies of a process are completed before it forks: each page
//! gets a write that changes nothing, after which it is this process's own, and the child's.
//!
//! That is done by handlers of `pthread_atfork(3)`, which every fork runs but `vfork`, whose child
//! uses no memory of its own, and a bare `clone`.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::file_range::punch_hole;
use crate::mapping::page_size;
use crate::private_pages::PrivatePages;
use crate::{Error, Result};

/// What becomes of the file's own bytes when a fork has completed the copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Original {
    /// Others may read them.
    Stays,
    /// The copy is their only reader: their memory is given back.
    GoesAtFork,
}

/// A private, writable copy of a piece of a file, with a page in front of it that is no part of the
/// file.
#[derive(Debug)]
pub struct PrivateCopy {
    start: NonNull<c_void>,
    /// Bytes of the copy, without the front page.
    len: usize,
    file: Arc<OwnedFd>,
    offset: u64,
    original: Original,
    /// How many forks lie between this process and the first one when the copy was made.
    generation: u64,
}

// SAFETY: the copy owns its range of addresses and is tied to no thread. Who reads or writes through
// its pointer upholds the rules of memory itself.
unsafe impl Send for PrivateCopy {}
// SAFETY: as above; a shared reference gives nothing but the pointer and the length.
unsafe impl Sync for PrivateCopy {}

/// A copy of which some pages may follow the file.
struct Incomplete {
    start: usize,
    len: usize,
    /// The file's descriptor, which the copy keeps open, and the offset in it, if the original goes.
    original: Option<(RawFd, u64)>,
}

/// All copies of this process of which some pages may follow their file.
static INCOMPLETE: Mutex<Vec<Incomplete>> = Mutex::new(Vec::new());

/// Counts the forks that led to this process, in the child alone.
static GENERATION: AtomicU64 = AtomicU64::new(0);

fn incomplete() -> MutexGuard<'static, Vec<Incomplete>> {
    INCOMPLETE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PrivateCopy {
    /// `mmap(MAP_PRIVATE | MAP_ANONYMOUS)`, `mmap(MAP_PRIVATE | MAP_FIXED, fd, offset)`
    ///
    /// Maps `len` bytes of the file from `offset` on, behind a page that is all zero.
    ///
    /// The caller keeps `offset + len` within the file, and sees to it that nobody changes that piece
    /// of it while the copy lives.
    ///
    /// # Errors
    /// If `len` is 0, or the kernel denies the mapping.
    ///
    /// # Panics
    /// If `offset` is no multiple of [`page_size`].
    pub fn new(file: &Arc<OwnedFd>, offset: u64, len: usize, original: Original) -> Result<Self> {
        let page = page_size();
        assert!(offset.is_multiple_of(page as u64), "a copy begins on a page, and not at {offset}");
        let whole = len.checked_add(page).ok_or(Error::new("mmap", Errno::NOMEM))?;
        if len == 0 {
            return Err(Error::new("mmap", Errno::INVAL));
        }
        watch_forks()?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the address is null and MAP_FIXED is absent, so no memory that is in use changes.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), whole, protection, flags) }
            .map_err(Error::of("mmap"))?;
        let start = NonNull::new(start).ok_or(Error::new("mmap", Errno::NOMEM))?;
        let copy = Self {
            start,
            len,
            file: Arc::clone(file),
            offset,
            original,
            generation: GENERATION.load(Ordering::Relaxed),
        };
        // Under the lock no fork begins: what one completes is what is on the list.
        let mut all = incomplete();
        // SAFETY: the target lies in the range that was mapped just now and that nobody else knows.
        let placed = unsafe {
            mmap(
                copy.as_ptr().cast(),
                len,
                protection,
                flags | MapFlags::FIXED,
                file.as_fd(),
                offset,
            )
        };
        if placed.is_ok() {
            copy.list(&mut all);
        }
        drop(all);
        placed.map_err(Error::of("mmap"))?;
        // SAFETY: the range was mapped just now, and this advice changes no byte of it. The outcome is
        // ignored: a larger core dump is no reason to fail.
        let _ = unsafe { madvise(start.as_ptr(), whole, Advice::LinuxDontDump) };
        Ok(copy)
    }

    /// Returns the address of the copy's first byte; the byte before it is the last of the front page.
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: the front page and the copy are one range of addresses.
        unsafe { self.start.as_ptr().cast::<u8>().add(page_size()) }
    }

    /// Returns the number of bytes, without the front page.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns false: an empty copy cannot be made.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the file and the offset in it.
    pub fn original(&self) -> (BorrowedFd<'_>, u64) {
        (self.file.as_fd(), self.offset)
    }

    /// Tells whether this is the process that made the copy, and not a child of it.
    pub fn is_here(&self) -> bool {
        self.generation == GENERATION.load(Ordering::Relaxed)
    }

    /// `madvise(MADV_DONTNEED)` of what was written
    ///
    /// Makes the copy what the file is again. The front page stays as it is.
    ///
    /// # Errors
    /// If the memory is locked, or this is a forked child. The copy is then of no use.
    ///
    /// # Safety
    /// The content may change: there is no reference to it, and nobody writes it meanwhile.
    pub unsafe fn reset(&self, pages: &PrivatePages) -> Result<()> {
        if !self.is_here() || self.original == Original::GoesAtFork {
            return Err(Error::new("madvise(MADV_DONTNEED)", Errno::INVAL));
        }
        // From here on its pages may follow the file again. Under the lock no fork begins.
        let mut all = incomplete();
        self.list(&mut all);
        // SAFETY: the range is a private mapping of a file; the rest is the caller's duty.
        unsafe { pages.reset(self.as_ptr().addr(), self.len) }.map(drop)
    }

    /// The first write to each page, which changes nothing
    ///
    /// Makes every page this process's own: from here on the copy no longer follows the file, of which
    /// anybody may do what he likes with the piece.
    pub fn complete(&self) {
        if !self.is_here() {
            return;
        }
        let mut all = incomplete();
        let start = self.as_ptr().addr();
        if let Some(at) = all.iter().position(|known| known.start == start) {
            all.swap_remove(at);
            touch(start, self.len);
        }
    }

    /// Tells whether no page follows the file any more.
    pub fn is_complete(&self) -> bool {
        let start = self.as_ptr().addr();
        !incomplete().iter().any(|known| known.start == start)
    }

    fn list(&self, all: &mut Vec<Incomplete>) {
        let start = self.as_ptr().addr();
        if all.iter().all(|known| known.start != start) {
            let original = (self.original == Original::GoesAtFork)
                .then(|| (self.file.as_raw_fd(), self.offset));
            all.push(Incomplete { start, len: self.len, original });
        }
    }
}

impl Drop for PrivateCopy {
    /// `munmap(start, len)`
    ///
    /// Only in the process that made it: a forked child may go on reading.
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        incomplete().retain(|known| known.start != self.as_ptr().addr());
        // SAFETY: `new` mapped exactly this range, nothing else unmaps it, and with the copy ends the
        // validity of its pointer.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.len + page_size()) };
        debug_assert!(unmapped.is_ok(), "munmap of {self:?} gives {unmapped:?}");
    }
}

/// Writes to each page, and changes nothing. The range is a copy that was on the list when the caller
/// took the lock, which he still holds.
fn touch(start: usize, len: usize) {
    for at in (start..start + len).step_by(page_size()) {
        let byte: *mut u8 = ptr::with_exposed_provenance_mut(at);
        // SAFETY: what is on the list is mapped for reading and writing; it is taken off, under the
        // lock, before it is unmapped. Whoever else writes the byte at this moment writes the same page,
        // so that this exchange, which changes nothing, may fail.
        let byte = unsafe { AtomicU8::from_ptr(byte) };
        let value = byte.load(Ordering::Relaxed);
        let _ = byte.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The lock on the list, from before a fork until after it: in parent and child it is given back by
/// the thread that took it.
static HELD: Held = Held(std::cell::UnsafeCell::new(None));

struct Held(std::cell::UnsafeCell<Option<MutexGuard<'static, Vec<Incomplete>>>>);

// SAFETY: only the handlers below touch it, and only in the thread that holds the lock in it: from
// when it has got the lock until it gives it back.
unsafe impl Sync for Held {}

/// `pthread_atfork(before, after_in_parent, after_in_child)`
fn watch_forks() -> Result<()> {
    static ONCE: Once = Once::new();
    static OUTCOME: AtomicU8 = AtomicU8::new(0);
    ONCE.call_once(|| {
        // SAFETY: the handlers may run in any thread and at any fork, as they say; they stay, since no
        // extension module is ever unloaded.
        let failed = unsafe {
            libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child))
        };
        OUTCOME.store(u8::from(failed != 0), Ordering::Relaxed);
    });
    if OUTCOME.load(Ordering::Relaxed) == 0 {
        Ok(())
    } else {
        Err(Error::new("pthread_atfork", Errno::NOMEM))
    }
}

/// Completes all copies. Allocates nothing, and waits for nobody but for another thread's short look
/// at the list.
extern "C" fn before() {
    let mut all = incomplete();
    for copy in all.drain(..) {
        touch(copy.start, copy.len);
        if let Some((file, offset)) = copy.original {
            // SAFETY: a copy keeps its file open, and is taken off the list before that ends.
            let file = unsafe { BorrowedFd::borrow_raw(file) };
            let whole = copy.len.next_multiple_of(page_size());
            let _ = punch_hole(file, offset, whole as u64);
        }
    }
    // SAFETY: this thread holds the lock.
    unsafe { *HELD.0.get() = Some(all) };
}

extern "C" fn after_in_parent() {
    // SAFETY: this thread holds the lock since `before`.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    // SAFETY: this is the thread that holds the lock since `before`, or its copy in the child.
    drop(unsafe { (*HELD.0.get()).take() });
}
