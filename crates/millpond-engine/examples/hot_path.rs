//! A fixed number of tasks on the hot path, in one process and one thread, for `tools/instructions.py`.
//!
//! `hot_path table N` posts, claims, begins, completes and frees N tasks in the table alone;
//! `hot_path engine N` does the same through the engine and a worker, with payloads that lie in the
//! slot; `hot_path arena N` with payloads that lie in the arenas. Nothing depends on time or on another
//! thread, so two runs of one binary differ by a handful of instructions.
#![allow(clippy::unwrap_used, reason = "a program that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "it tells how many tasks it did")]

use millpond_engine::{Config, Engine, Outcome, Task, WARM_LEN_MAX, Worker};
use millpond_table::{Completions, HeapTable, Layout, Owner, Payload};

/// Tasks that are out at a time.
const BATCH: u64 = 32;
const INLINE: [u8; 24] = [7; 24];
const LONG: [u8; 1024] = [7; 1024];

fn through_the_table(tasks: u64) {
    let heap = HeapTable::new(Layout { slot_count: 64, seat_count: 1, store_count: 1 });
    let table = heap.table();
    let owner = Owner(0);
    let payload = Payload { kind: 1, len: INLINE.len() as u64, offset: None, note_len: 0 };
    let mut found = Completions::new();
    for _ in 0..tasks / BATCH {
        for index in 0..BATCH as u32 {
            let slot = table.slot(index);
            slot.write_inline(&INLINE);
            slot.describe(payload);
            assert!(table.publish(index, slot.word().turn()).is_some());
            assert!(table.wake_one().is_none());
        }
        while let Some(claim) = table.claim(owner).unwrap() {
            assert!(table.slot(claim.slot).begin(owner, claim.turn));
            assert_eq!(table.complete(claim.slot, owner, claim.turn), Some(false));
        }
        table.take_done(&mut found).unwrap();
        assert_eq!(found.len() as u64, BATCH);
        for index in found.drain(..) {
            let slot = table.slot(index);
            slot.free(slot.word().turn());
        }
    }
}

fn through_the_engine(tasks: u64, bytes: &[u8]) {
    let config = Config { worker_count: 1, warm_len_max: WARM_LEN_MAX, memory_limit: None };
    let engine = Engine::new(config).unwrap();
    let mut worker = Worker::join(&engine.take_seat().unwrap()).unwrap();
    for first in (0..tasks).step_by(BATCH as usize) {
        for ticket in first..first + BATCH {
            assert!(engine.has_room(bytes.len() as u64));
            let task = Task {
                ticket,
                kind: 1,
                bytes,
                parts: &[],
                counted_len: bytes.len() as u64,
                time_limit: None,
                is_timed: false,
                may_retry: false,
            };
            engine.publish(task).unwrap();
        }
        while let Some(task) = worker.claim().unwrap() {
            assert!(worker.begin(&task));
            assert_eq!(worker.payload(&task).unwrap().len(), bytes.len());
            assert!(worker.complete(&task, 1, &[], bytes).unwrap());
        }
        for ticket in first..first + BATCH {
            let collected = engine.collect().unwrap();
            assert!(matches!(collected.outcome, Outcome::Result { .. }));
            assert_eq!(engine.release(collected), ticket);
        }
    }
    drop(worker);
    engine.shut_down();
}

fn main() {
    let arguments = std::env::args().collect::<Vec<_>>();
    let tasks = arguments[2].parse::<u64>().unwrap().next_multiple_of(BATCH);
    match arguments[1].as_str() {
        "table" => through_the_table(tasks),
        "engine" => through_the_engine(tasks, &INLINE),
        "arena" => through_the_engine(tasks, &LONG),
        other => panic!("no way {other:?}: table, engine or arena"),
    }
    println!("{tasks}");
}
