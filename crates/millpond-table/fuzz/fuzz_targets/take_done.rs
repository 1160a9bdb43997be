//! The parent takes a done stack that a peer has scribbled over.
#![no_main]

mod memory;

use libfuzzer_sys::fuzz_target;
use millpond_table::Owner;

fuzz_target!(|bytes: &[u8]| {
    let mut memory = memory::Memory::scribbled(bytes, |table| {
        for slot in 0..3 {
            let _ = table.publish(slot, 0);
            if let Ok(Some(claim)) = table.claim(Owner(1)) {
                let _ = table.slot(claim.slot).begin(Owner(1), claim.turn);
                let _ = table.complete(claim.slot, Owner(1), claim.turn);
            }
        }
    });
    let table = memory.attach().expect("the header is whole");
    let mut found = Vec::new();
    let _ = table.take_done(&mut found);
    assert!(found.len() <= table.slot_count() as usize);
    assert!(found.iter().all(|&slot| slot < table.slot_count()));
    assert!(!table.has_done());
});
