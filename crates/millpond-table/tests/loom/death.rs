//! Death at every atomic step (`reliability.md`, T4). The parent joins the dead thread, as it would
//! see the dead process's descriptor become readable, then recovers.

use super::*;

/// Every task ends exactly once: finished, or lost with the worker that had begun it.
#[test]
fn at_any_step_of_a_task_leaves_no_task_behind_and_begins_none_twice() {
    check_each_death(OF_THREE_THREADS, |steps| {
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
    check_each_death(UNBOUNDED, |steps| {
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
    check_each_death(OF_THREE_THREADS, |steps| {
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
    check_each_death(UNBOUNDED, |steps| {
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
    check(OF_ROUNDS, || {
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

/// The dead worker may have taken a sleeper's bit, and not yet silenced its bell. Whoever comes later finds
/// no bit, so the recovery must silence the bell, also if the sleeper is not in its futex call yet.
#[test]
fn in_a_wake_costs_no_later_wake() {
    check_each_death(OF_THREE_THREADS, |steps| {
        let heap = table_of(2);
        let table = heap.table();
        let otto = {
            let heap = heap.clone();
            thread::spawn(move || {
                if let Some((bell, value)) = heap.table().worker_may_sleep(OTTO) {
                    // If nobody ever silences the bell, loom runs out of branches here.
                    while bell.load(Ordering::Relaxed) == value {
                        thread::yield_now();
                    }
                }
            })
        };
        let ella = {
            let heap = heap.clone();
            thread::spawn(move || live_for(steps, || heap.table().wake_one().is_some()))
        };
        let died = ella.join().unwrap().is_none();
        if died {
            let _ = table.recover(ELLA);
            table.wake_all(|_| ());
            table.ring_all(2, |_| ());
        }
        publish(table, 0, 0);
        let _ = table.wake_one();
        otto.join().unwrap();
        died
    });
}
