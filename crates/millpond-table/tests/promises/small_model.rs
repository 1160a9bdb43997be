//! What a small table should hold after each operation, told without atomics: `small_worlds.rs` plays.

use std::collections::VecDeque;

use millpond_table::{Audit, Known, Outstanding, Owner, Payload, Phase, Table};

pub(crate) const WORKERS: usize = 2;
pub(crate) const SLOTS: usize = 2;
/// The ring has four cells a slot; half of it may be used, and a publish that asks before finds room as
/// long as a quarter is.
const CELLS_MAX: usize = 2 * SLOTS;
const CELLS_ASKED: usize = SLOTS;

/// What a process does, as a whole. A worker's number or a slot's is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Publish,
    Claim(usize),
    Begin(usize),
    Complete(usize),
    /// The worker finds nothing and sleeps, if it may.
    Sleep(usize),
    /// The worker's process ends, in order or not; the next one takes its seat.
    Die(usize),
    TakeDone,
    Free,
    /// An ended task goes out once more.
    Retry,
    Withdraw(usize),
    Condemn(usize),
    Dismiss(usize),
}

/// What the table should hold. A worker holds one task at a time.
#[derive(Clone, Default)]
pub(crate) struct Model {
    published: u32,
    /// The cells from head to tail: slot and turn, stale or not.
    cells: VecDeque<(usize, u64)>,
    words: [Word; SLOTS],
    /// Slot and turn of what each worker has claimed, whatever became of it since.
    held: [Option<(usize, u64)>; WORKERS],
    done: Vec<usize>,
    /// The parent knows of their end, and may free them or send them out again.
    ended: VecDeque<usize>,
    is_asleep: [bool; WORKERS],
    is_dismissed: [bool; WORKERS],
    /// Of each task that was published, how often it began.
    begun: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Word {
    phase: Option<Phase>,
    owner: usize,
    turn: u64,
    task: u32,
}

impl Word {
    fn is(&self, phase: Phase) -> bool {
        self.phase.unwrap_or(Phase::Free) == phase
    }
}

impl Model {
    fn is_unused(&self, slot: usize) -> bool {
        self.words[slot].is(Phase::Free) && !self.ended.contains(&slot)
    }

