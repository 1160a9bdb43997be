//! Result ranges: one for each worker generation, given back whole.
//!
//! A worker's allocator dies with the worker. So a dead worker's range is not handed to the next one:
//! that gets a fresh range, and the old one returns when the last result in it has been read.

use std::os::fd::{AsFd, OwnedFd};

use millpond_sys::file_range::punch_hole;

/// Which ranges are used, by whom, and how many results in each wait to be read.
#[derive(Debug)]
pub(crate) struct Ranges {
    range_len: u64,
    free: Vec<u64>,
    retired: Vec<(u64, usize)>,
}

impl Ranges {
    pub(crate) fn new(range_len: u64, range_count: u64) -> Self {
        Self { range_len, free: (0..range_count).rev().collect(), retired: Vec::new() }
    }

    /// Tells whether there is a range that nobody writes and nobody reads.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Returns a range that nobody writes and nobody reads.
    pub(crate) fn take(&mut self) -> Option<u64> {
        self.free.pop()
    }

    /// The range's writer is gone, and `unread` results in it wait to be read. Returns true if the
    /// range is free again at once.
    pub(crate) fn retire(&mut self, range: u64, unread: usize, file: &OwnedFd) -> bool {
        if unread == 0 {
            self.release(range, file);
            return true;
        }
        self.retired.push((range, unread));
        false
    }

    /// A part of an unread result at this offset is to be read for longer.
    pub(crate) fn hold(&mut self, offset: u64) {
        let range = offset / self.range_len;
        if let Some((_, unread)) = self.retired.iter_mut().find(|(retired, _)| *retired == range) {
            *unread += 1;
        }
    }

    /// A result at this offset has been read. Returns the range if it is free again.
    pub(crate) fn read(&mut self, offset: u64, file: &OwnedFd) -> Option<u64> {
        if self.retired.is_empty() {
            return None;
        }
        let range = offset / self.range_len;
        let found = self.retired.iter().position(|(retired, _)| *retired == range)?;
        self.retired[found].1 -= 1;
        if self.retired[found].1 > 0 {
            return None;
        }
        self.retired.swap_remove(found);
        self.release(range, file);
        Some(range)
    }

    fn release(&mut self, range: u64, file: &OwnedFd) {
        let _ = punch_hole(file.as_fd(), range * self.range_len, self.range_len);
        self.free.push(range);
    }

    pub(crate) fn of(&self, offset: u64) -> u64 {
        offset / self.range_len
    }

    pub(crate) fn start(&self, range: u64) -> u64 {
        range * self.range_len
    }
}
