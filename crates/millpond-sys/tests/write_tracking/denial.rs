//! Where the kernel or a sandbox denies a call, there is no tracker, and nothing is left behind.

use std::fs;

use millpond_sys::write_tracking::WriteTracker;

use crate::support::{OPEN, PAGEMAP_SCAN, deny, exit_code_of_child, tracker};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Denies calls in a child and returns the number of the error that a new tracker gives there.
fn error_without(calls: &[i64], second: Option<u32>, errno: i32) -> i32 {
    const LEAKED: i32 = 250;
    const MADE: i32 = 251;
    const NOT_DENIED: i32 = 252;
    exit_code_of_child(|| {
        let before = descriptors();
        if !calls.iter().all(|&call| deny(call, second, errno)) {
            return NOT_DENIED;
        }
        match WriteTracker::new() {
            Ok(_) => MADE,
            // The folder cannot be opened any more if it is opening that is denied.
            Err(_) if calls != OPEN && descriptors() != before => LEAKED,
            Err(error) => error.raw_os_error(),
        }
    })
}

#[test]
fn where_a_call_is_denied_there_is_no_tracker() {
    if tracker().is_none() {
        return;
    }
    const UFFDIO_API: u32 = 0xc018_aa3f;
    const UFFDIO_REGISTER: u32 = 0xc020_aa00;
    for (calls, second, errno) in [
        // A container's usual filter, and a kernel without the call.
        (&[libc::SYS_userfaultfd][..], None, libc::EPERM),
        (&[libc::SYS_userfaultfd], None, libc::ENOSYS),
        // A kernel that lacks one of the features.
        (&[libc::SYS_ioctl], Some(UFFDIO_API), libc::EINVAL),
        (&[libc::SYS_ioctl], Some(UFFDIO_REGISTER), libc::EINVAL),
        // A kernel before 6.7.
        (&[libc::SYS_ioctl], Some(PAGEMAP_SCAN), libc::ENOTTY),
        // No /proc.
        (OPEN, None, libc::ENOENT),
        (OPEN, None, libc::EACCES),
    ] {
        assert_eq!(error_without(calls, second, errno), errno, "calls {calls:?}, {second:x?}");
    }
}

#[test]
fn where_a_scan_is_denied_later_all_counts_as_written() {
    let Some(tracker) = tracker() else { return };
    let memory = crate::support::Memory::filled(4);
    drop(tracker);
    let code = exit_code_of_child(|| {
        let tracker = WriteTracker::new().unwrap();
        let tracked = memory.track(&tracker);
        if tracked.is_written() || !deny(libc::SYS_ioctl, None, libc::EPERM) {
            return 1;
        }
        i32::from(!tracked.is_written())
    });
    assert_eq!(code, 0);
}
