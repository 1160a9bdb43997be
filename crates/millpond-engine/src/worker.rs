//! A worker's side of a pool.

mod idle;

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use millpond_sys::{clock, futex, pidfd, process, signals};
use millpond_table::{Block, INLINE_LEN, Layout, Owner, Payload, Seat, SeatState, StoreId, Table};

use crate::buffers::Lendings;
use crate::error::Result;
use crate::handover::HandOver;
use crate::reader::{Reader, View};
use crate::shared_table::SharedTable;
use crate::space::Space;

pub use idle::Next;

/// The exit code of a worker whose parent is gone.
const ORPHAN_EXIT_CODE: i32 = 1;

/// The descriptors of a [`HandOver`], owned by this process.
#[derive(Debug)]
pub(crate) struct Files {
    table: OwnedFd,
    arena: OwnedFd,
    results: OwnedFd,
    parent: Option<OwnedFd>,
}

/// One worker, in its own process.
#[derive(Debug)]
pub struct Worker {
    shared_table: SharedTable,
    owner: Owner,
    pub(crate) arguments: Reader,
    pub(crate) results: Space,
    pub(crate) lendings: Lendings,
    range_start: u64,
    /// Result blocks that the parent may still read, oldest first, with the slot and turn of their
    /// task: when the slot's turn has gone on, the parent has read the block.
    unread: VecDeque<(u32, u64, Block)>,
    sweep_at: usize,
    spins: bool,
    /// Whether this worker has found the shared memory damaged.
    saw_damage: Cell<bool>,
}

/// A task that this worker has claimed.
#[derive(Debug)]
pub struct TaskRef {
    /// The front's word on how to read the payload.
    pub kind: u32,
    payload: Payload,
    slot: u32,
    turn: u64,
}

impl Worker {
    /// Takes the seat that the parent has handed over, and starts the thread that ends this process
    /// when the parent is gone.
    ///
    /// # Errors
    /// If the memory cannot be mapped or is not the parent's table.
    pub fn join(hand_over: &HandOver) -> Result<Self> {
        kill_point!("worker.join.begun");
        let files = Files::duplicate(hand_over)?;
        let layout = Layout::new(hand_over.seat_count);
        let shared_table = SharedTable::attach(files.table.as_fd(), layout)?;
        if let Some(parent) = files.parent {
            watch_parent(parent)?;
        }
        kill_point!("worker.join.watching");
        let arena = Arc::new(files.arena);
        let arguments =
            Reader::new(arena, hand_over.arena_len, hand_over.arena_len, hand_over.arena_small_len);
        let results = Space::new(
            Arc::new(files.results),
            hand_over.range_start,
            hand_over.range_len,
            hand_over.range_small_len,
            hand_over.warm_len_max,
        );
        Ok(Self {
            shared_table,
            owner: Owner(hand_over.seat as u16),
            arguments,
            results,
            lendings: Lendings::default(),
            range_start: hand_over.range_start,
            unread: VecDeque::new(),
            sweep_at: 16,
            spins: hand_over.spins,
            saw_damage: Cell::new(false),
        })
    }

