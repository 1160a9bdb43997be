//! Each promise of the table, over all interleavings and all orderings that loom can make.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p millpond-table --test loom --release`
//!
//! Each model explores up to two preemptions; `LOOM_MAX_PREEMPTIONS=3` is for a patient night. The
//! main thread of a model is the parent. Counts that only the models keep are plain atomics, which
//! loom does not see, so that they add no ordering of their own.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loom::thread;
use millpond_table::sync::{AtomicU32, live_for};
use millpond_table::{Claim, HeapTable, Layout, Owner, Payload, Phase, StoredAt, Table};

#[path = "loom/endings.rs"]
mod endings;
#[path = "loom/held_wakes.rs"]
mod held_wakes;

const ELLA: Owner = Owner(0);
const OTTO: Owner = Owner(1);

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// A table of two seats, with as many slots as given and four times as many cells.
fn table_of(slot_count: u32) -> Arc<HeapTable> {
    Arc::new(HeapTable::new(Layout { slot_count, seat_count: 2, store_count: 1 }))
}

/// Checks a model with a death after each number of steps, until nobody reaches it.
fn check_each_death(model: impl Fn(u64) -> bool + Sync + Send + Clone + 'static) {
    for steps in 0.. {
        let died = Arc::new(AtomicBool::new(false));
        let (model, seen) = (model.clone(), died.clone());
        check(move || {
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

mod claims {
    use super::*;

    #[test]
    fn two_workers_claim_two_tasks_each_once_and_in_order() {
        check(|| {
            let heap = table_of(2);
            publish(heap.table(), 1, 0);
            publish(heap.table(), 0, 0);
            let worker = |owner| {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    let mut mine = Vec::new();
                    while let Some(claim) = claim(table, owner) {
                        assert!(!is_ready(table, 1), "the first task was passed over");
                        mine.push(claim.slot);
                    }
                    mine
                })
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let mut all = ella.join().unwrap();
            assert_ne!(all, [0, 1], "out of order");
            let of_otto = otto.join().unwrap();
            assert_ne!(of_otto, [0, 1], "out of order");
            all.extend(of_otto);
            all.sort_unstable();
            assert_eq!(all, [0, 1]);
        });
    }

    #[test]
    fn a_worker_sees_all_that_was_written_before_the_publish() {
        check(|| {
            let heap = table_of(2);
            let ledger = Arc::new(Ledger::default());
            let worker = |owner| {
                let (heap, ledger) = (heap.clone(), ledger.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        // `claim` compares the payload.
                        if let Some(claim) = claim(heap.table(), owner) {
                            Ledger::note(&ledger.claimed, claim.slot);
                        }
                    }
                })
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let table = heap.table();
            publish(table, 0, 0);
            publish(table, 1, 0);
            ella.join().unwrap();
            otto.join().unwrap();
            while let Some(claim) = claim(table, OTTO) {
                Ledger::note(&ledger.claimed, claim.slot);
            }
            assert_eq!(Ledger::count(&ledger.claimed, 0), 1);
            assert_eq!(Ledger::count(&ledger.claimed, 1), 1);
        });
    }

    #[test]
    fn a_slow_worker_never_takes_the_next_task_of_a_slot_twice() {
        check(|| {
            let heap = table_of(2);
            let ledger = Arc::new(Ledger::default());
            publish(heap.table(), 0, 0);
            let worker = |owner| {
                let (heap, ledger) = (heap.clone(), ledger.clone());
                thread::spawn(move || work(heap.table(), owner, &ledger))
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let table = heap.table();
            let mut turns = 1;
            for _ in 0..2 {
                for slot in collect(table) {
                    publish(table, slot, table.slot(slot).free(turns - 1));
                    turns += 1;
                }
            }
            ella.join().unwrap();
            otto.join().unwrap();
            while work(table, OTTO, &ledger) {}
            assert_eq!(Ledger::count(&ledger.finished, 0), turns as usize);
            assert_eq!(collect(table), [0]);
        });
    }

    /// The second look at the head: without it, the slow worker takes what stands a lap ahead.
    #[test]
    fn a_slow_worker_never_takes_a_task_a_lap_ahead() {
        check(|| {
            let heap = table_of(1);
            publish(heap.table(), 0, 0);
            let slow = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let before = heap.table().head_position();
                    let claim = claim(heap.table(), ELLA)?;
                    // The ring begins a lap up, at 4, and this table's turns count its positions.
                    assert!(claim.turn + 4 >= before);
                    assert!(heap.table().head_position() > claim.turn + 4, "out of order");
                    Some(claim.turn)
                })
            };
            let table = heap.table();
            let mut turn = 0;
            for _ in 0..4 {
                let Some(claim) = claim(table, OTTO) else { break };
                assert_eq!(claim.turn, turn);
                turn = table.slot(0).free(turn);
                publish(table, 0, turn);
            }
            let by_slow = slow.join().unwrap();
            assert_eq!(is_ready(table, 0), by_slow != Some(turn));
        });
    }
}

