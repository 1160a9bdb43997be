//! What happens to a mapping behind the back of its tracking: nothing of it may look unchanged that
//! is not.

use std::fs;

use millpond_sys::mapping::page_size;
use millpond_sys::write_tracking::Drops;

use super::PAGES;
use crate::support::{Memory, tracker};

/// Bytes of a huge page, on the machines that have them of this size.
const HUGE: usize = 2 << 20;

#[test]
fn memory_that_is_gone_counts_as_written_in_whole_and_in_part() {
    let Some(tracker) = tracker() else { return };
    for (page, pages) in [(0, PAGES), (0, 1), (PAGES / 2, 3), (PAGES - 1, 1)] {
        for drops in [Drops::Never, Drops::Possible] {
            let memory = Memory::filled(PAGES);
            let tracked = tracker.track(memory.start, memory.len, drops).unwrap();
            assert!(!tracked.is_written());
            let at = memory.at(page * page_size());
            // SAFETY: the pages are the test's own.
            assert_eq!(unsafe { libc::munmap(at, pages * page_size()) }, 0);
            // Another thread's mapping may have taken the place; that counts as written as well.
            assert!(tracked.is_written(), "{pages} pages from page {page}, {drops:?}");
        }
    }
}

#[test]
fn memory_that_was_replaced_counts_as_written() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let tracked = memory.track_as_block(&tracker);
    memory.replace();
    assert!(tracked.is_written());
    // A tracking of what is here now has nothing to do with the old one.
    memory.fill();
    let second = memory.track_as_block(&tracker);
    drop(tracked);
    assert!(!second.is_written());
    memory.write(0, 2);
    assert!(second.is_written());
}

/// Moves the memory elsewhere; the caller's object stands for the new place after.
fn moved(memory: &mut Memory, flags: i32) -> Memory {
    let place = Memory::new(memory.len / page_size());
    let target: *mut libc::c_void = place.at(0);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | flags;
    // SAFETY: both mappings are the test's own; the second is given up for the first.
    let there = unsafe { libc::mremap(memory.at(0), memory.len, memory.len, flags, target) };
    assert_eq!(there, target);
    place
}

#[test]
fn memory_that_moved_counts_as_written_at_its_old_place() {
    let Some(tracker) = tracker() else { return };
    for drops in [Drops::Never, Drops::Possible] {
        let mut memory = Memory::filled(PAGES);
        let tracked = tracker.track(memory.start, memory.len, drops).unwrap();
        let there = moved(&mut memory, 0);
        assert!(tracked.is_written());
        // At the new place it can be tracked, and the old tracking's end does not matter there.
        let new = there.track_as_block(&tracker);
        drop(tracked);
        assert!(!new.is_written());
        there.write(3 * page_size(), 2);
        assert!(new.is_written());
    }
}

#[test]
fn memory_whose_pages_moved_away_from_it_counts_as_written() {
    // Linux 5.7: the mapping stays where it is and stays registered, and its pages go elsewhere.
    const MREMAP_DONTUNMAP: i32 = 4;
    let Some(tracker) = tracker() else { return };
    let mut memory = Memory::filled(PAGES);
    let tracked = memory.track(&tracker);
    let there = moved(&mut memory, MREMAP_DONTUNMAP);
    assert_eq!((there.read(0), memory.read(0)), (1, 0));
    assert!(tracked.is_written());
}

#[test]
fn memory_that_shrank_and_grew_again_in_its_place_counts_as_written() {
    let Some(tracker) = tracker() else { return };
    for drops in [Drops::Never, Drops::Possible] {
        let memory = Memory::filled(PAGES);
        let tracked = tracker.track(memory.start, memory.len, drops).unwrap();
        let half = memory.len / 2;
        // SAFETY: the mapping is the test's own. The first call gives the upper half up.
        unsafe {
            assert_eq!(libc::mremap(memory.at(0), memory.len, half, 0), memory.at(0));
            if libc::mremap(memory.at(0), half, memory.len, 0) == libc::MAP_FAILED {
                continue; // another thread's mapping has taken the place
            }
        }
        memory.write(PAGES / 2 * page_size(), 1);
        assert!(tracked.is_written(), "{drops:?}");
    }
}

#[test]
fn pages_that_were_dropped_count_as_written_before_and_after_they_are_read() {
    let Some(tracker) = tracker() else { return };
    // Three pages leave the page table where it is; all of a huge page's may take it away.
    let memory = Memory::filled(2 * HUGE / page_size());
    let aligned = memory.start.next_multiple_of(HUGE) - memory.start;
    for (page, pages) in [(3, 3), (aligned / page_size(), HUGE / page_size())] {
        for advice in [libc::MADV_DONTNEED, libc::MADV_REMOVE] {
            memory.fill();
            let tracked = memory.track(&tracker);
            assert!(!tracked.is_written());
            if memory.advise(page, pages, advice) != 0 {
                assert_eq!(advice, libc::MADV_REMOVE, "which is for shared memory only");
                continue;
            }
            assert!(tracked.is_written(), "{pages} pages");
            assert_eq!(memory.read(page * page_size()), 0);
            assert!(tracked.is_written(), "{pages} pages, read");
            // A block's tracking need not see a drop, and must see what is written after it.
            drop(tracked);
            memory.fill();
            let block = memory.track_as_block(&tracker);
            assert_eq!(memory.advise(page, pages, advice), 0);
            memory.write(page * page_size(), 1);
            assert!(block.is_written(), "{pages} pages, as a block");
        }
    }
}