    pub(crate) fn table(&self) -> Table<'_> {
        self.shared_table.table()
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.table().seats()[usize::from(self.owner.0)]
    }

    /// Says that the initializer has run and tasks are taken.
    pub fn ready(&self) {
        kill_point!("worker.ready.untold");
        self.seat().set_state(SeatState::Ready);
        kill_point!("worker.ready.told");
    }

    /// Says that this worker ends in order.
    pub fn retire(&self) {
        kill_point!("worker.retire.untold");
        self.seat().set_state(SeatState::Retired);
        kill_point!("worker.retire.told");
    }

    /// Says that the initializer raised: `note` and `bytes` reach the parent with the worker's end.
    ///
    /// # Errors
    /// If they cannot be written; the parent then only sees a worker that never was ready.
    pub fn fail(&mut self, note: &[u8], bytes: &[u8]) -> Result<()> {
        // No result of this worker is out, so its range is free from its beginning.
        let file = self.results.fd();
        millpond_sys::file_range::write_all_at(file, self.range_start, note)?;
        let after = self.range_start + note.len() as u64;
        millpond_sys::file_range::write_all_at(file, after, bytes)?;
        kill_point!("worker.fail.written");
        self.seat().set_failure((note.len() + bytes.len()) as u64, note.len() as u64);
        kill_point!("worker.fail.told");
        Ok(())
    }

    /// Adds to one of the worker's counts, by its index in [`Seat::COUNTS`].
    pub fn count(&self, index: usize, more: u64) {
        self.seat().add(index, more);
    }

    /// Tells whether this worker has found the shared memory damaged, and told the parent so.
    #[must_use]
    pub fn saw_damage(&self) -> bool {
        self.saw_damage.get()
    }

    /// Claims the first ready task, if there is one.
    ///
    /// # Errors
    /// If the shared memory is damaged.
    pub fn claim(&self) -> Result<Option<TaskRef>> {
        let table = self.table();
        let claim = table.claim(self.owner).inspect_err(|_| {
            self.saw_damage.set(true);
            self.seat().set_state(SeatState::Damaged);
        });
        let Some(claim) = claim? else { return Ok(None) };
        if claim.refill && table.must_wake_parent() {
            kill_point!("worker.claim.wake_owed");
            futex::wake(table.parent_bell(), 1);
        }
        let payload = table.slot(claim.slot).payload();
        Ok(Some(TaskRef { kind: payload.kind, payload, slot: claim.slot, turn: claim.turn }))
    }

    /// Says that the task begins: from here on it dies with this worker. False if the parent has taken
    /// it back.
    #[must_use]
    pub fn begin(&self, task: &TaskRef) -> bool {
        let slot = self.table().slot(task.slot);
        if slot.is_timed() {
            slot.set_begun_at(clock::monotonic_ns());
            kill_point!("worker.begin.timed");
        }
        kill_point!("worker.begin.unbegun");
        let is_mine = slot.begin(self.owner, task.turn);
        kill_point!("worker.begin.begun");
        is_mine
    }

    /// Tells whether the parent wants this worker to end before it takes another task. If so, and a
    /// task is ready, another worker is woken: this one may have been woken for it.
    #[must_use]
    pub fn must_leave(&self) -> bool {
        if !self.seat().must_leave() {
            return false;
        }
        let table = self.table();
        kill_point!("worker.leave.asked");
        if table.has_ready()
            && let Some(bell) = table.wake_one()
        {
            futex::wake(bell, 1);
        }
        true
    }

    /// Returns the task's payload.
    ///
    /// # Errors
    /// If it lies outside of the parent's arena, or cannot be mapped.
    pub fn payload(&mut self, task: &TaskRef) -> Result<View> {
        match task.payload.offset {
            None => {
                let slot = self.table().slot(task.slot);
                Ok(View::inline(slot.inline_ptr(), task.payload.len as usize))
            }
            Some(offset) => self.arguments.view(offset, task.payload.len),
        }
    }

    /// Pulls a stored part by its id: its bytes and kind, or `None` if the id is not listed, which
    /// cannot be while a task names it.
    ///
    /// # Errors
    /// If it lies outside of the parent's arena, or cannot be mapped.
    pub fn stored(&mut self, id: StoreId) -> Result<Option<(View, u64)>> {
        let Some(at) = self.table().store_find(id) else { return Ok(None) };
        Ok(Some((self.arguments.view(at.offset, at.len)?, at.kind)))
    }

    /// Returns how a stored part is to be read, without mapping it; `None` if it is not listed.
    #[must_use]
    pub fn stored_kind(&self, id: StoreId) -> Option<u64> {
        self.table().store_find(id).map(|at| at.kind)
    }

    /// Adds to one of a part's counts, by its index.
    pub fn count_part(&self, id: StoreId, index: usize, more: u64) {
        self.table().count_part(id, index, more);
    }

    /// Tells whether a part is still listed in the store.
    #[must_use]
    pub fn is_listed(&self, id: StoreId) -> bool {
        self.table().store_find(id).is_some()
    }

    /// Completes a task: `kind` tells the parent's front how to read what follows.
    ///
    /// # Errors
    /// If there is no memory for the result. The task is then still this worker's, to be completed
    /// with something shorter.
    ///
    /// False if the parent has condemned the task: this worker is being stopped, and should end.
    pub fn complete(
        &mut self,
        task: &TaskRef,
        kind: u32,
        note: &[u8],
        bytes: &[u8],
    ) -> Result<bool> {
        let len = note.len() + bytes.len();
        // A result that lends is counted as an unread one of this worker's range, so it lies there.
        let lends = self.lendings.begin_next();
        let offset = if len <= INLINE_LEN && !lends {
            let mut both = [0; INLINE_LEN];
            both[..note.len()].copy_from_slice(note);
            both[note.len()..len].copy_from_slice(bytes);
            self.table().slot(task.slot).write_inline(&both[..len]);
            kill_point!("worker.complete.inline_written");
            None
        } else {
            self.sweep();
            let block = self.results.store(&[note, bytes])?;
            let offset = block.offset;
            kill_point!("worker.complete.block_written");
            self.unread.push_back((task.slot, task.turn, block));
            Some(offset)
        };
        let table = self.table();
        let note_len = note.len() as u64;
        let slot = table.slot(task.slot);
        slot.describe(Payload { kind, len: len as u64, offset, note_len });
        if slot.is_timed() {
            slot.set_ended_at(clock::monotonic_ns());
        }
        kill_point!("worker.complete.described");
        // Counted before: who has the result finds it in the count.
        self.count(TASKS, 1);
        kill_point!("worker.complete.counted");
        let Some(wakes_parent) = table.complete(task.slot, self.owner, task.turn) else {
            kill_point!("worker.complete.condemned");
            self.count(TASKS, 1_u64.wrapping_neg());
            return Ok(false);
        };
        if wakes_parent {
            kill_point!("worker.complete.wake_owed");
            futex::wake(table.parent_bell(), 1);
        }
        Ok(true)
    }

    /// Takes back the result blocks that the parent has read.
    fn sweep(&mut self) {
        let table = self.shared_table.table();
        let is_read =
            |(slot, turn, _): &(u32, u64, Block)| table.slot(*slot).word().turn() != *turn;
        while self.unread.front().is_some_and(is_read) {
            if let Some((_, _, block)) = self.unread.pop_front() {
                self.results.give_back(block);
            }
        }
        if self.unread.len() < self.sweep_at {
            return;
        }
        // Some block far ahead is held up; look at all, and at twice the rest the next time, so
        // that the cost of a look is spread over as many results.
        let all = std::mem::take(&mut self.unread);
        for entry in all {
            if is_read(&entry) {
                self.results.give_back(entry.2);
            } else {
                self.unread.push_back(entry);
            }
        }
        self.sweep_at = self.unread.len() * 2 + 16;
    }

    /// Gives back memory that is only kept for reuse, when nothing has come for a while.
    pub fn cool(&mut self) {
        self.sweep();
        self.take_back();
        self.results.cool();
    }
}