mod completions {
    use super::*;

    #[test]
    fn no_finished_task_is_lost_and_a_workers_own_stay_in_order() {
        check(|| {
            let heap = table_of(3);
            let table = heap.table();
            for slot in 0..3 {
                publish(table, slot, 0);
            }
            let of_ella: Vec<_> = (0..2).map(|_| claim(table, ELLA).unwrap()).collect();
            let of_otto = vec![claim(table, OTTO).unwrap()];
            let worker = |owner, claims: Vec<Claim>| {
                let heap = heap.clone();
                thread::spawn(move || {
                    for claim in claims {
                        let slot = heap.table().slot(claim.slot);
                        assert!(slot.begin(owner, claim.turn));
                        slot.describe(Payload {
                            kind: 50 + claim.slot,
                            len: 9,
                            offset: None,
                            note_len: 3,
                        });
                        let _ = heap.table().complete(claim.slot, owner, claim.turn);
                    }
                })
            };
            let (ella, otto) = (worker(ELLA, of_ella), worker(OTTO, of_otto));
            let mut all = Vec::new();
            let look = |all: &mut Vec<u32>| {
                for slot in collect(table) {
                    let wanted = Payload { kind: 50 + slot, len: 9, offset: None, note_len: 3 };
                    assert_eq!(table.slot(slot).payload(), wanted);
                    all.push(slot);
                }
            };
            look(&mut all);
            look(&mut all);
            ella.join().unwrap();
            otto.join().unwrap();
            look(&mut all);
            let place = |slot| all.iter().position(|&found| found == slot);
            assert!(all.len() == 3 && place(0) < place(1), "{all:?}");
            assert!(place(0).is_some() && place(2).is_some(), "{all:?}");
        });
    }

    /// The slot comes back in the middle of another's push: the top is the same and yet another.
    #[test]
    fn a_slot_that_returns_during_a_push_is_linked_rightly() {
        check(|| {
            let heap = table_of(2);
            let table = heap.table();
            publish(table, 0, 0);
            publish(table, 1, 0);
            let first = claim(table, ELLA).unwrap();
            let second = claim(table, OTTO).unwrap();
            assert!(table.slot(0).begin(ELLA, 0) && table.slot(1).begin(OTTO, 0));
            let _ = table.complete(first.slot, ELLA, 0);
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let _ = heap.table().complete(second.slot, OTTO, 0);
                })
            };
            let mut all = collect(table);
            let turn = table.slot(0).free(0);
            publish(table, 0, turn);
            let again = claim(table, ELLA).unwrap();
            assert!(table.slot(again.slot).begin(ELLA, again.turn));
            let _ = table.complete(again.slot, ELLA, again.turn);
            otto.join().unwrap();
            all.extend(collect(table));
            all.sort_unstable();
            assert_eq!(all, [0, 0, 1]);
        });
    }
}

mod sleep {
    use super::*;

