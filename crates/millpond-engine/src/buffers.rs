//! Buffers: long runs of bytes that the other side maps in place of copying them.
//!
//! What the parent stores, a worker [leases](Worker::lease); what a worker [lends](Worker::lend) with
//! a result, the parent [borrows](Engine::borrow). Either side maps privately, so it may write what it
//! sees, and the owner of the memory leaves it alone until it is given back: see the leases in
//! `crates/millpond-table/README.md`.

use std::sync::{Arc, Weak};

use millpond_sys::file_range::punch_hole;
use millpond_sys::mapping::page_size;
use millpond_sys::private_copy::{Original, PrivateCopy};
use millpond_table::{Block, LEASE_COUNT, StoreId};

use crate::error::{Error, Result};
use crate::parent::{Engine, Shared};
use crate::reader::{Reader, View};
use crate::state::State;
use crate::worker::Worker;

/// Bytes from which on a run is a buffer; a shorter one is copied in the time that a mapping takes.
/// All of them lie in large areas, where blocks are whole pages.
pub const BUFFER_LEN_MIN: usize = 256 << 10;

/// A stored buffer in a worker's memory, under a lease.
#[derive(Debug)]
pub struct Leased {
    /// The bytes as they were stored, but for what was written to them here.
    pub copy: PrivateCopy,
    index: usize,
}

/// Where a buffer lies that a worker lends with a result, as the worker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lent {
    /// Offset in bytes in the file of results.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Of the worker's lending.
    pub index: u64,
    /// The index's turn.
    pub turn: u64,
}

/// A buffer of a result in the parent's memory, to be given back.
#[derive(Debug)]
pub struct Borrowed {
    /// The bytes as the worker wrote them, but for what was written to them here.
    pub copy: Arc<PrivateCopy>,
    lent: Lent,
    number: u64,
}

/// What the engine knows of a borrowed buffer.
#[derive(Debug)]
pub(crate) struct Loan {
    pub(crate) len: u64,
    /// Tells it from a later one at the same place.
    number: u64,
    copy: Weak<PrivateCopy>,
}

impl<T: Send + 'static> Engine<T> {
    /// Stores a run of bytes, and a zero behind it, as a part that workers map. Its equals are not
    /// looked for. `kind` and `tag` are as for [`Self::store`].
    ///
    /// # Errors
    /// If there is no room for it.
    ///
    /// # Panics
    /// If it is shorter than [`BUFFER_LEN_MIN`].
    pub fn store_buffer(&self, bytes: &[u8], kind: u64, tag: u64) -> Result<StoreId> {
        assert!(bytes.len() >= BUFFER_LEN_MIN, "a buffer of {} bytes", bytes.len());
        let (block, writer) = {
            let space = &mut self.shared.lock().space;
            let block = space.allocate(bytes.len() as u64 + 1)?;
            let writer = space.writer(&block);
            (block, writer)
        };
        // Without the lock: the block is nobody else's yet.
        let written = writer.write_with_end(bytes);
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Err(error) = written {
            state.space.give_back(block);
            return Err(error);
        }
        state.store.list_buffer(self.shared.table(), &mut state.space, block, kind, tag)
    }

    /// Returns a view of a stored part, or `None` if it is not listed.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn stored_view(&self, id: StoreId) -> Result<Option<View>> {
        let Some(at) = self.shared.table().store_find(id) else { return Ok(None) };
        let len = self.shared.sizes.arena_len;
        let file = Arc::clone(&self.shared.arena);
        let mut reader = Reader::new(file, len, len, self.shared.sizes.arena_small_len);
        reader.view(at.offset, at.len).map(Some)
    }

    /// Maps a buffer that came with a result, before the result is released. What the worker says of
    /// it is checked here.
    ///
    /// # Errors
    /// If it cannot be where the worker says, or cannot be mapped.
    pub fn borrow(&self, lent: Lent) -> Result<Borrowed> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let copy = state.results.copy(lent.offset, lent.len, Original::GoesAtFork)?;
        if state.borrowed.contains_key(&lent.offset) {
            state.damaged += 1;
            return Err(Error::bad_payload(lent.offset, lent.len, 0));
        }
        let copy = Arc::new(copy);
        state.next_loan += 1;
        let number = state.next_loan;
        let loan = Loan { len: lent.len, number, copy: Arc::downgrade(&copy) };
        state.borrowed.insert(lent.offset, loan);
        kill_point!("parent.borrow.mapped");
        state.ranges.hold(lent.offset);
        Ok(Borrowed { copy, lent, number })
    }

    /// Gives a buffer back that nobody reads any more.
    pub fn give_back(&self, borrowed: Borrowed) {
        let Borrowed { copy, lent, number } = borrowed;
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.borrowed.get(&lent.offset).is_none_or(|loan| loan.number != number) {
            // It was completed, and the place may be another's by now.
            return;
        }
        state.borrowed.remove(&lent.offset);
        let range = state.ranges.of(lent.offset);
        if let Some(life) = state.lives.values().find(|life| life.range == range) {
            drop(copy);
            kill_point!("parent.borrow.unmapped");
            let seat = &self.shared.table().seats()[life.seat as usize];
            seat.give_back(lent.index as usize, lent.turn);
            return;
        }
        // Its writer is gone: nobody will write there before the range is free.
        punch(copy);
        if let Some(range) = state.ranges.read(lent.offset, &self.shared.results) {
            state.results.forget_range(range);
        }
    }
}

