#![allow(unsafe_code, reason = "maps, writes, moves and unmaps memory, and forks")]
#![allow(clippy::print_stdout, reason = "it says what is not here, and what it measured")]

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Barrier};

use millpond_sys::mapping::page_size;
use millpond_sys::write_tracking::{Drops, Tracked, WriteTracker};
use millpond_sys::{file_range, memfd, process};

const PAGES: usize = 64;

/// Memory of its own mapping, so that nothing else lies on its pages.
struct Memory {
    start: usize,
    len: usize,
}

impl Memory {
    fn new(pages: usize) -> Self {
        let len = pages * page_size();
        // SAFETY: a new anonymous mapping touches no other memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: start.addr(), len }
    }

    /// Pages that hold something.
    fn filled(pages: usize) -> Self {
        let memory = Self::new(pages);
        for page in 0..pages {
            memory.write(page * page_size(), 1);
        }
        memory
    }

    fn write(&self, at: usize, value: u8) {
        assert!(at < self.len);
        // SAFETY: the byte lies in the mapping, to which no reference exists.
        unsafe {
            std::ptr::with_exposed_provenance_mut::<u8>(self.start + at).write_volatile(value);
        };
    }

    fn track(&self, tracker: &Arc<WriteTracker>) -> Tracked {
        tracker.track(self.start, self.len, Drops::Possible).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, or is gone already.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.start), self.len) };
    }
}

/// The tracker; None where the kernel has none, which is then said.
fn tracker() -> Option<Arc<WriteTracker>> {
    match WriteTracker::new() {
        Ok(tracker) => Some(tracker),
        Err(error) => {
            assert!(error.is_not_supported(), "{error}");
            println!("write tracking is not available here: {error}");
            None
        }
    }
}

/// Runs `check` in a forked child; tells whether it was true there.
fn in_child(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls only `check` and `_exit`; the checks below allocate nothing.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        process::exit_now(i32::from(!check()));
    }
    let mut status = 0;
    // SAFETY: the status is a local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status == 0
}

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
    let tracked = memory.track(&tracker);
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
fn memory_that_was_replaced_moved_or_dropped_counts_as_written() {
    let Some(tracker) = tracker() else { return };
    let replaced = Memory::filled(PAGES);
    let tracked = replaced.track(&tracker);
    // SAFETY: the new mapping takes the place of one that is the test's own.
    let again = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(replaced.start),
            replaced.len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert_eq!(again.addr(), replaced.start);
    assert!(tracked.is_written());

    let mut moved = Memory::filled(PAGES);
    let tracked = moved.track(&tracker);
    let place = Memory::new(PAGES);
    // SAFETY: both mappings are the test's own; the second is given up for the first.
    let there = unsafe {
        libc::mremap(
            std::ptr::with_exposed_provenance_mut(moved.start),
            moved.len,
            moved.len,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            std::ptr::with_exposed_provenance_mut::<libc::c_void>(place.start),
        )
    };
    assert_eq!(there.addr(), place.start);
    let old = std::mem::replace(&mut moved.len, 0);
    let fresh = Memory { start: moved.start, len: old };
    // SAFETY: the place is free: its mapping has just been moved away.
    let filled = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(fresh.start),
            fresh.len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert_eq!(filled.addr(), fresh.start);
    assert!(tracked.is_written());

    let dropped = Memory::filled(PAGES);
    let tracked = dropped.track(&tracker);
    let third = std::ptr::with_exposed_provenance_mut(dropped.start + 3 * page_size());
    // SAFETY: the page lies in the mapping; its content becomes zeros.
    assert_eq!(unsafe { libc::madvise(third, page_size(), libc::MADV_DONTNEED) }, 0);
    assert!(tracked.is_written());
}

#[test]
fn a_private_mapping_of_a_file_is_tracked_too() {
    let Some(tracker) = tracker() else { return };
    let len = PAGES * page_size();
    let file = memfd::create("millpond-test", len as u64).unwrap();
    file_range::write_all_at(file.as_fd(), 0, &vec![5; len]).unwrap();
    // SAFETY: a new mapping touches no other memory.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    let memory = Memory { start: start.addr(), len };
    for page in 0..PAGES {
        // Present as the file's page.
        // SAFETY: the byte lies in the mapping.
        let first = unsafe {
            std::ptr::with_exposed_provenance::<u8>(memory.start + page * page_size())
                .read_volatile()
        };
        assert_eq!(first, 5);
    }
    let tracked = memory.track(&tracker);
    assert!(!tracked.is_written());
    memory.write(9 * page_size(), 6);
    assert!(tracked.is_written());
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

#[test]
fn a_write_to_a_huge_page_is_seen() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::new(4096);
    let start = std::ptr::with_exposed_provenance_mut(memory.start);
    // SAFETY: advice on a mapping of the test's own. Where there are no huge pages the test still
    // holds, with small ones.
    unsafe { libc::madvise(start, memory.len, libc::MADV_HUGEPAGE) };
    for page in 0..4096 {
        memory.write(page * page_size(), 1);
    }
    let whole = memory.track(&tracker);
    assert!(!whole.is_written());
    memory.write(memory.len / 2 + 5, 2);
    assert!(whole.is_written());
    drop(whole);
    let odd =
        tracker.track(memory.start + 3 * page_size(), 2000 * page_size(), Drops::Never).unwrap();
    memory.write(0, 2);
    assert!(!odd.is_written());
    memory.write(1999 * page_size(), 2);
    assert!(odd.is_written());
}

#[test]
fn no_write_of_another_thread_is_lost_however_it_meets_a_scan() {
    let Some(tracker) = tracker() else { return };
    let memory = Arc::new(Memory::filled(PAGES));
    let barrier = Arc::new(Barrier::new(2));
    let rounds = 2000;
    let writer = {
        let (memory, barrier) = (Arc::clone(&memory), Arc::clone(&barrier));
        std::thread::spawn(move || {
            for round in 0..rounds {
                barrier.wait();
                memory.write((round * 7 % PAGES) * page_size(), round as u8);
                barrier.wait();
            }
        })
    };
    for round in 0..rounds {
        let tracked = memory.track(&tracker);
        barrier.wait();
        // Whatever this says, the write may be before or after it.
        let _ = tracked.is_written();
        barrier.wait();
        assert!(tracked.is_written(), "round {round}");
    }
    writer.join().unwrap();
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
    }
}
