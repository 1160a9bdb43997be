//! At most one idle worker spins, and only it gives the place free.

use millpond_table::{HeapTable, Layout, Owner};

const ELLA: Owner = Owner(0);
const OTTO: Owner = Owner(1);

fn table_of_three() -> HeapTable {
    HeapTable::new(Layout { slot_count: 4, seat_count: 3, store_count: 1 })
}

#[test]
fn while_one_worker_spins_no_other_may_and_after_it_another_may() {
    let heap = table_of_three();
    let table = heap.table();
    assert!(!table.someone_spins());
    assert!(table.may_spin(ELLA));
    assert!(table.someone_spins());
    assert!(!table.may_spin(OTTO));
    assert!(!table.may_spin(Owner(2)));
    table.end_spin(ELLA);
    assert!(!table.someone_spins());
    assert!(table.may_spin(OTTO));
    assert!(!table.may_spin(ELLA));
}

#[test]
fn a_worker_that_does_not_spin_ends_no_others_spin() {
    let heap = table_of_three();
    let table = heap.table();
    assert!(table.may_spin(ELLA));
    table.end_spin(OTTO);
    assert!(table.someone_spins());
    assert!(!table.may_spin(OTTO));
}

#[test]
fn a_spinner_that_dies_leaves_its_place_to_another() {
    let heap = table_of_three();
    let table = heap.table();
    assert!(table.may_spin(ELLA));
    drop(table.recover(OTTO));
    assert!(!table.may_spin(OTTO), "it was another that died");
    drop(table.recover(ELLA));
    assert!(table.may_spin(OTTO));
}
