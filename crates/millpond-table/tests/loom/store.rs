//! The store's directory.

use super::*;

#[test]
fn a_part_that_is_found_is_seen_whole() {
    check(UNBOUNDED, || {
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
