//! What the parent knows of its slots and workers, behind one lock.
//!
//! The lock is never held while a language front can run: tickets, which may run user code when they
//! are dropped, are moved out and dropped after.

use std::collections::{HashMap, VecDeque};

use millpond_table::{Block, StoreId};

use crate::lives::{Incarnation, Life, Vacancy};
use crate::object_store::ObjectStore;
use crate::ranges::Ranges;
use crate::reader::Reader;
use crate::run_ahead::RunAhead;
use crate::space::Space;

/// What the parent knows of one slot, beside what lies in it.
#[derive(Debug)]
pub(crate) struct SlotRecord<T> {
    pub(crate) turn: u64,
    pub(crate) ticket: Option<T>,
    pub(crate) arguments: Option<Block>,
    pub(crate) parts: Vec<StoreId>,
    /// Whether the slot is in `pending`.
    pub(crate) is_pending: bool,
    /// Where in the result file its result lies, from when it is found until it is released.
    pub(crate) result_at: Option<u64>,
}

/// A slot whose end has been seen and not yet been handed to the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) slot: u32,
    /// The worker that died with the task, or `None` if the slot holds a result.
    pub(crate) lost_with: Option<Incarnation>,
}

#[derive(Debug)]
pub(crate) struct State<T> {
    pub(crate) slots: Vec<SlotRecord<T>>,
    pub(crate) free: Vec<u32>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) found: Vec<u32>,
    pub(crate) space: Space,
    pub(crate) store: ObjectStore,
    pub(crate) run_ahead: RunAhead,
    pub(crate) results: Reader,
    pub(crate) ranges: Ranges,
    pub(crate) lives: HashMap<Incarnation, Life>,
    pub(crate) vacancies: VecDeque<Vacancy>,
    pub(crate) next_incarnation: u64,
    pub(crate) tasks_dispatched: u64,
    pub(crate) task_bytes: u64,
    pub(crate) worker_deaths: u64,
    pub(crate) damaged: u64,
}