    #[test]
    fn no_worker_sleeps_through_a_publish() {
        check(|| {
            let heap = table_of(2);
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || claim_or_sleep(heap.table(), OTTO))
            };
            let table = heap.table();
            publish(table, 0, 0);
            let woken = table.wake_one().map(address);
            if let Rest::Asleep(bell) = otto.join().unwrap() {
                assert_eq!(woken, Some(bell), "the wake is lost");
            }
        });
    }

    #[test]
    fn each_of_two_publishes_finds_a_worker() {
        check(|| {
            let heap = table_of(2);
            let worker = |owner| {
                let heap = heap.clone();
                thread::spawn(move || claim_or_sleep(heap.table(), owner))
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let table = heap.table();
            let mut woken = Vec::new();
            for slot in 0..2 {
                publish(table, slot, 0);
                woken.extend(table.wake_one().map(address));
            }
            let rests = [ella.join().unwrap(), otto.join().unwrap()];
            let unclaimed = (0..2).filter(|&slot| is_ready(table, slot)).count();
            let will_claim = rests.iter().filter(|rest| match rest {
                Rest::Claimed => false,
                Rest::Awake => true,
                Rest::Asleep(bell) => woken.contains(bell),
            });
            assert!(will_claim.count() >= unclaimed, "a task is there and a worker sleeps");
        });
    }

    #[test]
    fn a_wake_of_an_older_sleep_costs_no_later_wake() {
        check(|| {
            let heap = table_of(2);
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    // A first sleep that ends by itself, as by a signal.
                    if table.worker_may_sleep(OTTO).is_some() {
                        table.worker_awake(OTTO);
                    }
                    claim_or_sleep(table, OTTO)
                })
            };
            let table = heap.table();
            publish(table, 0, 0);
            let woken = table.wake_one();
            // The futex call compares the bell: a sleeper whose bell is silent wakes at once.
            let is_silent = |bell: &AtomicU32| bell.load(Ordering::Relaxed) == 0;
            if let Rest::Asleep(bell) = otto.join().unwrap() {
                assert_eq!(woken.map(address), Some(bell), "the wake is lost");
                assert!(woken.is_some_and(is_silent), "the bell was raised after the wake");
            }
        });
    }

    #[test]
    fn no_worker_that_ends_its_spin_sleeps_through_a_publish() {
        check(|| {
            let heap = table_of(2);
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    let spins = table.may_spin(OTTO);
                    assert!(spins, "nobody else spins");
                    let found = claim(table, OTTO);
                    table.end_spin(OTTO);
                    if found.is_some() { Rest::Claimed } else { claim_or_sleep(table, OTTO) }
                })
            };
            let table = heap.table();
            publish(table, 0, 0);
            let woken = if table.someone_spins() { None } else { table.wake_one().map(address) };
            if let Rest::Asleep(bell) = otto.join().unwrap() {
                assert_eq!(woken, Some(bell), "the parent trusted a spinner that went to sleep");
            }
        });
    }

    #[test]
    fn no_worker_sleeps_through_the_end_of_the_pool() {
        check(|| {
            let heap = table_of(2);
            let worker = |owner| {
                let heap = heap.clone();
                thread::spawn(move || claim_or_sleep(heap.table(), owner))
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let table = heap.table();
            table.stop();
            let mut woken = Vec::new();
            table.wake_all(|bell| woken.push(address(bell)));
            for rest in [ella.join().unwrap(), otto.join().unwrap()] {
                if let Rest::Asleep(bell) = rest {
                    assert!(woken.contains(&bell), "a worker sleeps for ever");
                }
            }
        });
    }

    #[test]
    fn the_parent_sleeps_through_no_completion() {
        check(|| {
            let heap = table_of(2);
            let worker = |owner: Owner| {
                publish(heap.table(), u32::from(owner.0), 0);
                let claim = claim(heap.table(), owner).unwrap();
                assert!(heap.table().slot(claim.slot).begin(owner, claim.turn));
                let heap = heap.clone();
                thread::spawn(move || {
                    heap.table().complete(claim.slot, owner, claim.turn).expect("not condemned")
                })
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let table = heap.table();
            let mut found = collect(table);
            let sleeps = table.parent_may_sleep().is_some();
            let woken = [ella.join().unwrap(), otto.join().unwrap()];
            assert!(woken.iter().filter(|&&woken| woken).count() <= 1, "woken twice");
            assert!(!sleeps || woken.contains(&true) || !table.has_done(), "the wake is lost");
            found.extend(collect(table));
            assert_eq!(found.len(), 2);
        });
    }

    #[test]
    fn the_parent_sleeps_through_no_refill() {
        check(|| {
            let heap = table_of(2);
            let table = heap.table();
            publish(table, 0, 0);
            publish(table, 1, 0);
            let first = table.head_position();
            let worker = |owner| {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    let is_told = claim(table, owner).is_some_and(|claim| claim.refill);
                    (is_told, is_told && table.must_wake_parent())
                })
            };
            let (ella, otto) = (worker(ELLA), worker(OTTO));
            let is_there = table.ask_refill(first + 2);
            let sleeps = !is_there && table.parent_may_sleep().is_some();
            let ends = [ella.join().unwrap(), otto.join().unwrap()];
            assert_eq!(table.head_position(), first + 2);
            assert!(is_there || ends.iter().any(|end| end.0), "neither side knows of the refill");
            assert!(!sleeps || ends.iter().any(|end| end.1), "the wake is lost");
        });
    }
}

mod store {
    use super::*;

