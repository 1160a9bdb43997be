//! The parent's own records, under the pool's lock. It never believes the table alone.

use std::collections::VecDeque;

use shuttle::thread::JoinHandle;

use super::ledger::End;
use super::plan::{Plan, SEAT_COUNT, SLOT_COUNT};
use super::worker::Identity;

/// A task that is out.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) attempt: usize,
    pub(crate) task: usize,
    pub(crate) turn: u64,
    pub(crate) position: u64,
    pub(crate) part: u64,
    pub(crate) is_condemned: bool,
    pub(crate) is_pending: bool,
}

/// A seat's worker.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) me: Identity,
    pub(crate) is_leaving: bool,
}

pub(crate) struct State {
    /// Free slots, and the turn of each.
    pub(crate) free: Vec<(u32, u64)>,
    pub(crate) out: [Option<Out>; SLOT_COUNT],
    /// Tasks that have ended, in order, and were not collected.
    pub(crate) pending: VecDeque<(u32, End)>,
    /// Tasks that wait to go out.
    pub(crate) waiting: VecDeque<usize>,
    /// Positions of tasks that are not known to be claimed.
    pub(crate) ahead: VecDeque<u64>,
    pub(crate) ended: usize,
    pub(crate) lives: [Option<Life>; SEAT_COUNT],
    pub(crate) wanted: usize,
    pub(crate) is_stopping: bool,
    /// Whether somebody patrols, because wakes are held.
    pub(crate) is_held: bool,
    /// The last result of each incarnation that was found.
    pub(crate) serials: Vec<u64>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl State {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            free: (0..SLOT_COUNT as u32).map(|slot| (slot, 0)).collect(),
            out: [None; SLOT_COUNT],
            pending: VecDeque::new(),
            waiting: (0..plan.task_count).collect(),
            ahead: VecDeque::new(),
            ended: 0,
            lives: [None; SEAT_COUNT],
            wanted: SEAT_COUNT,
            is_stopping: false,
            is_held: false,
            serials: Vec::new(),
            threads: Vec::new(),
        }
    }

    pub(crate) fn is_alive(&self, who: Identity) -> bool {
        self.lives[usize::from(who.owner.0)]
            .is_some_and(|life| life.me.incarnation == who.incarnation)
    }

    pub(crate) fn has_no_workers(&self) -> bool {
        self.lives.iter().all(Option::is_none)
    }

    /// Forgets positions before the head.
    pub(crate) fn claimed(&mut self, head: u64) {
        self.ahead.retain(|&position| position >= head);
    }
}
