//! Finished tasks on their way to the parent.

use super::*;

#[test]
fn no_finished_task_is_lost_and_a_workers_own_stay_in_order() {
    check(OF_THREE_THREADS, || {
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
    check(UNBOUNDED, || {
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
