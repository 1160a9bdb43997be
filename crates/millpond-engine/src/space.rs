//! Payload memory that this process writes: an arena, its file, and the pages kept warm.
#![allow(unsafe_code, reason = "small payloads are copied into a shared mapping")]

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use millpond_sys::file_range::{punch_hole, write_all_at};
use millpond_sys::mapping::{Access, Mapping};
use millpond_table::{Arena, Block};

use crate::error::{Error, Result};

/// A range of a file with its allocator. One process writes it; others read what it hands out.
#[derive(Debug)]
pub(crate) struct Space {
    file: Arc<OwnedFd>,
    arena: Arena,
    start: u64,
    len: u64,
    small_len: u64,
    small: Option<Mapping>,
    /// Large blocks that were given back and whose pages are still there: writing to them again
    /// costs a fifth of writing to cold ones.
    warm: Vec<Block>,
    warm_len: u64,
    warm_len_max: u64,
    /// Large blocks that were used before, by their offset: copying into mapped pages that are there
    /// takes half of what `pwrite` takes.
    windows: HashMap<u64, Arc<Mapping>>,
}

/// Writes into one large block.
#[derive(Debug)]
pub(crate) struct Writer {
    file: Arc<OwnedFd>,
    offset: u64,
    len: u64,
    window: Option<Arc<Mapping>>,
}

impl Writer {
    /// Writes bytes, and a zero behind them, to the block's beginning.
    pub(crate) fn write_with_end(&self, bytes: &[u8]) -> Result<()> {
        assert!((bytes.len() as u64) < self.len, "a block of {} for {}", self.len, bytes.len());
        let Some(window) = &self.window else {
            write_all_at(self.file.as_fd(), self.offset, bytes)?;
            return Ok(write_all_at(self.file.as_fd(), self.offset + bytes.len() as u64, &[0])?);
        };
        assert!(bytes.len() < window.len(), "a window of {} for {}", window.len(), bytes.len());
        // SAFETY: the target lies in the window (asserted), which is a block that is the caller's
        // alone, so nothing else refers to it; the source is a live slice of other memory.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), window.as_ptr(), bytes.len());
            window.as_ptr().add(bytes.len()).write(0);
        }
        Ok(())
    }
}

impl Space {
    pub(crate) fn new(
        file: Arc<OwnedFd>,
        start: u64,
        len: u64,
        small_len: u64,
        warm_len_max: u64,
    ) -> Self {
        let arena = Arena::new(start, len, small_len);
        Self {
            file,
            arena,
            start,
            len,
            small_len,
            small: None,
            warm: Vec::new(),
            warm_len: 0,
            warm_len_max,
            windows: HashMap::new(),
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes the pieces one after the other into a new block.
    pub(crate) fn store(&mut self, pieces: &[&[u8]]) -> Result<Block> {
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let block = self.allocate(len)?;
        let mut offset = block.offset;
        for piece in pieces {
            if let Err(error) = self.write(&block, offset, piece) {
                self.give_back(block);
                return Err(error);
            }
            offset += piece.len() as u64;
        }
        Ok(block)
    }

    /// Writes bytes at an offset of the file that lies in `block`.
    pub(crate) fn write(&mut self, block: &Block, offset: u64, bytes: &[u8]) -> Result<()> {
        if block.is_large {
            // Cold pages are touched at half the cost by `pwrite`, and a full memory is an error
            // here where a store would be SIGBUS.
            return Ok(write_all_at(self.file.as_fd(), offset, bytes)?);
        }
        if self.small.is_none() {
            let len = self.small_len as usize;
            self.small = Some(Mapping::new(self.fd(), self.start, len, Access::ReadWrite)?);
        }
        if let Some(small) = &self.small {
            let at = (offset - self.start) as usize;
            assert!(at + bytes.len() <= small.len(), "a small block ends at {at}");
            // SAFETY: the target lies within the mapping (asserted) and within a block that the
            // arena gave to this call alone, so nothing else refers to it; the source is a live
            // slice of other memory.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), small.as_ptr().add(at), bytes.len());
            }
        }
        Ok(())
    }

    /// Finds room for `len` bytes, which are to be written.
    pub(crate) fn allocate(&mut self, len: u64) -> Result<Block> {
        let fits = |block: &Block| block.capacity >= len && block.capacity <= 2 * len;
        if let Some(found) = self.warm.iter().rposition(fits) {
            let mut block = self.warm.swap_remove(found);
            self.warm_len -= block.capacity;
            block.len = len;
            self.open_window(&block);
            return Ok(block);
        }
        if let Some(block) = self.arena.allocate(len.max(1)) {
            return Ok(block);
        }
        self.cool();
        self.arena.allocate(len.max(1)).ok_or_else(|| Error::no_room(len, self.len))
    }

    /// Takes a block back. Its bytes stay until it is used again or punched.
    pub(crate) fn give_back(&mut self, block: Block) {
        if block.is_large {
            if self.warm_len + block.capacity <= self.warm_len_max {
                self.warm_len += block.capacity;
                self.warm.push(block);
                return;
            }
            self.punch(&block);
        }
        self.arena.free(block);
    }

    /// Gives the warm pages back to the system.
    pub(crate) fn cool(&mut self) {
        for block in std::mem::take(&mut self.warm) {
            self.punch(&block);
            self.arena.free(block);
        }
        self.warm_len = 0;
    }

    /// Maps a block that is used once more.
    fn open_window(&mut self, block: &Block) {
        if self.windows.contains_key(&block.offset) {
            return;
        }
        // Where it cannot be mapped, `pwrite` does the work.
        let len = block.capacity as usize;
        if let Ok(window) = Mapping::new(self.fd(), block.offset, len, Access::ReadWrite) {
            self.windows.insert(block.offset, Arc::new(window));
        }
    }

    /// Gives a block's pages back to the system.
    fn punch(&mut self, block: &Block) {
        self.windows.remove(&block.offset);
        let _ = punch_hole(self.fd(), block.offset, block.capacity);
    }

    /// Returns what writes into a block that is the caller's, without this space.
    pub(crate) fn writer(&self, block: &Block) -> Writer {
        let window = self.windows.get(&block.offset).cloned();
        Writer { file: Arc::clone(&self.file), offset: block.offset, len: block.len, window }
    }

    /// Returns the bytes that are kept for reuse.
    pub(crate) fn warm_len(&self) -> u64 {
        self.warm_len
    }

    /// Tells whether warm pages are kept.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm_len > 0
    }
}
