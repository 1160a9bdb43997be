#![allow(unsafe_code, reason = "pidfd_send_signal, which rustix does not have")]
//! Descriptors that stand for a process, and tell its end.
//!
//! A pidfd says *that* a process has ended. How it ended belongs to whoever reaps it, which is
//! never this crate.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::process::Signal;
use crate::{Error, Result};

/// Descriptors below this are the standard streams; a program may have closed them, and whatever
/// takes their place is read and written by strangers.
const DESCRIPTOR_MIN: i32 = 3;

/// `pidfd_open(pid, 0)`
///
/// Opens a descriptor of the process; it closes on exec. A process that has ended and was not
/// reaped yet can still be opened. Only who knows that the process was not reaped knows that the
/// descriptor is not of a stranger with the same number.
pub fn open(pid: u32) -> Result<OwnedFd> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(Error::of("pidfd_open"))
}

/// `poll(fd, POLLIN, 0)`
///
/// Tells whether the process has ended, reaped or not. Never blocks.
///
/// A descriptor that the program closed behind our back counts as ended: nobody will learn more
/// from it.
pub fn has_ended(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll_end(fd, Some(&now))
}

/// `poll(fd, POLLIN, -1)`
///
/// Returns when the process has ended, and goes on waiting after signals. Allocates nothing, so
/// that it may run in a process that was forked while another thread held the allocator.
pub fn wait_end(fd: BorrowedFd<'_>) {
    while !poll_end(fd, None) {}
}

/// `pidfd_send_signal(fd, signal, NULL, 0)`
///
/// Sends a signal to the process, and never to another that has got its number.
pub fn send_signal(fd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    // SAFETY: the descriptor is open as long as the borrow; no memory is passed.
    let sent = unsafe {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal.as_raw(), no_info, 0)
    };
    if sent == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(Error::new("pidfd_send_signal", Errno::from_raw_os_error(errno)))
}

/// Returns whether the process has ended by the time that the timeout, none meaning forever, or a
/// signal ends the wait.
fn poll_end(fd: BorrowedFd<'_>, timeout: Option<&Timespec>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match poll(&mut polled, timeout) {
        Ok(count) => count > 0,
        // EINTR, or a passing lack of kernel memory: ask again.
        Err(_) => false,
    }
}

/// `fcntl(fd, F_DUPFD_CLOEXEC, 3)`
///
/// Returns another descriptor of the same process, or of whatever `fd` stands for. It closes on
/// exec, and is not one of the three standard streams.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fcntl_dupfd_cloexec(fd, DESCRIPTOR_MIN).map_err(Error::of("fcntl(F_DUPFD_CLOEXEC)"))
}
