#![allow(unsafe_code, reason = "mmap, madvise and munmap of one page, and a look at it")]
//! A mark that a process has and none of its forked children.

use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::mapping::page_size;
use crate::{Error, Result};

/// Tells the process that made it from its forked children.
///
/// It is a page that the kernel wipes in the child (`MADV_WIPEONFORK`, Linux 4.14). Process ids do
/// not tell as much: a child in a PID namespace of its own may have the id that its parent has, as
/// the first process of a container, and a grandchild may get the id of a maker that is dead. What
/// speaks of one process's memory needs more than that. To look costs a load, and no system call.
#[derive(Debug)]
pub struct Birthmark {
    page: NonNull<u8>,
}

// SAFETY: the page is this object's own and is written only before the object exists; any thread
// may read it or unmap it.
unsafe impl Send for Birthmark {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for Birthmark {}

impl Birthmark {
    /// `mmap(MAP_PRIVATE | MAP_ANONYMOUS)`, `madvise(MADV_WIPEONFORK)`
    ///
    /// Marks this process.
    ///
    /// # Errors
    /// If the kernel does not know the advice, or a page cannot be had.
    pub fn new() -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the address is null and MAP_FIXED is absent, so no memory that is in use changes.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), page_size(), protection, MapFlags::PRIVATE) }
                .map_err(Error::of("mmap"))?;
        // Cannot happen: the kernel gives address zero only to who asks for it.
        let page = NonNull::new(page).ok_or(Error::new("mmap", Errno::NOMEM))?;
        let mark = Self { page: page.cast() };
        // SAFETY: the page was mapped just now; the advice changes nothing in this process.
        unsafe { madvise(page.as_ptr(), page_size(), Advice::LinuxWipeOnFork) }
            .map_err(Error::of("madvise(MADV_WIPEONFORK)"))?;
        // Written last: a fork in between, by another thread, finds no mark either way.
        // SAFETY: the page is writable, and nobody else knows of it.
        unsafe { mark.page.write_volatile(1) };
        Ok(mark)
    }

    /// Tells whether this is the process that made the mark.
    pub fn is_here(&self) -> bool {
        // SAFETY: the page is mapped for as long as this object lives, in a child as well. The
        // compiler must not know what was written, because the kernel changes it at a fork.
        unsafe { self.page.read_volatile() == 1 }
    }
}

impl Drop for Birthmark {
    /// `munmap(page, page_size)`
    ///
    /// In a forked child it unmaps the child's page, which nobody else can see.
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly this page, and with this object ends all that reads it.
        let unmapped = unsafe { munmap(self.page.as_ptr().cast(), page_size()) };
        debug_assert!(unmapped.is_ok(), "munmap of {self:?} gives {unmapped:?}");
    }
}
