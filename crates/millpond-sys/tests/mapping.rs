#![allow(unsafe_code, reason = "reads and writes mapped memory, and forks")]

use std::fs;
use std::os::fd::AsFd;

use millpond_sys::mapping::{Access, Mapping, page_size};
use millpond_sys::{file_range, memfd, process};

/// Reads the first byte of a mapping.
fn first_byte(mapping: &Mapping) -> u8 {
    // SAFETY: The mapping is alive, at least a page long, and within its file.
    unsafe { mapping.as_ptr().read_volatile() }
}

/// Returns the attribute lines of the mapping in /proc/self/smaps, none if it is not mapped.
fn smaps_of(start: usize) -> Option<String> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, from) = smaps.split_once(&format!("{start:x}-"))?;
    let end = from.find("VmFlags:").unwrap();
    Some(from[..end].to_owned() + from[end..].lines().next().unwrap())
}

#[test]
fn two_mappings_of_one_file_see_each_other() {
    let pages = 2 * page_size();
    let file = memfd::create("millpond-test", pages as u64).unwrap();
    let whole = Mapping::new(file.as_fd(), 0, pages, Access::ReadWrite).unwrap();
    let second =
        Mapping::new(file.as_fd(), page_size() as u64, page_size(), Access::ReadOnly).unwrap();
    let private =
        Mapping::new(file.as_fd(), page_size() as u64, 1, Access::PrivateReadOnly).unwrap();
    // SAFETY: The mapping is writable, two pages long, and no reference to it exists.
    unsafe { whole.as_ptr().add(page_size()).write_volatile(7) };
    assert_eq!((first_byte(&second), first_byte(&private)), (7, 7));
    assert_eq!((whole.len(), private.len(), private.is_empty()), (pages, 1, false));
}

#[test]
fn no_mapping_enters_a_core_dump() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    for access in [Access::ReadWrite, Access::ReadOnly, Access::PrivateReadOnly] {
        let mapping = Mapping::new(file.as_fd(), 0, page_size(), access).unwrap();
        let smaps = smaps_of(mapping.as_ptr() as usize).unwrap();
        let flags: Vec<&str> = smaps.lines().last().unwrap().split_whitespace().collect();
        assert!(flags.contains(&"dd"), "{access:?}: {flags:?}");
        assert_eq!(flags.contains(&"nr"), access == Access::PrivateReadOnly, "{flags:?}");
        assert_eq!(flags.contains(&"wr"), access == Access::ReadWrite, "{flags:?}");
        assert_eq!(flags.contains(&"sh"), access != Access::PrivateReadOnly, "{flags:?}");
    }
}

#[test]
fn a_dropped_mapping_is_unmapped() {
    // Mappings of other tests may take the address, so the name of the file is asked for.
    let file = memfd::create("millpond-test-dropped", page_size() as u64).unwrap();
    let mapping = Mapping::new(file.as_fd(), 0, page_size(), Access::ReadWrite).unwrap();
    let is_mapped =
        || fs::read_to_string("/proc/self/maps").unwrap().contains("millpond-test-dropped");
    assert!(is_mapped());
    drop(mapping);
    assert!(!is_mapped());
}

#[test]
fn a_forked_child_that_drops_a_mapping_can_still_read_it() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    file_range::write_all_at(file.as_fd(), 0, &[42]).unwrap();
    let mapping = Mapping::new(file.as_fd(), 0, page_size(), Access::ReadOnly).unwrap();
    // SAFETY: The child makes only calls that are allowed after a fork of a threaded program: it
    // compares two numbers, reads memory, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let start = mapping.as_ptr();
        drop(mapping);
        // SAFETY: In a forked child the drop leaves the pages mapped; if not, the child dies and
        // the test fails.
        process::exit_now(i32::from(unsafe { start.read_volatile() }));
    }
    let mut status = 0;
    // SAFETY: The pointer is to a live integer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child died: status {status:#x}");
    assert_eq!(libc::WEXITSTATUS(status), 42);
    assert_eq!(first_byte(&mapping), 42);
}

#[test]
#[should_panic(expected = "no multiple of the page size")]
fn an_offset_inside_a_page_panics() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    drop(Mapping::new(file.as_fd(), 8, 8, Access::ReadOnly));
}

#[test]
fn an_empty_mapping_is_an_error() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    let error = Mapping::new(file.as_fd(), 0, 0, Access::ReadOnly).unwrap_err();
    assert_eq!(error.to_string(), "mmap: invalid argument (errno 22)");
}

#[test]
fn a_mapping_larger_than_the_address_space_is_out_of_memory() {
    let file = memfd::create("millpond-test", page_size() as u64).unwrap();
    let error = Mapping::new(file.as_fd(), 0, 1 << 62, Access::ReadOnly).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
}

#[test]
fn a_page_is_a_power_of_two() {
    assert!(page_size().is_power_of_two());
}
