//! Every legal sequence of a few operations with two workers and two slots, against a plain model. Each
//! worker may die between any two of them; deaths within one are `tests/loom.rs`'s.

use millpond_table::{HeapTable, Layout};
use proptest::prelude::*;

use crate::small_model::{Model, Op, SLOTS, WORKERS};

/// A task's way, and deaths.
const WAYS: [Op; 11] = [
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

/// What the parent does beside: it takes tasks back, condemns them, sends them out again, and dismisses
/// workers, who may sleep.
const STOPS: [Op; 9] = [
    Op::Withdraw(0),
    Op::Withdraw(1),
    Op::Condemn(0),
    Op::Condemn(1),
    Op::Dismiss(0),
    Op::Dismiss(1),
    Op::Sleep(0),
    Op::Sleep(1),
    Op::Retry,
];

fn all_ops() -> Vec<Op> {
    [&WAYS[..], &STOPS[..]].concat()
}

fn table() -> HeapTable {
    HeapTable::new(Layout { slot_count: SLOTS as u32, seat_count: WORKERS as u32, store_count: 1 })
}

/// Plays what `played` holds, and then all its legal continuations by `len` operations; returns how many
/// there are.
fn play_all(ops: &[Op], played: &mut Vec<Op>, len: usize) -> u64 {
    // A table cannot be copied, so the way to here is played again.
    let (heap, mut model) = (table(), Model::default());
    for &op in &*played {
        model.step(heap.table(), op);
    }
    if len == 0 {
        return 0;
    }
    let mut count = 0;
    for &op in ops.iter().filter(|&&op| model.is_legal(op)) {
        played.push(op);
        count += 1 + play_all(ops, played, len - 1);
        played.pop();
    }
    count
}

#[test]
fn every_sequence_of_seven_operations_does_what_the_model_does() {
    let count = play_all(&WAYS, &mut Vec::new(), 7);
    assert!(count > 100_000, "only {count} sequences are legal");
}

/// From where both workers have claimed, and one has begun: the operations before are of no other kind.
#[test]
fn every_sequence_of_stops_does_what_the_model_does() {
    let starts: [&[Op]; 4] = [
        &[],
        &[Op::Publish, Op::Publish],
        &[Op::Publish, Op::Claim(0), Op::Begin(0)],
        &[Op::Publish, Op::Publish, Op::Claim(0), Op::Claim(1), Op::Begin(1)],
    ];
    let ops = all_ops();
    let count: u64 = starts.iter().map(|start| play_all(&ops, &mut start.to_vec(), 6)).sum();
    assert!(count > 5_000_000, "only {count} sequences are legal");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn long_lives_do_what_the_model_does(choices in prop::collection::vec(0usize..20, 1..400)) {
        let heap = table();
        let mut model = Model::default();
        let ops = all_ops();
        for choice in choices {
            if model.is_legal(ops[choice]) {
                model.step(heap.table(), ops[choice]);
                model.audit(heap.table());
            }
        }
    }
}