    #[test]
    fn a_part_that_is_found_is_seen_whole() {
        check(|| {
            let heap = table_of(1);
            let at = |kind| StoredAt { offset: 64 * kind, len: 3 * kind, kind };
            let reader = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let id = millpond_table::StoreId { entry: 0, turn: 1 };
                    if let Some(found) = heap.table().store_find(id) {
                        assert_eq!(found, at(1));
                    }
                })
            };
            let id = heap.table().store_list(0, at(1));
            assert_eq!(heap.table().store_find(id), Some(at(1)));
            reader.join().unwrap();
            heap.table().store_unlist(id);
            assert_eq!(heap.table().store_find(id), None);
        });
    }
}

/// Death at every atomic step (`reliability.md`, T4). The parent joins the dead thread, as it would
/// see the dead process's descriptor become readable, then recovers.
mod death {
    use super::*;

    /// Every task ends exactly once: finished, or lost with the worker that had begun it.
    #[test]
    fn at_any_step_of_a_task_leaves_no_task_behind_and_begins_none_twice() {
        check_each_death(|steps| {
            let heap = table_of(2);
            let table = heap.table();
            let ledger = Arc::new(Ledger::default());
            publish(table, 0, 0);
            publish(table, 1, 0);
            let ella = {
                let (heap, ledger) = (heap.clone(), ledger.clone());
                thread::spawn(move || live_for(steps, || work(heap.table(), ELLA, &ledger)))
            };
            let otto = {
                let (heap, ledger) = (heap.clone(), ledger.clone());
                thread::spawn(move || work(heap.table(), OTTO, &ledger))
            };
            let died = ella.join().unwrap().is_none();
            // A worker that lived through it dies right after.
            let recovered = table.recover(ELLA);
            let mut done = recovered.done;
            done.extend(collect(table));
            otto.join().unwrap();
            while work(table, OTTO, &ledger) {}
            done.extend(collect(table));
            done.sort_unstable();
            done.dedup();
            for slot in 0..2 {
                let is_lost = recovered.lost.contains(&slot);
                assert!(is_lost != done.contains(&slot), "slot {slot} did not end once");
                let begun = Ledger::count(&ledger.begun, slot);
                let finished = Ledger::count(&ledger.finished, slot);
                assert_eq!(begun, 1, "slot {slot} began {begun} times");
                assert!(finished == 1 || is_lost || died);
                if is_lost {
                    assert_eq!(finished, 0, "a finished task is called lost");
                }
            }
            assert!(!table.has_ready());
            died
        });
    }