impl Borrowed {
    /// Gives the buffer's memory back to the system, when the pool that it came from is gone.
    pub fn give_up(self) {
        // What was completed has given its place in the file back, to another buffer perhaps.
        if !self.copy.is_complete() {
            punch(self.copy);
        }
    }
}

impl<T> Shared<T> {
    /// Completes the copies of all buffers in ranges whose writer is gone, so that these are free
    /// again: there are only so many ranges.
    pub(crate) fn complete_loans(&self, state: &mut State<T>) {
        let offsets: Vec<u64> = state.borrowed.keys().copied().collect();
        for offset in offsets {
            let range = state.ranges.of(offset);
            if state.lives.values().any(|life| life.range == range) {
                continue;
            }
            if let Some(loan) = state.borrowed.remove(&offset)
                && let Some(copy) = loan.copy.upgrade()
            {
                copy.complete();
            }
            if let Some(range) = state.ranges.read(offset, &self.results) {
                state.results.forget_range(range);
            }
        }
    }
}

fn punch(copy: Arc<PrivateCopy>) {
    let len = copy.len().next_multiple_of(page_size());
    let (file, offset) = copy.original();
    let _ = punch_hole(file, offset, len as u64);
    drop(copy);
}

/// What a worker has lent, by index.
#[derive(Debug, Default)]
pub(crate) struct Lendings {
    out: Vec<Option<(u64, Block)>>,
    turn: u64,
    /// Whether the result that is being made lends anything.
    lends: bool,
}

impl Lendings {
    /// Tells whether the result that is complete lends anything; the next one has not yet.
    pub(crate) fn begin_next(&mut self) -> bool {
        std::mem::take(&mut self.lends)
    }
}

impl Worker {
    /// Maps a stored buffer, during a task that names it. Returns `None` if it is not listed, or if
    /// all of this worker's leases are taken; it can then be copied.
    ///
    /// # Errors
    /// If it lies outside of the parent's arena, or cannot be mapped.
    pub fn lease(&mut self, id: StoreId) -> Result<Option<Leased>> {
        let Some(at) = self.table().store_find(id) else { return Ok(None) };
        let Some(index) = self.seat().lease(id) else { return Ok(None) };
        kill_point!("worker.lease.taken");
        match self.arguments.copy(at.offset, at.len, Original::Stays) {
            Ok(copy) => Ok(Some(Leased { copy, index })),
            Err(error) => {
                self.seat().end_lease(index);
                Err(error)
            }
        }
    }

    /// Unmaps a buffer that nobody reads any more, and ends its lease.
    pub fn end_lease(&self, leased: Leased) {
        let Leased { copy, index } = leased;
        drop(copy);
        kill_point!("worker.lease.unmapped");
        self.seat().end_lease(index);
        kill_point!("worker.lease.ended");
    }

    /// Writes a buffer, and a zero behind it, which the parent will map. Returns `None` if too many
    /// are lent.
    ///
    /// # Errors
    /// If there is no memory for it.
    ///
    /// # Panics
    /// If it is shorter than [`BUFFER_LEN_MIN`].
    pub fn lend(&mut self, bytes: &[u8]) -> Result<Option<Lent>> {
        assert!(bytes.len() >= BUFFER_LEN_MIN, "a buffer of {} bytes", bytes.len());
        self.take_back();
        let out = &mut self.lendings.out;
        out.resize_with(LEASE_COUNT, || None);
        let Some(index) = out.iter().position(Option::is_none) else { return Ok(None) };
        let block = self.results.allocate(bytes.len() as u64 + 1)?;
        if let Err(error) = self.results.writer(&block).write_with_end(bytes) {
            self.results.give_back(block);
            return Err(error);
        }
        kill_point!("worker.lend.written");
        self.lendings.lends = true;
        self.lendings.turn += 1;
        let turn = self.lendings.turn;
        let lent = Lent { offset: block.offset, len: block.len, index: index as u64, turn };
        self.lendings.out[index] = Some((turn, block));
        Ok(Some(lent))
    }

    /// Takes a buffer back that was not sent after all.
    pub fn unlend(&mut self, lent: Lent) {
        if let Some(place) = self.lendings.out.get_mut(lent.index as usize)
            && let Some((_, block)) = place.take_if(|(turn, _)| *turn == lent.turn)
        {
            self.results.give_back(block);
        }
    }

    /// Takes back what the parent no longer reads.
    pub(crate) fn take_back(&mut self) {
        for index in 0..self.lendings.out.len() {
            let turn = match &self.lendings.out[index] {
                Some((turn, _)) => *turn,
                None => continue,
            };
            if self.seat().was_given_back(index, turn)
                && let Some((_, block)) = self.lendings.out[index].take()
            {
                self.results.give_back(block);
            }
        }
    }
}

impl Reader {
    /// Maps a buffer privately; offset and length are as a peer gave them, and are checked here.
    fn copy(&self, offset: u64, len: u64, original: Original) -> Result<PrivateCopy> {
        let end = offset.checked_add(len).filter(|&end| end <= self.file_len());
        let (Some(_), Ok(len_here)) = (end, usize::try_from(len)) else {
            return Err(Error::bad_payload(offset, len, self.file_len()));
        };
        if !offset.is_multiple_of(page_size() as u64) || len_here <= BUFFER_LEN_MIN {
            return Err(Error::bad_payload(offset, len, self.file_len()));
        }
        Ok(PrivateCopy::new(self.file(), offset, len_here, original)?)
    }
}
