use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use millpond_sys::mapping::page_size;
use millpond_sys::{file_range, memfd};

#[test]
fn what_is_written_is_read_back() {
    let file = memfd::create("millpond-test", 1 << 20).unwrap();
    let written: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    file_range::write_all_at(file.as_fd(), 777, &written).unwrap();
    let mut read = vec![0; written.len()];
    file_range::read_exact_at(file.as_fd(), 777, &mut read).unwrap();
    assert_eq!(read, written);
}

#[test]
fn nothing_may_be_written_or_read() {
    let file = memfd::create("millpond-test", 0).unwrap();
    file_range::write_all_at(file.as_fd(), 0, &[]).unwrap();
    file_range::read_exact_at(file.as_fd(), 0, &mut []).unwrap();
}

#[test]
fn a_read_beyond_the_end_is_an_error() {
    let file = memfd::create("millpond-test", 10).unwrap();
    let error = file_range::read_exact_at(file.as_fd(), 4, &mut [0; 7]).unwrap_err();
    assert_eq!(error.to_string(), "pread: no data available (errno 61)");
}

#[test]
fn a_write_beyond_the_sealed_end_is_an_error() {
    let file = memfd::create("millpond-test", 10).unwrap();
    let error = file_range::write_all_at(file.as_fd(), 4, &[1; 7]).unwrap_err();
    assert_eq!(error.to_string(), "pwrite: operation not permitted (errno 1)");
}

#[test]
fn a_punched_hole_reads_as_zeros_and_gives_its_memory_back() {
    let pages = 16 * page_size();
    let file = File::from(memfd::create("millpond-test", pages as u64).unwrap());
    file_range::write_all_at(file.as_fd(), 0, &vec![1; pages]).unwrap();
    let blocks_full = file.metadata().unwrap().blocks();
    assert!(file_range::punch_hole(file.as_fd(), 0, pages as u64 - 1).unwrap());
    assert!(file.metadata().unwrap().blocks() < blocks_full);
    let mut read = vec![9; pages];
    file_range::read_exact_at(file.as_fd(), 0, &mut read).unwrap();
    assert!(read[..pages - 1].iter().all(|&byte| byte == 0));
    assert_eq!(read[pages - 1], 1);
}

#[test]
fn an_empty_hole_changes_nothing() {
    let file = memfd::create("millpond-test", 4096).unwrap();
    assert!(file_range::punch_hole(file.as_fd(), 0, 0).unwrap());
}

#[test]
fn a_hole_where_there_is_no_file_is_told_apart_from_no_support() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let error = file_range::punch_hole(reader.as_fd(), 0, 1).unwrap_err();
    assert_eq!(error.operation(), "fallocate(FALLOC_FL_PUNCH_HOLE)");
}
