//! Attaches to any bytes, and uses what was accepted.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use millpond_table::{Owner, StoreId};

fuzz_target!(|bytes: &[u8]| {
    let mut memory = memory::Memory::of_bytes(bytes);
    let Ok(table) = memory.attach() else { return };
    let mut found = Vec::new();
    let _ = table.take_done(&mut found);
    let _ = table.claim(Owner(1));
    let _ = table.recover(Owner(1));
    table.wake_all(|_| ());
    for entry in 0..3 {
        let _ = table.store_find(StoreId { entry, turn: u64::from(entry) });
    }
    let _ = table.parent_may_sleep();
    let _ = table.worker_may_sleep(Owner(0));
    for seat in table.seats() {
        let _ = (seat.state(), seat.failure(), seat.count(0));
    }
});
