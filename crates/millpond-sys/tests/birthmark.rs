#![allow(unsafe_code, reason = "drops a bitwise copy in a forked child")]

use millpond_sys::birthmark::Birthmark;

use crate::support::{in_child, in_child_of_equal_id};

#[test]
fn only_the_process_that_made_it_has_it() {
    let mark = Birthmark::new().unwrap();
    assert!(mark.is_here());
    // Nor has a child of the child.
    assert!(in_child(|| !mark.is_here() && in_child(|| !mark.is_here())));
    assert!(mark.is_here());
    assert!(std::thread::scope(|scope| scope.spawn(|| mark.is_here()).join().unwrap()));
}

#[test]
fn a_child_that_drops_it_takes_it_from_nobody() {
    let mark = std::mem::ManuallyDrop::new(Birthmark::new().unwrap());
    assert!(in_child(|| {
        // SAFETY: a bitwise copy that only the child drops, once.
        drop(unsafe { std::ptr::read(&raw const *mark) });
        true
    }));
    assert!(mark.is_here());
    drop(std::mem::ManuallyDrop::into_inner(mark));
}

#[test]
fn a_child_of_the_same_process_id_is_told_apart() {
    let is_told = in_child_of_equal_id(|| Birthmark::new().unwrap(), |mark| !mark.is_here());
    assert_ne!(is_told, Some(false));
}

#[test]
fn a_child_makes_its_own() {
    assert!(in_child(|| Birthmark::new().is_ok_and(|mark| mark.is_here())));
}