#[test]
fn a_change_of_protection_changes_nothing_and_hides_nothing() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let tracked = memory.track(&tracker);
    let protect = |protection| {
        let at = memory.at(5 * page_size());
        // SAFETY: the pages are the test's own, and nothing touches them while they are closed.
        assert_eq!(unsafe { libc::mprotect(at, 3 * page_size(), protection) }, 0);
    };
    protect(libc::PROT_READ);
    assert!(!tracked.is_written());
    protect(libc::PROT_READ | libc::PROT_WRITE);
    assert!(!tracked.is_written());
    memory.write(6 * page_size(), 2);
    assert!(tracked.is_written());
}

#[test]
fn a_private_mapping_of_a_file_is_tracked_too() {
    let Some(tracker) = tracker() else { return };
    let (memory, _file) = Memory::of_a_file(PAGES);
    for page in 0..PAGES {
        // Present as the file's page.
        assert_eq!(memory.read(page * page_size()), 5);
    }
    let tracked = memory.track(&tracker);
    assert!(!tracked.is_written());
    memory.write(9 * page_size(), 6);
    assert!(tracked.is_written());
    // And a page that is touched for the first time by the write.
    let (memory, _file) = Memory::of_a_file(PAGES);
    let tracked = memory.track_as_block(&tracker);
    assert!(!tracked.is_written());
    memory.write(9 * page_size(), 6);
    assert!(tracked.is_written());
}

#[test]
fn a_tracking_over_mappings_of_several_kinds_sees_writes_to_each() {
    let Some(tracker) = tracker() else { return };
    for page in [0, PAGES / 2, PAGES - 1] {
        let memory = Memory::filled(PAGES);
        let at = memory.at(PAGES / 4 * page_size());
        // A mapping without access to it in the middle splits it into three.
        // SAFETY: the pages are the test's own.
        assert_eq!(unsafe { libc::mprotect(at, PAGES / 8 * page_size(), libc::PROT_NONE) }, 0);
        let tracked = memory.track(&tracker);
        assert!(!tracked.is_written());
        memory.write(page * page_size(), 3);
        assert!(tracked.is_written(), "page {page}");
    }
}

/// Whether huge pages back the memory at an address, as /proc/self/smaps says.
fn has_huge_pages(start: usize) -> bool {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, from) = smaps.split_once(&format!("\n{start:x}-")).unwrap();
    let line = from.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
    line.split_whitespace().nth(1).unwrap() != "0"
}

#[test]
fn a_write_to_a_huge_page_is_seen() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::new(4 * HUGE / page_size());
    memory.advise(0, memory.len / page_size(), libc::MADV_HUGEPAGE);
    memory.fill();
    if !has_huge_pages(memory.start) {
        println!("there are no huge pages here; the test goes on with small ones");
    }
    let whole = memory.track(&tracker);
    assert!(!whole.is_written());
    memory.write(memory.len / 2 + 5, 2);
    assert!(whole.is_written());
    drop(whole);
    // A range that begins and ends within huge pages.
    let len = memory.len - 8 * page_size();
    let odd = tracker.track(memory.start + 3 * page_size(), len, Drops::Never).unwrap();
    memory.write(2 * page_size(), 2);
    memory.write(len + 3 * page_size(), 2);
    assert!(!odd.is_written());
    memory.write(len + 2 * page_size(), 2);
    assert!(odd.is_written());
}

#[test]
fn small_pages_that_become_a_huge_one_keep_what_was_written() {
    // Linux 6.1: collapses at once what khugepaged would collapse some time.
    const MADV_COLLAPSE: i32 = 25;
    let Some(tracker) = tracker() else { return };
    for is_written_before in [true, false] {
        let memory = Memory::filled(4 * HUGE / page_size());
        let tracked = memory.track(&tracker);
        if is_written_before {
            memory.write(memory.len / 2, 2);
        }
        // Whether the kernel refuses or not, nothing may be hidden.
        let outcome = memory.advise(0, memory.len / page_size(), MADV_COLLAPSE);
        println!("collapse: {outcome}, huge pages: {}", has_huge_pages(memory.start));
        if !is_written_before {
            memory.write(memory.len / 2, 2);
        }
        assert!(tracked.is_written());
    }
}
