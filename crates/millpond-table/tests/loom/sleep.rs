//! No wake is lost, on either way.

use super::*;

#[test]
fn no_worker_sleeps_through_a_publish() {
    check(UNBOUNDED, || {
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
    check(OF_THREE_THREADS, || {
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
    check(UNBOUNDED, || {
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
    check(UNBOUNDED, || {
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
    check(OF_THREE_THREADS, || {
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
    check(OF_THREE_THREADS, || {
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
    check(OF_THREE_THREADS, || {
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
