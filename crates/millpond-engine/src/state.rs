//! What the parent knows of its slots and workers, behind one lock.
//!
//! The lock is never held while a language front can run: tickets, which may run user code when they
//! are dropped, are moved out and dropped after.

use std::collections::{HashMap, VecDeque};

use millpond_table::{Audit, Block, Layout, StoreId};

use crate::buffers::Loan;
use crate::lives::{Incarnation, Life, Vacancy};
use crate::object_store::ObjectStore;
use crate::pace::Pace;
use crate::ranges::Ranges;
use crate::reader::Reader;
use crate::retry::Original;
use crate::run_ahead::RunAhead;
use crate::seats::Seats;
use crate::space::Space;
use crate::stops::Reason;

/// What the parent knows of one slot, beside what lies in it.
#[derive(Debug)]
pub(crate) struct SlotRecord<T> {
    pub(crate) turn: u64,
    pub(crate) ticket: Option<T>,
    pub(crate) arguments: Option<Block>,
    pub(crate) parts: Vec<StoreId>,
    /// Where in the ring its cell was.
    pub(crate) position: u64,
    /// When it went out, by the monotonic clock, if anything limits it.
    pub(crate) published_at_ns: u64,
    /// For how long it may run.
    pub(crate) time_limit_ns: Option<u64>,
    /// Whether its worker tells for how long it ran.
    pub(crate) is_timed: bool,
    /// Why it was condemned.
    pub(crate) condemned: Option<Reason>,
    /// How often it went out.
    pub(crate) attempts: u32,
    /// What it was, if it may go out again.
    pub(crate) original: Option<Box<Original>>,
    /// Whether the slot is in `pending`.
    pub(crate) is_pending: bool,
    /// Where in the result file its result lies, from when it is found until it is released.
    pub(crate) result_at: Option<u64>,
}

/// A slot whose end has been seen and not yet been handed to the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) slot: u32,
    pub(crate) end: End,
}

/// How a task has ended, as far as is known before its slot is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The slot holds a result.
    Done,
    /// This worker died with the task.
    Lost(Incarnation),
    /// The task was condemned, and this worker has ended.
    Condemned(Incarnation, Reason),
    /// No worker has begun it, and none will.
    Withdrawn,
}

impl<T> SlotRecord<T> {
    fn new() -> Self {
        Self {
            turn: 0,
            ticket: None,
            arguments: None,
            parts: Vec::new(),
            position: 0,
            published_at_ns: 0,
            time_limit_ns: None,
            is_timed: false,
            condemned: None,
            attempts: 0,
            original: None,
            is_pending: false,
            result_at: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct State<T> {
    /// Of the slots that were ever used: the first so many of the table.
    pub(crate) slots: Vec<SlotRecord<T>>,
    /// Those of them that hold no task.
    free: Vec<u32>,
    slot_count: u32,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) found: Vec<u32>,
    pub(crate) space: Space,
    pub(crate) store: ObjectStore,
    pub(crate) run_ahead: RunAhead,
    pub(crate) results: Reader,
    pub(crate) ranges: Ranges,
    /// Buffers of results that are mapped here, by their offset.
    pub(crate) borrowed: HashMap<u64, Loan>,
    pub(crate) next_loan: u64,
    pub(crate) seats: Seats,
    pub(crate) pace: Pace,
    pub(crate) lives: HashMap<Incarnation, Life>,
    pub(crate) vacancies: VecDeque<Vacancy>,
    pub(crate) next_incarnation: u64,
    pub(crate) tasks_dispatched: u64,
    pub(crate) task_bytes: u64,
    pub(crate) worker_deaths: u64,
    /// Values of workers that could not be true.
    pub(crate) damaged: u64,
    /// Whether one of them was of the table itself, so that nothing in it can be relied on.
    pub(crate) is_damaged: bool,
    pub(crate) audit: Audit,
    /// When the supervisor looks at the table, by the monotonic clock; `u64::MAX` if it does not.
    pub(crate) audit_at_ns: u64,
    /// The position in the ring that is published next: the table's word for it is what workers read.
    pub(crate) next_position: u64,
    /// Whether the workers were asked to end.
    pub(crate) is_stopping: bool,
    pub(crate) retries: u64,
    pub(crate) timeouts: u64,
    pub(crate) memory_kills: u64,
    /// Tasks out that have a time limit.
    pub(crate) timed_count: usize,
    /// When the supervisor looks at limits, by the monotonic clock; `u64::MAX` if it does not.
    pub(crate) next_look_ns: u64,
    /// When the keeper wants to be told to look, by the monotonic clock; `u64::MAX` for never.
    pub(crate) remind_at_ns: u64,
}

impl<T> State<T> {
    pub(crate) fn new(
        layout: Layout,
        next_position: u64,
        space: Space,
        store: ObjectStore,
        results: Reader,
        ranges: Ranges,
    ) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            slot_count: layout.slot_count,
            pending: VecDeque::new(),
            found: Vec::new(),
            space,
            store,
            run_ahead: RunAhead::default(),
            results,
            ranges,
            borrowed: HashMap::new(),
            next_loan: 0,
            seats: Seats::new(layout.seat_count),
            pace: Pace::default(),
            lives: HashMap::new(),
            vacancies: VecDeque::new(),
            next_incarnation: 0,
            tasks_dispatched: 0,
            task_bytes: 0,
            worker_deaths: 0,
            damaged: 0,
            is_damaged: false,
            audit: Audit::default(),
            audit_at_ns: u64::MAX,
            next_position,
            is_stopping: false,
            retries: 0,
            timeouts: 0,
            memory_kills: 0,
            timed_count: 0,
            next_look_ns: u64::MAX,
            remind_at_ns: u64::MAX,
        }
    }

    /// Tells whether any task is out.
    pub(crate) fn has_tasks_out(&self) -> bool {
        self.free.len() < self.slots.len()
    }

    /// Tells whether a slot is free.
    pub(crate) fn has_slot(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.slot_count as usize
    }

    /// Takes a free slot: one that was used before, if there is one, for its memory has been touched.
    pub(crate) fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.slots.len() as u32;
        if slot == self.slot_count {
            return None;
        }
        self.slots.push(SlotRecord::new());
        Some(slot)
    }

    /// Gives the seat back of a worker that is gone, and whose leases have ended.
    pub(crate) fn give_seat(&mut self, seat: u32) {
        self.seats.give_back(seat);
        self.store.seat_count = self.seats.bound();
    }

    /// Gives a slot back that holds no task any more.
    pub(crate) fn give_slot(&mut self, slot: u32) {
        self.free.push(slot);
    }
}
