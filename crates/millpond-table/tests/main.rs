//! The table's promises without a model checker: small worlds to the last, and hostile memory.
//!
//! `loom.rs` and `shuttle.rs` beside this file have the promises that need more than one thread, but for
//! those of plain bytes.
#![cfg(not(any(loom, shuttle)))]

#[path = "promises/dead_wakers.rs"]
mod dead_wakers;
#[path = "promises/hostile.rs"]
mod hostile;
#[path = "promises/small_model.rs"]
mod small_model;
#[path = "promises/small_worlds.rs"]
mod small_worlds;
#[path = "promises/spinners.rs"]
mod spinners;
#[path = "promises/threads.rs"]
mod threads;

/// Every file of promises is part of this binary.
#[test]
fn no_file_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/promises");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let line = format!("#[path = \"promises/{name}\"]");
        assert!(include_str!("main.rs").contains(&line), "{name} is not in tests/main.rs");
    }
}
