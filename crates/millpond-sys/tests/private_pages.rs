#![allow(unsafe_code, reason = "gives pages of a test's own up")]
#![allow(clippy::print_stdout, reason = "it says what is not here, and what it measured")]
#![allow(clippy::single_range_in_vec_init, reason = "a list of one range is what is meant")]

use std::ops::Range;
use std::os::fd::AsFd;

use millpond_sys::file_range;
use millpond_sys::mapping::page_size;
use millpond_sys::private_pages::{PrivatePages, Way};

use crate::support::{Memory, OPEN, PAGEMAP_SCAN, deny, in_child};

/// More than one read of words takes, and more than one scan has room for when every second is found.
const PAGES: usize = 1200;

/// The ways that tell pages apart here. Words are there on every kernel with a `/proc`.
fn telling() -> Vec<PrivatePages> {
    let scan = PrivatePages::by(Way::Scan)
        .inspect_err(|error| {
            assert!(error.is_not_supported(), "{error}");
            println!("no scan here: {error}");
        })
        .ok();
    scan.into_iter().chain([PrivatePages::by(Way::Words).unwrap()]).collect()
}

fn found(pages: &PrivatePages, memory: &Memory) -> Vec<Range<usize>> {
    let number = |address: usize| (address - memory.start) / page_size();
    let ranges = pages.find(memory.start, memory.len).unwrap();
    ranges.into_iter().map(|range| number(range.start)..number(range.end)).collect()
}

fn reset(pages: &PrivatePages, memory: &Memory) -> usize {
    // SAFETY: the mapping is the test's own, and no reference to it exists.
    unsafe { pages.reset(memory.start, memory.len) }.unwrap()
}

#[test]
fn written_pages_are_found_and_pages_that_were_read_are_not() {
    for pages in telling() {
        let (memory, _file) = Memory::of_a_file(PAGES);
        assert_eq!(found(&pages, &memory), [], "{pages:?}");
        for page in 0..PAGES / 2 {
            assert_eq!(memory.read(page * page_size()), 5);
        }
        assert_eq!(found(&pages, &memory), [], "{pages:?}");
        for page in [0, 7, 8, 600, PAGES - 1] {
            memory.write(page * page_size() + 9, 6);
        }
        assert_eq!(found(&pages, &memory), [0..1, 7..9, 600..601, PAGES - 1..PAGES], "{pages:?}");
    }
}

#[test]
fn a_reset_gives_up_what_was_written_and_nothing_else() {
    for pages in telling() {
        let (memory, file) = Memory::of_a_file(PAGES);
        for page in 0..PAGES {
            // Every second page; more regions than one scan has room for.
            assert_eq!(memory.read(page * page_size()), 5);
            if page % 2 == 1 {
                memory.write(page * page_size(), 6);
            }
        }
        // The file's own pages follow the file, and the copies do not.
        file_range::write_all_at(file.as_fd(), 0, &vec![8; memory.len]).unwrap();
        assert_eq!((memory.read(2 * page_size()), memory.read(page_size())), (8, 6));
        assert_eq!(reset(&pages, &memory), PAGES / 2, "{pages:?}");
        for page in 0..PAGES {
            assert_eq!(memory.read(page * page_size()), 8, "page {page}, {pages:?}");
        }
        assert_eq!((found(&pages, &memory), reset(&pages, &memory)), (vec![], 0));
        // It can be written and reset again.
        memory.write(0, 9);
        assert_eq!((reset(&pages, &memory), memory.read(0)), (1, 8));
    }
}

#[test]
fn pages_outside_the_range_keep_what_was_written() {
    for pages in telling().into_iter().chain([PrivatePages::by(Way::All).unwrap()]) {
        let (memory, _file) = Memory::of_a_file(8);
        memory.fill();
        let inner = memory.start + 2 * page_size();
        // The last page counts whole.
        // SAFETY: the mapping is the test's own, and no reference to it exists.
        let given_up = unsafe { pages.reset(inner, 3 * page_size() + 1) }.unwrap();
        assert_eq!(given_up, 4, "{pages:?}");
        let content: Vec<u8> = (0..8).map(|page| memory.read(page * page_size())).collect();
        assert_eq!(content, [1, 1, 5, 5, 5, 5, 1, 1], "{pages:?}");
    }
}

