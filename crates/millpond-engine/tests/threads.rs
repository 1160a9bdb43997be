//! A whole pool in one process: threads in the place of workers, callers and leader.
//!
//! Each worker maps the shared memory for itself, as a process does. So `make test-threads` sees here
//! what the parent's threads do to each other; how bytes pass through a slot it sees in
//! `crates/millpond-table/tests/promises/threads.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millpond_engine::{
    Config, Ending, Engine, HandOver, Next, Outcome, StoreId, Task, Vacancy, WARM_LEN_MAX, Worker,
};
use testkit::watchdog::Watchdog;

const CALLER_COUNT: usize = 3;
const TASK_COUNT: usize = 1200;
/// Every so many tasks a payload is too long for a slot, and lies in the arena.
const LONG_EVERY: usize = 5;
const LONG_LEN: usize = 3000;
/// The task that a worker begins and does not end.
const FATAL: usize = 777;

fn bytes_of(number: usize) -> Vec<u8> {
    let len = if number.is_multiple_of(LONG_EVERY) { LONG_LEN } else { 16 };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len, number as u8);
    bytes
}

/// What a task's stored part holds.
fn part_of(number: usize) -> [u8; 5000] {
    [(number % 7) as u8; 5000]
}

fn number_of(bytes: &[u8]) -> usize {
    let number = usize::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, bytes_of(number));
    number
}

/// Does what a worker's process does, but for one task, at which it is gone.
fn work(hand_over: HandOver) {
    let mut worker = Worker::join(&hand_over).unwrap();
    worker.ready();
    loop {
        let task = match worker.wait().unwrap() {
            Next::Task(task) => task,
            Next::Stop => break,
            Next::Idle | Next::Interrupted => continue,
        };
        if !worker.begin(&task) {
            continue;
        }
        let payload = worker.payload(&task).unwrap().to_vec();
        let (number, part) = payload.split_at(payload.len() - 12);
        let number = number_of(number);
        if number == FATAL {
            return;
        }
        let entry = u32::from_le_bytes(part[..4].try_into().unwrap());
        let turn = u64::from_le_bytes(part[4..].try_into().unwrap());
        let (stored, _) = worker.stored(StoreId { entry, turn }).unwrap().unwrap();
        assert!(stored.equals(0, &part_of(number)));
        assert!(worker.complete(&task, 0, b"", &bytes_of(number + 1)).unwrap());
    }
    worker.retire();
}

/// Publishes a caller's tasks, each with a part that it shares with others.
fn call(engine: &Engine<usize>, turn_to_publish: &Mutex<()>, caller: usize) {
    for number in (0..TASK_COUNT).skip(caller).step_by(CALLER_COUNT) {
        let part = engine.store(&part_of(number), 0, 0).unwrap();
        let mut bytes = bytes_of(number);
        bytes.extend(part.entry.to_le_bytes());
        bytes.extend(part.turn.to_le_bytes());
        // The front, too, lets one thread at a time ask for room and take it.
        let mut guard = turn_to_publish.lock().unwrap();
        while !engine.has_room(bytes.len() as u64) {
            drop(guard);
            thread::yield_now();
            guard = turn_to_publish.lock().unwrap();
        }
        let task = Task {
            ticket: number,
            kind: 0,
            bytes: &bytes,
            parts: &[part],
            counted_len: bytes.len() as u64,
            time_limit: number.is_multiple_of(3).then_some(Duration::from_secs(600)),
            is_timed: number.is_multiple_of(2),
            may_retry: number.is_multiple_of(4),
        };
        engine.publish(task).map_err(|(_, error)| error).unwrap();
        drop(guard);
        engine.let_go(part);
    }
}

/// Collects until every task has ended, each once; returns those that were lost.
fn lead(engine: &Engine<usize>) -> Vec<usize> {
    let mut ends = vec![0; TASK_COUNT];
    let mut lost = Vec::new();
    for _ in 0..TASK_COUNT {
        let collected = loop {
            match engine.collect() {
                Some(collected) => break collected,
                None => drop(engine.rest(None)),
            }
        };
        let number = collected.ticket;
        match &collected.outcome {
            Outcome::Result { view, .. } => assert_eq!(number_of(&view.to_vec()), number + 1),
            Outcome::Lost(_) => lost.push(number),
            other => panic!("task {number} ended with {other:?}"),
        }
        assert_eq!(engine.release(collected), number);
        ends[number] += 1;
    }
    assert!(ends.iter().all(|&count| count == 1), "a task has ended twice");
    lost
}

#[test]
fn callers_leader_keeper_and_supervisor_share_an_engine() {
    let _watchdog = Watchdog::start(Duration::from_secs(300));
    let config =
        Config { worker_count: 3, warm_len_max: WARM_LEN_MAX, memory_limit: Some(1 << 40) };
    let engine = Engine::new(config).unwrap();
    let turn_to_publish = Mutex::new(());
    let is_over = AtomicBool::new(false);
    engine.start_supervisor().unwrap();
    thread::scope(|scope| {
        let (engine, turn_to_publish, is_over) = (&engine, &turn_to_publish, &is_over);
        let start = move || {
            // A thread has no pidfd: who joins it tells of its end, as of a process without a watch.
            let hand_over = engine.take_seat().unwrap();
            scope.spawn(move || {
                let worker = thread::spawn(move || work(hand_over));
                worker.join().unwrap();
                engine.ended(hand_over.incarnation);
            });
        };
        (0..3).for_each(|_| start());
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let _ = engine.keeper_wait(Some(Duration::from_millis(1)));
                let _ = (engine.counts(), engine.worker_counts(), engine.part_counts());
                if let Some(Vacancy { ending: Ending::Died, .. }) = engine.next_vacancy() {
                    start();
                }
            }
        });
        let callers: Vec<_> = (0..CALLER_COUNT)
            .map(|caller| scope.spawn(move || call(engine, turn_to_publish, caller)))
            .collect();
        assert_eq!(lead(engine), [FATAL]);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        engine.stop_workers();
    });
    let counts = engine.counts();
    assert_eq!((counts.tasks_dispatched, counts.worker_deaths), (TASK_COUNT as u64, 1));
    assert_eq!(counts.damaged, 0);
    assert!(engine.shut_down().is_empty());
    assert_eq!(engine.counts().stored_bytes, 0);
}