    /// The death lies in the claim, and the parent recovers while the other worker claims.
    #[test]
    fn in_a_claim_gives_the_task_back_to_exactly_one() {
        check_each_death(|steps| {
            let heap = table_of(2);
            let table = heap.table();
            let ledger = Arc::new(Ledger::default());
            publish(table, 0, 0);
            publish(table, 1, 0);
            let died = live_for(steps, || claim(table, ELLA)).is_none();
            let otto = {
                let (heap, ledger) = (heap.clone(), ledger.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        if let Some(claim) = claim(heap.table(), OTTO) {
                            Ledger::note(&ledger.claimed, claim.slot);
                        }
                    }
                })
            };
            let recovered = table.recover(ELLA);
            assert!(recovered.lost.is_empty() && recovered.done.is_empty());
            otto.join().unwrap();
            while let Some(claim) = claim(table, OTTO) {
                Ledger::note(&ledger.claimed, claim.slot);
            }
            for slot in 0..2 {
                assert_eq!(Ledger::count(&ledger.claimed, slot), 1, "slot {slot}");
            }
            died
        });
    }

    /// The dead worker may have been the one that was woken, or the one that spins.
    #[test]
    fn on_the_way_to_sleep_costs_no_wake() {
        check_each_death(|steps| {
            let heap = table_of(2);
            let table = heap.table();
            let ella = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    live_for(steps, || {
                        let _ = table.may_spin(ELLA);
                        let claim = claim(table, ELLA);
                        table.end_spin(ELLA);
                        if claim.is_none() && table.worker_may_sleep(ELLA).is_some() {
                            table.worker_awake(ELLA);
                        }
                    })
                })
            };
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    claim_or_sleep(table, OTTO)
                })
            };
            publish(table, 0, 0);
            let mut woken = Vec::new();
            if !table.someone_spins() {
                woken.extend(table.wake_one().map(address));
            }
            let died = ella.join().unwrap().is_none();
            let _ = table.recover(ELLA);
            assert!(!table.someone_spins());
            table.wake_all(|bell| woken.push(address(bell)));
            if let Rest::Asleep(bell) = otto.join().unwrap() {
                assert!(woken.contains(&bell) || !is_ready(table, 0), "the wake is lost");
            }
            died
        });
    }

    /// A task that is given back must not leave a second cell that is stepped over in silence.
    #[test]
    fn in_a_claim_costs_no_refill() {
        check_each_death(|steps| {
            let heap = table_of(2);
            let table = heap.table();
            publish(table, 0, 0);
            let died = live_for(steps, || claim(table, ELLA)).is_none();
            let _ = table.recover(ELLA);
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    let mut woken = false;
                    while let Some(claim) = claim(table, OTTO) {
                        woken |= claim.refill && table.must_wake_parent();
                    }
                    woken
                })
            };
            let is_there = table.ask_refill(table.tail_position());
            let sleeps = !is_there && table.parent_may_sleep().is_some();
            let woken = otto.join().unwrap();
            assert!(!sleeps || woken, "the ring is empty and the parent sleeps");
            died
        });
    }
    /// A live worker between its claim and its step leaves a cell behind the one that is given back.
    #[test]
    fn beside_a_slow_claim_never_leaves_the_parent_asleep() {
        check(|| {
            let heap = table_of(2);
            let table = heap.table();
            publish(table, 0, 0);
            publish(table, 1, 0);
            assert_eq!(claim(table, ELLA).map(|claim| claim.slot), Some(0));
            let otto = {
                let heap = heap.clone();
                thread::spawn(move || {
                    let table = heap.table();
                    for _ in 0..3 {
                        let Some(claim) = claim(table, OTTO) else { continue };
                        if claim.refill {
                            let _ = table.must_wake_parent();
                        }
                        assert!(table.slot(claim.slot).begin(OTTO, claim.turn));
                        let _ = table.complete(claim.slot, OTTO, claim.turn);
                    }
                })
            };
            // Ella dies with her task taken.
            assert_eq!(table.recover(ELLA).given_back, 1);
            let mut found = Vec::new();
            for _ in 0..5 {
                found.extend(collect(table));
                if table.ask_refill(table.tail_position()) {
                    break;
                }
                if let Some((bell, value)) = table.parent_may_sleep() {
                    // If nobody ever silences the bell, loom runs out of branches here; but if
                    // Otto looked three times before there was anything, no wake is owed.
                    while bell.load(Ordering::Relaxed) == value && !is_ready(table, 0) {
                        thread::yield_now();
                    }
                    table.parent_awake();
                }
            }
            otto.join().unwrap();
        });
    }
}

mod leases {
    use super::*;
    use millpond_table::StoreId;
    use millpond_table::sync::AtomicU64;

    const PART: StoreId = StoreId { entry: 0, turn: 1 };

    #[test]
    fn a_part_is_not_written_while_a_worker_reads_it_after_its_task() {
        check(|| {
            let heap = table_of(1);
            let memory = Arc::new(AtomicU64::new(5));
            let table = heap.table();
            publish(table, 0, 0);
            let ella = {
                let (heap, memory) = (heap.clone(), memory.clone());
                thread::spawn(move || {
                    let table = heap.table();
                    let Some(claim) = claim(table, ELLA) else { return };
                    assert!(table.slot(claim.slot).begin(ELLA, claim.turn));
                    let lease = table.seats()[0].lease(PART).expect("no lease is taken");
                    let _ = table.complete(claim.slot, ELLA, claim.turn);
                    assert_eq!(memory.load(Ordering::Relaxed), 5, "written while it was read");
                    table.seats()[0].end_lease(lease);
                })
            };
            if !collect(table).is_empty() && !table.is_leased(PART) {
                memory.store(9, Ordering::Relaxed);
            }
            ella.join().unwrap();
            assert!(!table.is_leased(PART));
        });
    }

    #[test]
    fn what_was_lent_is_not_written_before_it_was_given_back() {
        check(|| {
            let heap = table_of(1);
            let memory = Arc::new(AtomicU64::new(5));
            let parent = {
                let (heap, memory) = (heap.clone(), memory.clone());
                thread::spawn(move || {
                    assert_eq!(memory.load(Ordering::Relaxed), 5, "written while it was read");
                    heap.table().seats()[0].give_back(1, 7);
                })
            };
            let seat = &heap.table().seats()[0];
            assert!(!seat.was_given_back(0, 7) && !seat.was_given_back(1, 6));
            if seat.was_given_back(1, 7) {
                memory.store(9, Ordering::Relaxed);
            }
            parent.join().unwrap();
        });
    }
}
