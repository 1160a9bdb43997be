//! Each promise of the table, over all interleavings and all orderings that loom can make.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p millpond-table --test loom --release`
//!
//! Each model explores up to two preemptions. In the long form (`MILLPOND_VERIFY=1`) those of two threads
//! explore all interleavings, but for two models that would not end, and all others up to three
//! preemptions; `LOOM_MAX_PREEMPTIONS` sets the same bound for all. The main thread of a model is the
//! parent. Counts that only the models keep are plain atomics, which
//! loom does not see, so that they add no ordering of their own.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::thread;
use millpond_table::sync::{AtomicU32, live_for};
use millpond_table::{Claim, HeapTable, Layout, Owner, Payload, Phase, StoredAt, Table};

#[path = "loom/claims.rs"]
mod claims;
#[path = "loom/completions.rs"]
mod completions;
#[path = "loom/death.rs"]
mod death;
#[path = "loom/endings.rs"]
mod endings;
#[path = "loom/held_wakes.rs"]
mod held_wakes;
#[path = "loom/leases.rs"]
mod leases;
#[path = "loom/sleep.rs"]
mod sleep;
#[path = "loom/store.rs"]
mod store;

const ELLA: Owner = Owner(0);
const OTTO: Owner = Owner(1);

/// The preemptions of the short form.
const SHORT: usize = 2;
/// In the long form a model of two threads explores every interleaving.
const UNBOUNDED: Option<usize> = None;
/// But where one of two threads goes round and round, it explores three preemptions: that takes half a
/// minute at most, and with four it takes more than a minute and a half.
const OF_ROUNDS: Option<usize> = Some(3);
/// In the long form a model of three threads explores one preemption more than in the short one.
const OF_THREE_THREADS: Option<usize> = Some(3);

/// Checks a model in its short form or, if `MILLPOND_VERIFY` is 1, up to the `long_bound`.
fn check(long_bound: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        let is_long = std::env::var("MILLPOND_VERIFY").is_ok_and(|form| form == "1");
        builder.preemption_bound = if is_long { long_bound } else { Some(SHORT) };
    }
    builder.max_branches = 20_000;
    builder.check(model);
}

/// A table of two seats, with as many slots as given and four times as many cells.
fn table_of(slot_count: u32) -> Arc<HeapTable> {
    Arc::new(HeapTable::new(Layout { slot_count, seat_count: 2, store_count: 1 }))
}

/// Checks a model with a death after each number of steps, until nobody reaches it.
fn check_each_death(
    long_bound: Option<usize>,
    model: impl Fn(u64) -> bool + Sync + Send + Clone + 'static,
) {
    for steps in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let (model, seen) = (model.clone(), died.clone());
        check(long_bound, move || {
            seen.fetch_or(model(steps), Ordering::Relaxed);
        });
        if !died.load(Ordering::Relaxed) {
            assert!(steps > 3, "the life has {steps} steps only");
            return;
        }
    }
}

/// Describes a payload from which one can tell task and turn.
fn fill(table: Table<'_>, slot: u32, turn: u64) {
    let len = 1000 * u64::from(slot) + turn;
    table.slot(slot).describe(Payload { kind: slot + 1, len, offset: Some(len), note_len: 1 });
}

fn publish(table: Table<'_>, slot: u32, turn: u64) {
    fill(table, slot, turn);
    table.publish(slot, turn).expect("the ring has room");
}

fn assert_filled(table: Table<'_>, claim: Claim) {
    let len = 1000 * u64::from(claim.slot) + claim.turn;
    let wanted = Payload { kind: claim.slot + 1, len, offset: Some(len), note_len: len.min(1) };
    assert_eq!(table.slot(claim.slot).payload(), wanted);
}

fn claim(table: Table<'_>, owner: Owner) -> Option<Claim> {
    let claim = table.claim(owner).expect("nobody scribbles");
    if let Some(claim) = claim {
        assert_filled(table, claim);
    }
    claim
}

fn is_ready(table: Table<'_>, slot: u32) -> bool {
    table.slot(slot).word().phase() == Some(Phase::Ready)
}

fn collect(table: Table<'_>) -> Vec<u32> {
    let mut found = Vec::new();
    table.take_done(&mut found).expect("nobody scribbles");
    found
}

/// What happened to each slot's task: the oracle, outside the table.
#[derive(Default)]
struct Ledger {
    claimed: [AtomicUsize; 4],
    begun: [AtomicUsize; 4],
    finished: [AtomicUsize; 4],
}

impl Ledger {
    fn note(events: &[AtomicUsize; 4], slot: u32) {
        events[slot as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count(events: &[AtomicUsize; 4], slot: u32) -> usize {
        events[slot as usize].load(Ordering::Relaxed)
    }
}

/// A worker's whole way with one task; false if there was none.
fn work(table: Table<'_>, owner: Owner, ledger: &Ledger) -> bool {
    let Some(claim) = claim(table, owner) else { return false };
    Ledger::note(&ledger.claimed, claim.slot);
    let slot = table.slot(claim.slot);
    assert!(slot.begin(owner, claim.turn));
    Ledger::note(&ledger.begun, claim.slot);
    slot.describe(Payload { kind: 100 + claim.slot, len: 7, offset: None, note_len: 0 });
    let _ = table.complete(claim.slot, owner, claim.turn);
    Ledger::note(&ledger.finished, claim.slot);
    true
}

/// What a worker that looked for a task once did at the end.
enum Rest {
    Claimed,
    Awake,
    /// It would be in the futex call on the bell at this address.
    Asleep(usize),
}

fn claim_or_sleep(table: Table<'_>, owner: Owner) -> Rest {
    if claim(table, owner).is_some() {
        return Rest::Claimed;
    }
    match table.worker_may_sleep(owner) {
        Some((bell, _)) => Rest::Asleep(address(bell)),
        None => Rest::Awake,
    }
}

fn address(bell: &AtomicU32) -> usize {
    std::ptr::from_ref(bell).addr()
}
