#![allow(unsafe_code, reason = "reads and writes the bytes of its own copies")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use millpond_sys::mapping::page_size;
use millpond_sys::private_copy::{Original, PrivateCopy};
use millpond_sys::private_pages::PrivatePages;
use millpond_sys::{file_range, memfd};

use crate::support::in_child;

const PAGES: usize = 40;

fn file() -> Arc<OwnedFd> {
    let len = PAGES * page_size();
    let file = memfd::create("millpond-test", len as u64).unwrap();
    file_range::write_all_at(file.as_fd(), 0, &vec![5; len]).unwrap();
    Arc::new(file)
}

fn copy(file: &Arc<OwnedFd>, original: Original) -> PrivateCopy {
    let offset = page_size() as u64;
    PrivateCopy::new(file, offset, (PAGES - 1) * page_size() - 100, original).unwrap()
}

fn overwrite(file: &OwnedFd) {
    file_range::write_all_at(file.as_fd(), 0, &vec![9; PAGES * page_size()]).unwrap();
}

fn read(copy: &PrivateCopy, page: usize) -> u8 {
    // SAFETY: the byte lies in the copy, to which no reference exists.
    unsafe { copy.as_ptr().add(page * page_size()).read_volatile() }
}

fn write(copy: &PrivateCopy, page: usize, value: u8) {
    // SAFETY: as above.
    unsafe { copy.as_ptr().add(page * page_size()).write_volatile(value) };
}

fn byte_of(file: &OwnedFd, page: usize) -> u8 {
    let mut bytes = [0];
    file_range::read_exact_at(file.as_fd(), (page * page_size()) as u64, &mut bytes).unwrap();
    bytes[0]
}

#[test]
fn what_is_written_stays_here_and_a_reset_takes_it_back() {
    let file = file();
    let (one, other) = (copy(&file, Original::Stays), copy(&file, Original::Stays));
    write(&one, 3, 7);
    assert_eq!((read(&one, 3), read(&one, 4), read(&other, 3)), (7, 5, 5));
    assert_eq!(byte_of(&file, 4), 5);
    // SAFETY: no reference to the copy exists.
    unsafe { one.reset(&PrivatePages::new()) }.unwrap();
    assert_eq!((read(&one, 3), read(&one, 4)), (5, 5));
}

#[test]
fn the_page_in_front_is_not_the_files() {
    let file = file();
    let copy = copy(&file, Original::Stays);
    // SAFETY: the front page belongs to the copy.
    unsafe {
        let last = copy.as_ptr().sub(1);
        assert_eq!(last.read_volatile(), 0);
        last.write_volatile(1);
        copy.reset(&PrivatePages::new()).unwrap();
        assert_eq!(last.read_volatile(), 1);
    }
    assert_eq!(byte_of(&file, 0), 5);
}

#[test]
fn a_fork_completes_every_copy_in_parent_and_child() {
    let file = file();
    let copy = copy(&file, Original::Stays);
    write(&copy, 3, 7);
    let look = |copy: &PrivateCopy| [0, 3, 4, PAGES - 2].map(|page| read(copy, page));
    assert!(in_child(|| {
        overwrite(&file);
        look(&copy) == [5, 7, 5, 5]
    }));
    assert_eq!(byte_of(&file, 4), 9, "the child has written the file");
    assert_eq!(look(&copy), [5, 7, 5, 5]);
}

#[test]
fn a_copy_that_was_reset_after_a_fork_is_completed_by_the_next_one() {
    let file = file();
    let copy = copy(&file, Original::Stays);
    assert!(in_child(|| true));
    // SAFETY: no reference to the copy exists.
    unsafe { copy.reset(&PrivatePages::new()) }.unwrap();
    assert!(in_child(|| true));
    overwrite(&file);
    assert_eq!(read(&copy, 6), 5);
}

#[test]
fn a_copy_that_is_dropped_in_a_child_can_still_be_read_there() {
    let file = file();
    let copy = copy(&file, Original::Stays);
    let start = copy.as_ptr().addr();
    let mut holder = Some(copy);
    assert!(in_child(|| {
        // SAFETY: the fork has made a second holder of the same value, in another process.
        drop(unsafe { std::ptr::read(&raw const holder) });
        // SAFETY: that it is still mapped is what the test asks.
        unsafe { std::ptr::with_exposed_provenance::<u8>(start).read_volatile() == 5 }
    }));
    drop(holder.take());
}

#[test]
fn the_memory_of_an_original_that_goes_is_given_back_at_a_fork() {
    let file = file();
    let copy = copy(&file, Original::GoesAtFork);
    assert!(in_child(|| read(&copy, 4) == 5));
    assert_eq!((read(&copy, 4), read(&copy, PAGES - 2)), (5, 5));
    assert_eq!((byte_of(&file, 0), byte_of(&file, 1), byte_of(&file, PAGES - 1)), (5, 0, 0));
}

#[test]
fn nothing_is_a_bad_length() {
    assert!(PrivateCopy::new(&file(), 0, 0, Original::Stays).is_err());
}

#[test]
fn a_copy_that_was_completed_no_longer_follows_the_file() {
    let file = file();
    let copy = copy(&file, Original::GoesAtFork);
    write(&copy, 3, 7);
    copy.complete();
    assert!(copy.is_complete());
    overwrite(&file);
    assert!(in_child(|| true));
    assert_eq!([0, 3, PAGES - 2].map(|page| read(&copy, page)), [5, 7, 5]);
    // A fork gives back the memory of what it completes itself, and this was complete.
    assert_eq!(byte_of(&file, 1), 9);
}