#[test]
fn without_a_way_to_tell_all_is_given_up() {
    let pages = PrivatePages::by(Way::All).unwrap();
    assert_eq!(pages.way(), Way::All);
    let (memory, _file) = Memory::of_a_file(PAGES);
    memory.write(3 * page_size(), 6);
    assert_eq!(found(&pages, &memory), vec![0..PAGES]);
    assert_eq!((reset(&pages, &memory), memory.read(3 * page_size())), (PAGES, 5));
}

#[test]
fn in_a_child_all_counts_as_written_and_what_it_makes_itself_tells() {
    for pages in telling() {
        let (memory, _file) = Memory::of_a_file(8);
        memory.write(2 * page_size(), 6);
        assert!(in_child(|| {
            // This is the child's, and the parent's descriptor knows nothing of it.
            memory.write(5 * page_size(), 7);
            let own = PrivatePages::by(pages.way()).unwrap();
            found(&pages, &memory) == vec![0..8]
                && found(&own, &memory) == [2..3, 5..6]
                && reset(&pages, &memory) == 8
                && memory.read(5 * page_size()) == 5
        }));
        assert_eq!((found(&pages, &memory), memory.read(2 * page_size())), (vec![2..3], 6));
    }
}

#[test]
fn the_best_way_is_taken() {
    let first = telling().first().map(PrivatePages::way);
    assert_eq!(Some(PrivatePages::new().way()), first);
}

#[test]
fn where_a_call_is_denied_the_next_way_is_taken() {
    let (memory, _file) = Memory::of_a_file(8);
    memory.write(2 * page_size(), 6);
    assert!(in_child(|| {
        assert!(deny(libc::SYS_ioctl, Some(PAGEMAP_SCAN), libc::ENOTTY));
        let pages = PrivatePages::new();
        pages.way() == Way::Words && found(&pages, &memory) == [2..3]
    }));
    assert!(in_child(|| {
        // The descriptor was opened, and what it answers is denied later.
        let pages = PrivatePages::new();
        assert!(
            deny(libc::SYS_ioctl, None, libc::EPERM) && deny(libc::SYS_pread64, None, libc::EPERM)
        );
        found(&pages, &memory) == vec![0..8] && PrivatePages::new().way() == Way::All
    }));
    assert!(in_child(|| {
        assert!(OPEN.iter().all(|&call| deny(call, None, libc::ENOENT)));
        let pages = PrivatePages::new();
        pages.way() == Way::All && reset(&pages, &memory) == 8 && memory.read(2 * page_size()) == 5
    }));
}

#[test]
fn locked_memory_and_memory_that_is_not_there_are_errors() {
    for pages in telling() {
        let (memory, _file) = Memory::of_a_file(4);
        memory.write(0, 6);
        // SAFETY: the memory is the test's own.
        assert_eq!(unsafe { libc::mlock(memory.at(0), page_size()) }, 0);
        // SAFETY: as above, and no reference to it exists.
        let error = unsafe { pages.reset(memory.start, memory.len) }.unwrap_err();
        assert_eq!(error.raw_os_error(), libc::EINVAL);
        assert_eq!(memory.read(0), 6);
    }
    let pages = PrivatePages::by(Way::All).unwrap();
    assert!(pages.find(page_size() + 1, 1).is_err());
    assert!(pages.find(usize::MAX - page_size() + 1, page_size()).is_err());
    assert_eq!(pages.find(page_size(), 0).unwrap(), []);
    // Nothing is ever mapped at the lowest pages.
    // SAFETY: there is nothing that could be given up.
    let error = unsafe { pages.reset(page_size(), page_size()) }.unwrap_err();
    assert_eq!(error.raw_os_error(), libc::ENOMEM);
}

/// Run with `--ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn figures_of_100_mb() {
    for pages in telling() {
        let (memory, _file) = Memory::of_a_file(25_600);
        for is_mapped in [false, true] {
            for page in (0..25_600).filter(|_| is_mapped) {
                assert_eq!(memory.read(page * page_size()), 5);
            }
            let begin = std::time::Instant::now();
            assert_eq!(found(&pages, &memory), []);
            let look = begin.elapsed();
            for page in [1, 9000, 20_000, 25_000] {
                memory.write(page * page_size(), 6);
            }
            let begin = std::time::Instant::now();
            assert_eq!(reset(&pages, &memory), 4);
            let took = begin.elapsed();
            println!(
                "{pages:?}, every page mapped: {is_mapped}: look {look:?}, reset of 4 {took:?}"
            );
        }
    }
}