/// Index of "tasks" in [`Seat::COUNTS`].
pub(crate) const TASKS: usize = 0;

/// Starts the thread that ends this process when the parent is gone. The thread allocates nothing
/// and takes no lock, so a task that forks cannot inherit one from it.
fn watch_parent(parent: OwnedFd) -> Result<()> {
    if pidfd::has_ended(parent.as_fd()) {
        process::exit_now(ORPHAN_EXIT_CODE);
    }
    let watch = move || {
        signals::block_all();
        pidfd::wait_end(parent.as_fd());
        process::exit_now(ORPHAN_EXIT_CODE);
    };
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(watch)
        .map(drop)
        .map_err(|error| crate::error::Error::thread(&error))
}

impl Files {
    /// Makes copies of the descriptors: a forked worker shares their numbers with its parent's
    /// engine object, which must not find them closed.
    #[allow(unsafe_code, reason = "raw descriptors of the hand-over are borrowed for one call")]
    fn duplicate(hand_over: &HandOver) -> Result<Self> {
        let copy = |fd: i32| {
            // SAFETY: the hand-over's descriptors are open in this process: inherited by fork, or
            // passed by the front's process start. Each is borrowed for this call alone.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            pidfd::duplicate(fd)
        };
        Ok(Self {
            table: copy(hand_over.table_fd)?,
            arena: copy(hand_over.arena_fd)?,
            results: copy(hand_over.results_fd)?,
            parent: if hand_over.parent_fd < 0 { None } else { Some(copy(hand_over.parent_fd)?) },
        })
    }
}
