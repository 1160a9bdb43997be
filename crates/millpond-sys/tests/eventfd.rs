use std::os::fd::AsFd;
use std::time::Duration;

use millpond_sys::eventfd::Bell;
use millpond_sys::poller::Poller;

/// Tells whether the bell can be heard now.
fn can_be_heard(bell: &Bell) -> bool {
    let poller = Poller::new().unwrap();
    poller.add(bell.as_fd(), 1).unwrap();
    let mut tokens = Vec::new();
    poller.wait(Some(Duration::ZERO), &mut tokens).unwrap();
    !tokens.is_empty()
}

#[test]
fn a_bell_is_heard_until_it_is_drained() {
    let bell = Bell::new().unwrap();
    assert!(!can_be_heard(&bell));
    bell.ring();
    bell.ring();
    assert!(can_be_heard(&bell));
    bell.drain();
    assert!(!can_be_heard(&bell));
}

#[test]
fn draining_a_silent_bell_does_nothing() {
    let bell = Bell::new().unwrap();
    bell.drain();
    bell.ring();
    assert!(can_be_heard(&bell));
}

#[test]
fn ringing_a_full_bell_does_not_block() {
    let bell = Bell::new().unwrap();
    // One less than u64::MAX is the most that the counter holds.
    rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    bell.ring();
    assert!(can_be_heard(&bell));
}

#[test]
fn a_bell_closes_on_exec() {
    let bell = Bell::new().unwrap();
    assert!(rustix::io::fcntl_getfd(&bell).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}
