//! What the table's steps cost: publish, claim, complete, and who is woken.
//!
//! Run by `make bench-rust`. The figures are of one machine and one moment; what can be held against a
//! change are the instruction counts of `tools/instructions.py`.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::sync::atomic::{AtomicBool, Ordering};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use millpond_table::{Completions, HeapTable, Layout, Owner, Payload, Table};

/// Tasks of one sample: more than the first-level cache holds as slots, fewer than there are slots.
const TASKS: u32 = 512;
const BYTES: [u8; 24] = [7; 24];

fn main() {
    divan::main();
}

fn heap(seat_count: u32) -> HeapTable {
    HeapTable::new(Layout { slot_count: 1024, seat_count, store_count: 1 })
}

fn inline() -> Payload {
    Payload { kind: 1, len: BYTES.len() as u64, offset: None, note_len: 0 }
}

/// Posts a task: payload, description, ring.
fn post(table: Table<'_>, index: u32) {
    let slot = table.slot(index);
    slot.write_inline(&BYTES);
    slot.describe(inline());
    assert!(table.publish(index, slot.word().turn()).is_some());
}

fn post_all(table: Table<'_>) {
    for index in 0..TASKS {
        post(table, index);
    }
}

/// Claims one task and says that it begins; whether there was one.
fn claim_one(table: Table<'_>, owner: Owner) -> Option<(u32, u64)> {
    let claim = table.claim(owner).unwrap()?;
    assert!(table.slot(claim.slot).begin(owner, claim.turn));
    Some((claim.slot, claim.turn))
}

/// Frees all that is done, and tells how many that were.
fn free_done(table: Table<'_>, found: &mut Completions) -> u32 {
    table.take_done(found).unwrap();
    for index in found.iter() {
        let slot = table.slot(*index);
        slot.free(slot.word().turn());
    }
    let count = found.len() as u32;
    found.clear();
    count
}

mod one_thread {
    use super::*;

    #[divan::bench]
    fn posts(bencher: Bencher<'_, '_>) {
        bencher
            .counter(ItemsCount::new(TASKS))
            .with_inputs(|| heap(1))
            .bench_refs(|heap| post_all(heap.table()));
    }

    #[divan::bench]
    fn claims(bencher: Bencher<'_, '_>) {
        let posted = || {
            let heap = heap(1);
            post_all(heap.table());
            heap
        };
        bencher.counter(ItemsCount::new(TASKS)).with_inputs(posted).bench_refs(|heap| {
            while let Some(task) = claim_one(heap.table(), Owner(0)) {
                black_box(task);
            }
        });
    }

    #[divan::bench]
    fn completes(bencher: Bencher<'_, '_>) {
        let begun = || {
            let heap = heap(1);
            post_all(heap.table());
            let mut tasks = Vec::with_capacity(TASKS as usize);
            while let Some(task) = claim_one(heap.table(), Owner(0)) {
                tasks.push(task);
            }
            (heap, tasks)
        };
        bencher.counter(ItemsCount::new(TASKS)).with_inputs(begun).bench_refs(|(heap, tasks)| {
            for (slot, turn) in tasks {
                assert_eq!(heap.table().complete(*slot, Owner(0), *turn), Some(false));
            }
        });
    }

    /// A task's whole way, and the slot free again.
    #[divan::bench]
    fn round_trips(bencher: Bencher<'_, '_>) {
        let heap = heap(1);
        let table = heap.table();
        let mut found = Completions::new();
        bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
            post_all(table);
            while let Some((slot, turn)) = claim_one(table, Owner(0)) {
                assert_eq!(table.complete(slot, Owner(0), turn), Some(false));
            }
            assert_eq!(free_done(table, &mut found), TASKS);
        });
    }
}

mod many_threads {
    use super::*;

    /// Workers that contend for head and done stack; the parent posts and frees on this thread.
    #[divan::bench(args = [1, 2, 4, 8])]
    fn round_trips(bencher: Bencher<'_, '_>, workers: u16) {
        let heap = heap(u32::from(workers));
        let table = heap.table();
        let stop = AtomicBool::new(false);
        let mut found = Completions::new();
        std::thread::scope(|scope| {
            for owner in (0..workers).map(Owner) {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match claim_one(table, owner) {
                            Some((slot, turn)) => {
                                let _ = table.complete(slot, owner, turn);
                            }
                            None => std::thread::yield_now(),
                        }
                    }
                });
            }
            bencher.counter(ItemsCount::new(TASKS)).bench_local(|| {
                post_all(table);
                let mut left = TASKS;
                while left > 0 {
                    left -= free_done(table, &mut found);
                    std::thread::yield_now();
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// The bookkeeping of sleep and wake; the futex calls are the engine's.
mod waiting {
    use super::*;

    /// A worker announces its sleep, finds nothing, and is awake again.
    #[divan::bench]
    fn worker_rests(bencher: Bencher<'_, '_>) {
        let heap = heap(64);
        let table = heap.table();
        bencher.bench_local(|| {
            assert!(table.worker_may_sleep(Owner(3)).is_some());
            table.worker_awake(Owner(3));
        });
    }

    /// What each publish pays where nobody sleeps: the fence, and a look at the sleepers.
    #[divan::bench]
    fn parent_wakes_nobody(bencher: Bencher<'_, '_>) {
        let heap = heap(64);
        let table = heap.table();
        bencher.bench_local(|| assert!(black_box(table.wake_one()).is_none()));
    }

    /// The last of many seats sleeps, and is woken.
    #[divan::bench(args = [1, 64, 1024])]
    fn parent_wakes_the_last(bencher: Bencher<'_, '_>, seats: u16) {
        let heap = heap(u32::from(seats));
        let table = heap.table();
        bencher.bench_local(|| {
            assert!(table.worker_may_sleep(Owner(seats - 1)).is_some());
            assert!(table.wake_one().is_some());
            table.worker_awake(Owner(seats - 1));
        });
    }

    /// What each publish pays in asking whether somebody spins.
    #[divan::bench]
    fn parent_sees_a_spinner(bencher: Bencher<'_, '_>) {
        let heap = heap(1);
        let table = heap.table();
        assert!(table.may_spin(Owner(0)));
        bencher.bench_local(|| assert!(black_box(table.someone_spins())));
    }

    #[divan::bench]
    fn parent_rests(bencher: Bencher<'_, '_>) {
        let heap = heap(1);
        let table = heap.table();
        bencher.bench_local(|| {
            assert!(table.parent_may_sleep().is_some());
            table.parent_awake();
        });
    }
}
