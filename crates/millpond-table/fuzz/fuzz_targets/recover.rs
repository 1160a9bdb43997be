//! The parent recovers what a worker held that scribbled before it died, and goes on.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use millpond_table::Owner;

fuzz_target!(|bytes: &[u8]| {
    let mut memory = memory::Memory::scribbled(bytes, |table| {
        for slot in 0..3 {
            let _ = table.publish(slot, 0);
        }
        let _ = table.claim(Owner(1));
        if let Ok(Some(claim)) = table.claim(Owner(2)) {
            let _ = table.slot(claim.slot).begin(Owner(2), claim.turn);
        }
    });
    let table = memory.attach().expect("the header is whole");
    let recovered = table.recover(Owner(1));
    let all = recovered.lost.len() + recovered.done.len() + recovered.given_back;
    assert!(all <= table.slot_count() as usize);
    table.wake_all(|_| ());
    let _ = table.publish(3, 0);
    let _ = table.parent_may_sleep();
    let _ = table.claim(Owner(0));
});
