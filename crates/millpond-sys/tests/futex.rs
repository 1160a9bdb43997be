#![allow(unsafe_code, reason = "a word of a mapping is used as an atomic")]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use millpond_sys::futex::{Wait, wait, wake};
use millpond_sys::mapping::{Access, Mapping, page_size};
use millpond_sys::memfd;

/// Borrows the first word of a mapping.
fn first_word(mapping: &Mapping) -> &AtomicU32 {
    // SAFETY: The mapping is a page, writable, aligned, alive as long as the reference, and its
    // bytes are used as this atomic only.
    unsafe { AtomicU32::from_ptr(mapping.as_ptr().cast()) }
}

#[test]
fn a_wake_reaches_a_waiter_in_another_mapping() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    let map = || Mapping::new(file.as_fd(), 0, page_size(), Access::ReadWrite).unwrap();
    let (here, there) = (map(), map());
    assert_ne!(here.as_ptr(), there.as_ptr());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            // Without a timeout: only a wake ends this.
            wait(first_word(&there), 0, None)
        });
        // The word never changes, so the waiter is asleep sooner or later; until then nobody hears.
        while wake(first_word(&here), 1) == 0 {
            thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Wait::Woken);
    });
}

#[test]
fn a_wake_of_all_reaches_every_waiter() {
    const WAITER_COUNT: usize = 4;
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..WAITER_COUNT {
            // They come back until the word changes.
            scope.spawn(|| while wait(&word, 0, None) != Wait::Changed {});
        }
        // Sooner or later all of them are asleep at once, and one call reaches them all.
        while wake(&word, u32::MAX) < WAITER_COUNT {
            thread::yield_now();
        }
        word.store(1, Ordering::Relaxed);
        wake(&word, u32::MAX);
    });
}

#[test]
fn a_wake_of_none_wakes_none() {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&word, 0, None));
        for _ in 0..1000 {
            assert_eq!(wake(&word, 0), 0);
        }
        // Had one of those woken it, this would never end.
        while wake(&word, 1) == 0 {
            thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Wait::Woken);
    });
}

#[test]
fn a_changed_word_is_not_waited_for() {
    let word = AtomicU32::new(5);
    assert_eq!(wait(&word, 4, None), Wait::Changed);
    assert_eq!(word.load(Ordering::Relaxed), 5);
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let word = AtomicU32::new(0);
    assert_eq!(wait(&word, 0, Some(Duration::ZERO)), Wait::TimedOut);
    assert_eq!(wait(&word, 0, Some(Duration::from_millis(1))), Wait::TimedOut);
}

#[test]
fn a_timeout_beyond_what_the_kernel_counts_is_none() {
    let word = AtomicU32::new(0);
    assert_eq!(wait(&word, 1, Some(Duration::MAX)), Wait::Changed);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&word, 0, Some(Duration::MAX)));
        while wake(&word, 1) == 0 {
            thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Wait::Woken);
    });
}

#[test]
fn a_wake_without_a_waiter_is_no_error() {
    assert_eq!(wake(&AtomicU32::new(0), 1), 0);
}
