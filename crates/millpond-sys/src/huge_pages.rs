#![allow(unsafe_code, reason = "madvise, mmap")]
//! Large pages for large private memory.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::mapping::page_size;

/// From which length in bytes on large pages are worth asking for: two of them.
pub const HUGE_LEN_MIN: usize = 4 << 20;

/// `madvise(address, len, MADV_HUGEPAGE)`
///
/// Asks for large pages in a range of this process's private memory, so that to touch it first costs
/// one fault for 2 MiB in place of 512. The content does not change; a kernel that refuses is not
/// asked again. Ranges under [`HUGE_LEN_MIN`] are left alone.
pub fn advise(address: *const u8, len: usize) {
    if len < HUGE_LEN_MIN {
        return;
    }
    let page = page_size();
    let start = address.addr().next_multiple_of(page);
    let end = (address.addr() + len) / page * page;
    if start >= end {
        return;
    }
    let start = address.with_addr(start).cast_mut();
    // SAFETY: the advice changes neither content nor protection, whatever lies in the range; where
    // nothing is mapped the kernel says ENOMEM.
    let _ = unsafe { madvise(start.cast(), end - start.addr(), Advice::LinuxHugepage) };
}

/// The size in bytes of a large page on x86-64, and on aarch64 with pages of 4 KiB.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// `mmap(len)` and `madvise(MADV_HUGEPAGE)`
///
/// A stretch of private memory on large pages, out of which pieces are taken. A piece belongs to
/// whoever took it, and is given back by `munmap`; what was not taken is unmapped with the stretch.
#[derive(Debug)]
pub struct HugeStretch {
    next: *mut u8,
    left: usize,
}

impl HugeStretch {
    /// Maps a stretch of `len` bytes, rounded up to large pages.
    ///
    /// # Errors
    /// If the system denies the memory.
    pub fn new(len: usize) -> crate::Result<Self> {
        let len = len.next_multiple_of(HUGE_PAGE_LEN);
        // SAFETY: an anonymous mapping at an address that the kernel chooses touches nothing else.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len + HUGE_PAGE_LEN,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = start.map_err(|errno| crate::Error::new("mmap", errno))?.cast::<u8>();
        let skipped = start.align_offset(HUGE_PAGE_LEN);
        // SAFETY: start, and the ends of what is skipped and kept, lie within the mapping made above,
        // which nobody else knows; all are multiples of the page size.
        let next = unsafe {
            let next = start.add(skipped);
            unmap(start, skipped);
            unmap(next.add(len), HUGE_PAGE_LEN - skipped);
            next
        };
        advise(next, len);
        Ok(Self { next, left: len })
    }

    /// Takes a piece of `len` bytes, a multiple of the page size; None if less is left.
    pub fn take(&mut self, len: usize) -> Option<*mut u8> {
        if len > self.left || !len.is_multiple_of(page_size()) {
            return None;
        }
        let piece = self.next;
        // SAFETY: `len` bytes are left, so the end lies within the mapping, or just behind it.
        self.next = unsafe { piece.add(len) };
        self.left -= len;
        Some(piece)
    }
}

impl Drop for HugeStretch {
    fn drop(&mut self) {
        // SAFETY: what is left was taken by nobody.
        unsafe { unmap(self.next, self.left) };
    }
}

/// # Safety
/// The range is mapped, and nobody uses it any more.
unsafe fn unmap(start: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: the caller's duty.
        let _ = unsafe { munmap(start.cast(), len) };
    }
}
