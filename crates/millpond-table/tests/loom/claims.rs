//! Who claims a task: one worker, in the order of the ring.

use super::*;

#[test]
fn two_workers_claim_two_tasks_each_once_and_in_order() {
    check(OF_THREE_THREADS, || {
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
    check(OF_THREE_THREADS, || {
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
    check(OF_THREE_THREADS, || {
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
    check(OF_ROUNDS, || {
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
