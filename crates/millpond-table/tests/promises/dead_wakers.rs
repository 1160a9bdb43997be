//! A worker that dies while it wakes another.

use millpond_table::{HeapTable, Layout, Owner};

#[test]
fn a_sleeper_whose_waker_died_before_it_rang_is_rung_by_the_parent() {
    let heap = HeapTable::new(Layout { slot_count: 4, seat_count: 3, store_count: 1 });
    let table = heap.table();
    let (bell, _) = table.worker_may_sleep(Owner(0)).expect("nothing is ready");
    // Another worker has taken the sleeper's bit, and dies before the futex call.
    assert!(table.wake_one().is_some());
    drop(table.recover(Owner(1)));
    let mut rung = Vec::new();
    table.wake_all(|other| rung.push(std::ptr::from_ref(other)));
    assert!(!rung.contains(&std::ptr::from_ref(bell)), "its bit is gone");
    table.ring_all(2, |other| rung.push(std::ptr::from_ref(other)));
    assert!(rung.contains(&std::ptr::from_ref(bell)));
    assert_eq!(rung.len(), 3, "the parent's, and those of two seats");
}
