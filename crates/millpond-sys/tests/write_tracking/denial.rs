//! Where the kernel or a sandbox denies a call, there is no tracker, and nothing is left behind.

use std::fs;

use millpond_sys::write_tracking::WriteTracker;

use crate::support::{exit_code_of_child, tracker};

/// What opens a file, by its path.
#[cfg(target_arch = "x86_64")]
const OPEN: &[i64] = &[libc::SYS_open, libc::SYS_openat];
#[cfg(not(target_arch = "x86_64"))]
const OPEN: &[i64] = &[libc::SYS_openat];

/// Denies one system call to this process, for good: it fails with `errno`, but only if its second
/// argument is `second`, where one is given.
fn deny(call: i64, second: Option<u32>, errno: i32) -> bool {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const END: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Offsets into `struct seccomp_data`: the number of the call, the low half of the second argument.
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(JUMP, 0, 3, u32::try_from(call).unwrap()),
        step(LOAD, 0, 0, 24),
        step(JUMP, 0, 1, second.unwrap_or_default()),
        step(END, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        step(END, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    if second.is_none() {
        // Whatever the argument is, the next step is the denial.
        filter[3].jf = 0;
    }
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call; only this process, a forked child, is restricted.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

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
    const PAGEMAP_SCAN: u32 = 0xc060_6610;
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
