//! A worker claims from a ring that a peer has scribbled over.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use millpond_table::Owner;

fuzz_target!(|bytes: &[u8]| {
    let mut memory = memory::Memory::scribbled(bytes, |table| {
        for slot in 0..3 {
            let _ = table.publish(slot, 0);
        }
    });
    let table = memory.attach().expect("the header is whole");
    // No ring has more tasks than cells.
    for _ in 0..memory::LAYOUT.cell_count() {
        let Ok(Some(claim)) = table.claim(Owner(0)) else { break };
        assert!(claim.slot < table.slot_count());
        let payload = table.slot(claim.slot).payload();
        assert!(payload.note_len <= payload.len);
    }
    let _ = table.publish(3, 0);
});
