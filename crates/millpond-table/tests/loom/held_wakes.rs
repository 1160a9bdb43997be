//! Wakes that the parent holds back while enough workers are awake.

use super::*;

/// One of two may sleep: the other one does not, while a task is there.
#[test]
fn enough_workers_stay_awake_while_wakes_are_held() {
    check(UNBOUNDED, || {
        let heap = table_of(2);
        let table = heap.table();
        table.hold_wakes(1);
        let sleeps = table.worker_may_sleep(ELLA).map(|(bell, _)| address(bell));
        assert!(sleeps.is_some(), "nothing is there yet");
        let otto = {
            let heap = heap.clone();
            thread::spawn(move || claim_or_sleep(heap.table(), OTTO))
        };
        publish(table, 0, 0);
        let woken = table.wake_another().map(address);
        if let Rest::Asleep(bell) = otto.join().unwrap() {
            assert!(woken == Some(bell) || woken == sleeps, "both sleep, and a task is there");
        }
    });
}

/// A spinner that finds the first of two tasks wakes another for the second one, or held wakes are
/// looked after later than that task came.
#[test]
fn a_wake_that_a_spinner_owes_is_held_only_before_the_last_look() {
    check(UNBOUNDED, || {
        let heap = table_of(2);
        let table = heap.table();
        table.hold_wakes(1);
        assert!(table.worker_may_sleep(ELLA).is_some(), "nothing is there yet");
        assert!(table.may_spin(OTTO), "nobody else spins");
        let otto = {
            let heap = heap.clone();
            thread::spawn(move || {
                let table = heap.table();
                let found = claim(table, OTTO);
                table.end_spin(OTTO);
                let owes = found.is_some() && table.has_ready();
                (found.is_some(), owes && table.wake_another().is_some())
            })
        };
        // The last look: nothing waits, and from here on nobody looks.
        table.hold_wakes(0);
        let mut is_woken = false;
        for slot in 0..2 {
            publish(table, slot, 0);
            let unclaimed = (0..=slot).filter(|&slot| is_ready(table, slot)).count();
            if unclaimed > usize::from(table.someone_spins()) {
                is_woken |= table.wake_another().is_some();
            }
        }
        let (has_claimed, otto_woke) = otto.join().unwrap();
        let unclaimed = (0..2).filter(|&slot| is_ready(table, slot)).count();
        // Otto works on what he has claimed, for long.
        let will_claim = usize::from(is_woken || otto_woke) + usize::from(!has_claimed);
        assert!(will_claim >= unclaimed, "a task is there, and only who is busy knows");
    });
}