    fn unused(&self) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.is_unused(slot))
    }

    fn is_ready(&self, (slot, turn): (usize, u64)) -> bool {
        self.words[slot].is(Phase::Ready) && self.words[slot].turn == turn
    }

    fn skip_stale(&mut self) {
        while self.cells.front().is_some_and(|&cell| !self.is_ready(cell)) {
            self.cells.pop_front();
        }
    }

    /// The worker's task, if it is its own still, in this phase.
    fn holds(&self, worker: usize, phase: Phase) -> bool {
        self.held[worker].is_some_and(|(slot, turn)| {
            let word = self.words[slot];
            word.is(phase) && word.turn == turn && word.owner == worker
        })
    }

    /// Whether anybody would do this now; what changes nothing is left out.
    pub(crate) fn is_legal(&self, op: Op) -> bool {
        let is_idle = |worker: usize| self.held[worker].is_none() && !self.is_asleep[worker];
        match op {
            Op::Publish => self.unused().is_some(),
            Op::Claim(worker) => is_idle(worker) && !self.is_dismissed[worker],
            Op::Sleep(worker) => is_idle(worker),
            Op::Begin(worker) => {
                self.held[worker].is_some()
                    && !self.holds(worker, Phase::Begun)
                    && !self.holds(worker, Phase::Condemned)
            }
            Op::Complete(worker) => {
                self.holds(worker, Phase::Begun) || self.holds(worker, Phase::Condemned)
            }
            Op::Die(_) | Op::TakeDone => true,
            Op::Free => !self.ended.is_empty(),
            // A task that was taken back is not sent out again: each time would leave one stale cell more.
            Op::Retry => self.ended.front().is_some_and(|&slot| !self.words[slot].is(Phase::Free)),
            Op::Withdraw(slot) | Op::Condemn(slot) => {
                !self.words[slot].is(Phase::Free) && !self.ended.contains(&slot)
            }
            Op::Dismiss(worker) => !self.is_dismissed[worker],
        }
    }

    /// Does `op` in the model and in the table, and compares.
    pub(crate) fn step(&mut self, table: Table<'_>, op: Op) {
        match op {
            Op::Publish => self.publish(table),
            Op::Claim(worker) => self.claim(table, worker),
            Op::Sleep(worker) => {
                let sleeps = self.cells.is_empty() && !self.is_dismissed[worker];
                assert_eq!(table.worker_may_sleep(owner(worker)).is_some(), sleeps);
                self.is_asleep[worker] = sleeps;
            }
            Op::Begin(worker) => {
                let Some((slot, turn)) = self.held[worker] else { return };
                let is_mine = self.holds(worker, Phase::Taken);
                assert_eq!(table.slot(slot as u32).begin(owner(worker), turn), is_mine);
                if is_mine {
                    self.words[slot].phase = Some(Phase::Begun);
                    self.begun[self.words[slot].task as usize] += 1;
                } else {
                    self.held[worker] = None;
                }
            }
            Op::Complete(worker) => {
                let Some((slot, turn)) = self.held[worker] else { return };
                let is_begun = self.holds(worker, Phase::Begun);
                let is_complete = table.complete(slot as u32, owner(worker), turn).is_some();
                assert_eq!(is_complete, is_begun);
                if is_begun {
                    self.held[worker] = None;
                    self.words[slot].phase = Some(Phase::Done);
                    self.done.push(slot);
                }
            }
            Op::Die(worker) => self.die(table, worker),
            Op::TakeDone => {
                let mut found = Vec::new();
                table.take_done(&mut found).expect("nobody scribbles");
                assert!(found.iter().map(|&slot| slot as usize).eq(self.done.drain(..)));
                self.ended.extend(found.iter().map(|&slot| slot as usize));
            }
            Op::Free => {
                let Some(slot) = self.ended.pop_front() else { return };
                self.free(table, slot);
            }
            Op::Retry => {
                let Some(slot) = self.ended.pop_front() else { return };
                self.free(table, slot);
                self.send(table, slot);
            }
            Op::Withdraw(slot) => {
                let word = self.words[slot];
                let may = word.is(Phase::Ready) || word.is(Phase::Taken);
                assert_eq!(table.slot(slot as u32).withdraw(word.turn), may);
                if may {
                    self.words[slot].phase = Some(Phase::Free);
                    self.ended.push_back(slot);
                }
            }
            Op::Condemn(slot) => {
                let word = self.words[slot];
                let whose = word.is(Phase::Begun).then(|| owner(word.owner));
                assert_eq!(table.slot(slot as u32).condemn(word.turn), whose);
                if whose.is_some() {
                    self.words[slot].phase = Some(Phase::Condemned);
                }
            }
            Op::Dismiss(worker) => {
                let woken = table.dismiss(owner(worker)).is_some();
                assert_eq!(woken, self.is_asleep[worker], "a dismissed worker sleeps on");
                self.is_asleep[worker] = false;
                self.is_dismissed[worker] = true;
            }
        }
        self.compare(table);
    }

    fn publish(&mut self, table: Table<'_>) {
        let Some(slot) = self.unused() else { return };
        if self.cells.len() >= CELLS_ASKED {
            self.skip_stale();
        }
        let has_room = self.cells.len() < CELLS_ASKED;
        assert_eq!(table.has_room(), has_room);
        if has_room {
            self.send(table, slot);
        }
    }

    /// Hands out a slot that holds no task, and wakes the first of those who sleep.
    fn send(&mut self, table: Table<'_>, slot: usize) {
        if self.cells.len() >= CELLS_MAX {
            self.skip_stale();
        }
        self.published += 1;
        self.begun.resize(self.published as usize + 1, 0);
        let turn = self.words[slot].turn;
        table.slot(slot as u32).describe(payload(self.published));
        let position = table.publish(slot as u32, turn);
        assert!(position.is_some(), "{} cells leave no room", self.cells.len());
        self.words[slot] = Word { phase: Some(Phase::Ready), owner: 0, turn, task: self.published };
        self.cells.push_back((slot, turn));
        let woken = (0..WORKERS).find(|&worker| self.is_asleep[worker]);
        assert_eq!(table.wake_one().is_some(), woken.is_some());
        if let Some(worker) = woken {
            self.is_asleep[worker] = false;
            table.worker_awake(owner(worker));
        }
    }

    fn claim(&mut self, table: Table<'_>, worker: usize) {
        self.skip_stale();
        let wanted = self.cells.pop_front();
        let found = table.claim(owner(worker)).expect("nobody scribbles");
        assert_eq!(found.map(|claim| (claim.slot as usize, claim.turn)), wanted);
        self.held[worker] = wanted;
        let Some((slot, _)) = wanted else { return };
        assert_eq!(table.slot(slot as u32).payload(), payload(self.words[slot].task));
        self.words[slot].phase = Some(Phase::Taken);
        self.words[slot].owner = worker;
    }

    fn die(&mut self, table: Table<'_>, worker: usize) {
        let is_taken = self.holds(worker, Phase::Taken);
        let held = self.held[worker].take();
        // All that the seat's workers left and that is not freed yet, whoever of them left it there.
        let left = |phases: &[Phase]| {
            let is_left = |slot: &usize| {
                let word = self.words[*slot];
                word.owner == worker && phases.iter().any(|&phase| word.is(phase))
            };
            (0..SLOTS).rev().filter(is_left).map(|slot| slot as u32).collect::<Vec<_>>()
        };
        let (lost, done) = (left(&[Phase::Begun, Phase::Condemned]), left(&[Phase::Done]));
        let found = table.recover(owner(worker));
        assert_eq!((&found.lost, &found.done), (&lost, &done));
        assert_eq!(found.given_back, usize::from(is_taken));
        for slot in lost {
            if !self.ended.contains(&(slot as usize)) {
                self.ended.push_back(slot as usize);
            }
        }
        if let Some(cell) = held
            && is_taken
        {
            self.words[cell.0].phase = Some(Phase::Ready);
            self.cells.push_front(cell);
        }
        let mut woken = 0;
        table.wake_all(|_| woken += 1);
        self.is_asleep[worker] = false;
        let asleep = self.is_asleep.iter().filter(|&&is_asleep| is_asleep).count();
        assert!(woken > asleep, "{woken} are woken, with the parent, and {asleep} sleep");
        for other in (0..WORKERS).filter(|&other| self.is_asleep[other]) {
            table.worker_awake(owner(other));
        }
        self.is_asleep = [false; WORKERS];
        table.seats()[worker].reset();
        self.is_dismissed[worker] = false;
    }

    fn free(&mut self, table: Table<'_>, slot: usize) {
        let turn = table.slot(slot as u32).free(self.words[slot].turn);
        self.words[slot] = Word { turn, ..Word::default() };
    }

    /// Looks twice whether all that is out can be explained.
    pub(crate) fn audit(&self, table: Table<'_>) {
        let is_out = |slot: &usize| {
            !self.words[*slot].is(Phase::Free)
                && !self.ended.contains(slot)
                && !self.done.contains(slot)
        };
        let task_of = |slot: usize| Outstanding { slot: slot as u32, turn: self.words[slot].turn };
        let out: Vec<_> = (0..SLOTS).filter(is_out).map(task_of).collect();
        let tail = table.tail_position();
        let known = Known { tail, is_stopping: false, out: &out, sits: |_| true };
        let mut audit = Audit::default();
        for _ in 0..2 {
            audit.look(table, &known).expect("nobody scribbles");
        }
    }

    fn compare(&self, table: Table<'_>) {
        assert_eq!(table.has_done(), !self.done.is_empty());
        assert_eq!(table.has_ready(), !self.cells.is_empty());
        assert!(self.begun.iter().all(|&times| times <= 1), "a task began twice");
        for (slot, wanted) in self.words.iter().enumerate() {
            let word = table.slot(slot as u32).word();
            assert_eq!(word.turn(), wanted.turn);
            assert_eq!(word.phase(), Some(wanted.phase.unwrap_or(Phase::Free)), "slot {slot}");
            if !wanted.is(Phase::Free) && !wanted.is(Phase::Ready) {
                assert_eq!(word.owner(), owner(wanted.owner));
            }
        }
        for worker in 0..WORKERS {
            assert_eq!(table.seats()[worker].must_leave(), self.is_dismissed[worker]);
        }
    }
}

fn owner(worker: usize) -> Owner {
    Owner(worker as u16)
}

fn payload(task: u32) -> Payload {
    Payload { kind: task, len: 300 + u64::from(task), offset: Some(64), note_len: 2 }
}
