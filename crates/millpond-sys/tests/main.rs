//! One module for each file of `src`, under the same name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod birthmark;
mod clock;
mod error;
mod eventfd;
mod file_range;
mod futex;
mod limits;
mod mapping;
mod memfd;
mod pagemap;
mod pidfd;
mod poller;
mod private_copy;
mod private_pages;
mod probe;
mod process;
mod signals;
mod write_tracking;

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of the Rust files in a folder of this crate.
fn modules_in(folder: &str) -> BTreeSet<String> {
    fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".rs") && !["lib.rs", "main.rs"].contains(&name.as_str()))
        .collect()
}

#[test]
fn every_source_file_has_its_tests() {
    assert_eq!(modules_in("src"), modules_in("tests"));
    let contents = include_str!("main.rs");
    for name in modules_in("tests") {
        let line = format!("mod {};\n", name.trim_end_matches(".rs"));
        assert!(contents.contains(&line), "main.rs forgets {name}");
    }
}
