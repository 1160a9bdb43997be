//! Every legal sequence of a few operations with two workers and two slots, against a plain model.

use std::collections::VecDeque;

use millpond_table::{Claim, HeapTable, Layout, Owner, Payload, Phase, Table};
use proptest::prelude::*;

const WORKERS: usize = 2;
const SLOTS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Publish,
    Claim(usize),
    Begin(usize),
    Complete(usize),
    Die(usize),
    TakeDone,
    Free,
}

const OPS: [Op; 11] = [
    Op::Publish,
    Op::Claim(0),
    Op::Claim(1),
    Op::Begin(0),
    Op::Begin(1),
    Op::Complete(0),
    Op::Complete(1),
    Op::Die(0),
    Op::Die(1),
    Op::TakeDone,
    Op::Free,
];

/// What the table should hold. A worker holds one task at a time, begun or not.
#[derive(Clone, Default)]
struct Model {
    published: u32,
    ready: VecDeque<usize>,
    held: [Option<(usize, bool)>; WORKERS],
    done: Vec<usize>,
    /// Taken off the done stack, or lost: the parent may free them.
    ended: VecDeque<usize>,
    /// Who had the slot last, and whether the task was lost.
    last: [(usize, bool); SLOTS],
    turns: [u64; SLOTS],
    next_task: [u32; SLOTS],
}

impl Model {
    fn is_free(&self, slot: usize) -> bool {
        !self.ready.contains(&slot)
            && !self.held.iter().flatten().any(|held| held.0 == slot)
            && !self.done.contains(&slot)
            && !self.ended.contains(&slot)
    }

    fn is_legal(&self, op: Op) -> bool {
        match op {
            Op::Publish => (0..SLOTS).any(|slot| self.is_free(slot)),
            Op::Claim(worker) => self.held[worker].is_none(),
            Op::Begin(worker) => matches!(self.held[worker], Some((_, false))),
            Op::Complete(worker) => matches!(self.held[worker], Some((_, true))),
            Op::Die(_) | Op::TakeDone => true,
            Op::Free => !self.ended.is_empty(),
        }
    }

    /// Does `op` in the model and in the table, and compares.
    fn step(&mut self, table: Table<'_>, op: Op) {
        match op {
            Op::Publish => {
                let Some(slot) = (0..SLOTS).find(|&slot| self.is_free(slot)) else { return };
                self.published += 1;
                self.next_task[slot] = self.published;
                table.slot(slot as u32).describe(payload(self.published));
                assert!(table.publish(slot as u32, self.turns[slot]).is_some());
                self.ready.push_back(slot);
            }
            Op::Claim(worker) => {
                let wanted = self.ready.pop_front();
                let found = table.claim(Owner(worker as u16)).expect("nobody scribbles");
                let turn = wanted.map(|slot| self.turns[slot]);
                assert_eq!(found.map(|claim| claim.slot as usize), wanted);
                assert_eq!(found.map(|claim| claim.turn), turn);
                if let Some(Claim { slot, .. }) = found {
                    let payload_found = table.slot(slot).payload();
                    assert_eq!(payload_found, payload(self.next_task[slot as usize]));
                }
                self.held[worker] = wanted.map(|slot| (slot, false));
                if let Some(slot) = wanted {
                    self.last[slot] = (worker, false);
                }
            }
            Op::Begin(worker) => {
                let Some((slot, _)) = self.held[worker] else { return };
                assert!(table.slot(slot as u32).begin(Owner(worker as u16), self.turns[slot]));
                self.held[worker] = Some((slot, true));
            }
            Op::Complete(worker) => {
                let Some((slot, _)) = self.held[worker].take() else { return };
                let _ = table.complete(slot as u32, Owner(worker as u16), self.turns[slot]);
                self.done.push(slot);
            }
            Op::Die(worker) => {
                let found = table.recover(Owner(worker as u16));
                let mut given_back = 0;
                match self.held[worker].take() {
                    Some((slot, true)) => {
                        self.last[slot] = (worker, true);
                        self.ended.push_back(slot);
                    }
                    Some((slot, false)) => {
                        self.ready.push_front(slot);
                        given_back = 1;
                    }
                    None => {}
                }
                assert_eq!(found.given_back, given_back);
                // What the seat's worker left, and all that is not freed yet, whoever left it there.
                let left = |is_lost| {
                    let has_ended =
                        |slot: &usize| self.done.contains(slot) || self.ended.contains(slot);
                    let is_his = |slot: &usize| self.last[*slot] == (worker, is_lost);
                    let slots = (0..SLOTS).rev().filter(has_ended).filter(is_his);
                    slots.map(|slot| slot as u32).collect::<Vec<_>>()
                };
                assert_eq!(found.lost, left(true));
                assert_eq!(found.done, left(false));
            }
            Op::TakeDone => {
                let mut found = Vec::new();
                table.take_done(&mut found).expect("nobody scribbles");
                assert!(found.iter().map(|&slot| slot as usize).eq(self.done.drain(..)));
                self.ended.extend(found.iter().map(|&slot| slot as usize));
            }
            Op::Free => {
                let Some(slot) = self.ended.pop_front() else { return };
                self.turns[slot] = table.slot(slot as u32).free(self.turns[slot]);
            }
        }
        self.compare(table);
    }

