#![allow(unsafe_code, reason = "moves and unmaps memory, forks, and denies system calls")]
#![allow(clippy::print_stdout, reason = "it says what is not here, and what it measured")]

use std::io::Write;
use std::os::fd::AsRawFd;

use millpond_sys::mapping::page_size;
use millpond_sys::write_tracking::Drops;

use crate::support::{Memory, in_child, in_child_of_equal_id, tracker};

#[path = "write_tracking/denial.rs"]
mod denial;
#[path = "write_tracking/mappings.rs"]
mod mappings;
#[path = "write_tracking/races.rs"]
mod races;

const PAGES: usize = 64;

#[test]
fn a_write_is_seen_on_whatever_page_and_none_is_invented() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    for page in [0, 1, PAGES / 2, PAGES - 1] {
        let tracked = memory.track(&tracker);
        assert!(!tracked.is_written() && !tracked.is_written());
        memory.write(page * page_size() + 17, 3);
        assert!(tracked.is_written() && tracked.is_written(), "page {page}");
    }
}

#[test]
fn the_partial_pages_at_both_ends_are_not_tracked() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(4);
    let tracked = tracker.track(memory.start + 1, 4 * page_size() - 2, Drops::Never).unwrap();
    assert_eq!(tracked.start(), memory.start + page_size());
    assert_eq!(tracked.end(), memory.start + 3 * page_size());
    memory.write(0, 2);
    memory.write(4 * page_size() - 1, 2);
    assert!(!tracked.is_written());
    memory.write(page_size(), 2);
    assert!(tracked.is_written());
}

#[test]
fn a_range_without_a_whole_page_or_beyond_the_address_space_is_refused() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(2);
    assert!(tracker.track(memory.start + 1, page_size(), Drops::Never).is_err());
    assert!(tracker.track(memory.start, 0, Drops::Never).is_err());
    assert!(tracker.track(usize::MAX - 10, 100, Drops::Never).is_err());
    assert!(tracker.track(usize::MAX - 10, 5, Drops::Never).is_err());
    // Nothing is ever mapped at the lowest pages.
    assert!(tracker.track(page_size(), 2 * page_size(), Drops::Never).is_err());
}

#[test]
fn the_first_write_to_a_page_that_was_never_touched_is_seen() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::new(PAGES);
    let tracked = memory.track_as_block(&tracker);
    assert!(!tracked.is_written());
    memory.write(5 * page_size(), 1);
    assert!(tracked.is_written());
}

#[test]
fn a_write_by_the_kernel_is_seen() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let tracked = memory.track(&tracker);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"some bytes").unwrap();
    let target = std::ptr::with_exposed_provenance_mut(memory.start + 3 * page_size());
    // SAFETY: the ten bytes lie in the mapping, to which no reference exists.
    assert_eq!(unsafe { libc::read(reader.as_raw_fd(), target, 10) }, 10);
    assert!(tracked.is_written());
}

#[test]
fn a_childs_writes_are_not_the_parents_and_the_parents_are_seen_after_a_fork() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let tracked = memory.track(&tracker);
    assert!(in_child(|| {
        memory.write(0, 9);
        // A child cannot tell, and says so.
        tracked.is_written()
    }));
    assert!(!tracked.is_written());
    memory.write(7 * page_size(), 9);
    assert!(tracked.is_written());
}

#[test]
fn a_child_of_the_same_process_id_is_told_apart() {
    if tracker().is_none() {
        return;
    }
    let made = || {
        let memory = Memory::filled(PAGES);
        let tracker = tracker().unwrap();
        let tracked = memory.track(&tracker);
        assert!(!tracked.is_written());
        (tracked, memory, tracker)
    };
    let is_seen = in_child_of_equal_id(made, |(tracked, memory, tracker)| {
        memory.write(0, 9);
        tracked.is_written() && !tracker.is_here()
    });
    assert_ne!(is_seen, Some(false));
}

#[test]
fn a_child_that_drops_a_tracking_takes_nothing_from_the_parent() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let tracked = std::mem::ManuallyDrop::new(memory.track(&tracker));
    assert!(in_child(|| {
        // SAFETY: a bitwise copy that only the child drops, once.
        drop(unsafe { std::ptr::read(&raw const *tracked) });
        tracker.track(memory.start, memory.len, Drops::Never).is_err()
    }));
    assert!(!tracked.is_written());
    memory.write(1, 9);
    assert!(tracked.is_written());
    drop(std::mem::ManuallyDrop::into_inner(tracked));
}

#[test]
fn a_second_tracking_of_the_same_pages_ends_the_first() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let first = memory.track(&tracker);
    memory.write(0, 2);
    let second = memory.track(&tracker);
    assert!(first.is_written(), "the write before the second tracking must not be hidden");
    assert!(!second.is_written());
    drop(first);
    assert!(!second.is_written());
    memory.write(page_size(), 2);
    assert!(second.is_written());
}

#[test]
fn neighbours_do_not_disturb_each_other() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let half = memory.len / 2;
    let low = tracker.track(memory.start, half, Drops::Never).unwrap();
    let high = tracker.track(memory.start + half, half, Drops::Never).unwrap();
    memory.write(half, 2);
    assert!(!low.is_written() && high.is_written());
    drop(high);
    assert!(!low.is_written());
    memory.write(half - 1, 2);
    assert!(low.is_written());
}

/// Prints what DESIGN section 3 quotes: run with `--ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn figures_of_100_mb() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(25_600);
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        let tracked = memory.track(&tracker);
        let protect = begin.elapsed();
        let begin = std::time::Instant::now();
        assert!(!tracked.is_written());
        let scan = begin.elapsed();
        let tracked = tracker.track(memory.start, memory.len, Drops::Never).unwrap();
        let begin = std::time::Instant::now();
        assert!(!tracked.is_written());
        let short = begin.elapsed();
        println!("protect {protect:?}, scan that finds nothing {scan:?}, without drops {short:?}");
        for page in [20_000, 22_000, 25_000] {
            memory.write(page * page_size(), 2);
        }
        let begin = std::time::Instant::now();
        assert!(tracked.is_written());
        println!("scan that finds a write in the last quarter {:?}", begin.elapsed());
    }
}
