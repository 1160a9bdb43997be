//! A whole life of a table, on random and on PCT schedules: longer than loom can go, but with
//! sequentially consistent atomics only.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p millpond-table --test shuttle --release`
#![cfg(shuttle)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use millpond_table::sync::live_for;
use millpond_table::{HeapTable, Layout, Owner, Payload, Table};
use shuttle::rand::Rng;
use shuttle::thread;

const TASK_COUNT: usize = 20;
const WORKER_COUNT: u16 = 3;
const DOOMED: Owner = Owner(0);

/// How often each task began and ended, counted outside the table.
struct Ledger {
    begun: [AtomicUsize; TASK_COUNT],
    finished: [AtomicUsize; TASK_COUNT],
    lost: [AtomicUsize; TASK_COUNT],
    /// Set, once the doomed worker's thread has ended: the parent's view of its pidfd.
    is_gone: AtomicU32,
}

impl Ledger {
    fn new() -> Self {
        Self {
            begun: std::array::from_fn(|_| AtomicUsize::new(0)),
            finished: std::array::from_fn(|_| AtomicUsize::new(0)),
            lost: std::array::from_fn(|_| AtomicUsize::new(0)),
            is_gone: AtomicU32::new(0),
        }
    }
}

fn note(events: &[AtomicUsize; TASK_COUNT], task: usize) {
    events[task].fetch_add(1, Ordering::Relaxed);
}

fn count(events: &[AtomicUsize; TASK_COUNT], task: usize) -> usize {
    events[task].load(Ordering::Relaxed)
}

/// Sleeps as on a futex: until the bell is silent. If nobody silences it, shuttle sees that the
/// schedule makes no progress and fails.
fn sleep_on(bell: &millpond_table::sync::AtomicU32, value: u32) {
    while bell.load(Ordering::Relaxed) == value {
        thread::yield_now();
    }
}

fn work(table: Table<'_>, owner: Owner, ledger: &Ledger) {
    loop {
        let Some(claim) = table.claim(owner).expect("nobody scribbles") else {
            if table.is_stopping() {
                return;
            }
            if table.may_spin(owner) {
                thread::yield_now();
                table.end_spin(owner);
            }
            if let Some((bell, value)) = table.worker_may_sleep(owner) {
                sleep_on(bell, value);
                table.worker_awake(owner);
            }
            continue;
        };
        if claim.refill {
            let _ = table.must_wake_parent();
        }
        let slot = table.slot(claim.slot);
        let task = slot.payload().len as usize;
        assert!(slot.begin(owner, claim.turn));
        note(&ledger.begun, task);
        slot.describe(Payload { kind: 1, len: 1000 + task as u64, offset: Some(0), note_len: 0 });
        let _ = table.complete(claim.slot, owner, claim.turn);
    }
}

/// The parent's own records; it never believes the table alone.
struct Parent<'a> {
    table: Table<'a>,
    ledger: &'a Ledger,
    free: Vec<(u32, u64)>,
    out: [Option<(usize, u64)>; 2],
    dispatched: usize,
    ended: usize,
}

impl Parent<'_> {
    /// Keeps one task ahead of the workers, and asks for a wake when there is none.
    fn dispatch(&mut self) {
        while self.dispatched < TASK_COUNT && !self.free.is_empty() {
            if !self.table.ask_refill(self.table.tail_position()) {
                return;
            }
            let Some((slot, turn)) = self.free.pop() else { return };
            let len = self.dispatched as u64;
            self.table.slot(slot).describe(Payload { kind: 0, len, offset: Some(0), note_len: 0 });
            let _ = self.table.publish(slot, turn).expect("the ring has room");
            self.out[slot as usize] = Some((self.dispatched, turn));
            self.dispatched += 1;
            if !self.table.someone_spins() {
                let _ = self.table.wake_one();
            }
        }
        // Room comes with the next completion, which wakes the parent anyway.
        let _ = self.table.ask_refill(u64::MAX);
    }

    fn end(&mut self, slot: u32, is_lost: bool) {
        // A slot that the recovery has found already may be on the stack as well.
        let Some((task, turn)) = self.out[slot as usize].take() else { return };
        if is_lost {
            note(&self.ledger.lost, task);
        } else {
            assert_eq!(self.table.slot(slot).payload().len, 1000 + task as u64);
            note(&self.ledger.finished, task);
        }
        self.ended += 1;
        self.free.push((slot, self.table.slot(slot).free(turn)));
    }

    fn collect(&mut self, mut done: Vec<u32>, lost: Vec<u32>) {
        self.table.take_done(&mut done).expect("nobody scribbles");
        // All is known before the first slot is freed.
        let mut first_seen = Vec::new();
        for slot in done {
            if !first_seen.contains(&slot) {
                first_seen.push(slot);
                self.end(slot, false);
            }
        }
        for slot in lost {
            self.end(slot, true);
        }
    }

    fn run(&mut self) {
        let mut is_recovered = false;
        while self.ended < TASK_COUNT {
            if !is_recovered && self.ledger.is_gone.load(Ordering::Relaxed) != 0 {
                is_recovered = true;
                let found = self.table.recover(DOOMED);
                self.collect(found.done, found.lost);
                self.table.wake_all(|_| ());
            }
            self.collect(Vec::new(), Vec::new());
            self.dispatch();
            if self.ended == TASK_COUNT {
                break;
            }
            if let Some((bell, value)) = self.table.parent_may_sleep() {
                // The supervisor's news wakes the parent too.
                while bell.load(Ordering::Relaxed) == value
                    && (is_recovered || self.ledger.is_gone.load(Ordering::Relaxed) == 0)
                {
                    thread::yield_now();
                }
                self.table.parent_awake();
            }
        }
        self.table.stop();
        self.table.wake_all(|_| ());
    }
}

fn a_whole_life() {
    let heap = Arc::new(HeapTable::new(Layout {
        slot_count: 2,
        seat_count: WORKER_COUNT.into(),
        store_count: 1,
    }));
    let ledger = Arc::new(Ledger::new());
    let steps = shuttle::rand::thread_rng().gen_range(0..400);
    let workers: Vec<_> = (0..WORKER_COUNT)
        .map(|seat| {
            let (heap, ledger, owner) = (heap.clone(), ledger.clone(), Owner(seat));
            thread::spawn(move || {
                if owner == DOOMED {
                    let _ = live_for(steps, || work(heap.table(), owner, &ledger));
                    ledger.is_gone.store(1, Ordering::Relaxed);
                } else {
                    work(heap.table(), owner, &ledger);
                }
            })
        })
        .collect();
    Parent {
        table: heap.table(),
        ledger: &ledger,
        free: vec![(1, 0), (0, 0)],
        out: [None; 2],
        dispatched: 0,
        ended: 0,
    }
    .run();
    for worker in workers {
        worker.join().expect("the worker ends in order");
    }
    let mut lost = 0;
    for task in 0..TASK_COUNT {
        assert_eq!(count(&ledger.begun, task), 1, "task {task} began");
        let ends = count(&ledger.finished, task) + count(&ledger.lost, task);
        assert_eq!(ends, 1, "task {task} ended");
        lost += count(&ledger.lost, task);
    }
    assert!(lost <= 1, "one death loses one task at most, not {lost}");
    assert!(!heap.table().has_ready() && !heap.table().has_done());
}

#[test]
fn every_task_ends_exactly_once_on_random_schedules() {
    shuttle::check_random(a_whole_life, 3000);
}

#[test]
fn every_task_ends_exactly_once_on_pct_schedules() {
    shuttle::check_pct(a_whole_life, 3000, 3);
}