    fn compare(&self, table: Table<'_>) {
        assert_eq!(table.has_done(), !self.done.is_empty());
        // A cell whose task is claimed may stand at the head; the opposite may not be.
        assert!(table.has_ready() || self.ready.is_empty());
        for slot in 0..SLOTS {
            let word = table.slot(slot as u32).word();
            assert_eq!(word.turn(), self.turns[slot]);
            let held = (0..WORKERS).find(|&worker| self.held[worker].is_some_and(|h| h.0 == slot));
            let wanted = if self.ready.contains(&slot) {
                Phase::Ready
            } else if let Some(worker) = held {
                assert_eq!(word.owner(), Owner(worker as u16));
                if self.held[worker] == Some((slot, true)) { Phase::Begun } else { Phase::Taken }
            } else if self.is_free(slot) {
                Phase::Free
            } else if self.done.contains(&slot) || word.phase() == Some(Phase::Done) {
                Phase::Done
            } else {
                // Lost and not yet freed.
                Phase::Begun
            };
            assert_eq!(word.phase(), Some(wanted), "slot {slot}");
        }
    }
}

fn payload(task: u32) -> Payload {
    Payload { kind: task, len: 300 + u64::from(task), offset: Some(64), note_len: 2 }
}

fn table() -> HeapTable {
    HeapTable::new(Layout { slot_count: SLOTS as u32, seat_count: WORKERS as u32, store_count: 1 })
}

/// Plays all legal continuations of `played` up to `len` operations; returns how many there are.
fn play_all(played: &mut Vec<Op>, model: &Model, len: usize) -> u64 {
    let mut count = 0;
    for op in OPS {
        if !model.is_legal(op) {
            continue;
        }
        // A table cannot be copied, so the way to here is played again.
        let heap = table();
        let mut next = Model::default();
        for &before in &*played {
            next.step(heap.table(), before);
        }
        next.step(heap.table(), op);
        count += 1;
        if len > 1 {
            played.push(op);
            count += play_all(played, &next, len - 1);
            played.pop();
        }
    }
    count
}

#[test]
fn every_sequence_of_seven_operations_does_what_the_model_does() {
    let count = play_all(&mut Vec::new(), &Model::default(), 7);
    assert!(count > 100_000, "only {count} sequences are legal");
}

proptest! {
    #[test]
    fn long_lives_do_what_the_model_does(choices in prop::collection::vec(0usize..OPS.len(), 1..400)) {
        let heap = table();
        let mut model = Model::default();
        for choice in choices {
            if model.is_legal(OPS[choice]) {
                model.step(heap.table(), OPS[choice]);
            }
        }
    }
}
