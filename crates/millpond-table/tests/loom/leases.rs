//! What is still read when the task that named it has ended.

use super::*;
use millpond_table::StoreId;
use millpond_table::sync::AtomicU64;

const PART: StoreId = StoreId { entry: 0, turn: 1 };

#[test]
fn a_part_is_not_written_while_a_worker_reads_it_after_its_task() {
    check(UNBOUNDED, || {
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
    check(UNBOUNDED, || {
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
