//! Sleeping on a word of memory that several processes share.
//!
//! The futexes here are shared, not private: the kernel finds the waiters by file and offset, so
//! that the two sides may have mapped the word at different addresses.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

/// Shared between processes: the flag for process-private futexes is absent.
const SHARED: Flags = Flags::empty();

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A wake reached this waiter; it may have been meant for an earlier use of the word.
    Woken,
    /// The word did not hold the expected value, so there was no wait.
    Changed,
    /// The timeout passed.
    TimedOut,
    /// A signal handler ran in this thread.
    Interrupted,
}

/// `syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout)`
///
/// Sleeps if `word` holds `expected`, until a [`wake`], a signal or the timeout, whichever is
/// first. The comparison and falling asleep are one step as seen from any waker. The kernel reads
/// the word, but what this thread may conclude from other memory needs an acquire load of its own
/// after the return.
///
/// # Panics
///
/// Panics on any other answer of the kernel: the word is a valid reference, so there is none that a
/// caller could act upon.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    try_wait(word, expected, timeout)
        .unwrap_or_else(|errno| panic!("futex wait: {errno} is no answer to a valid call"))
}

/// As [`wait`], and returns what has no name in [`Wait`].
pub(crate) fn try_wait(
    word: &AtomicU32,
    expected: u32,
    timeout: Option<Duration>,
) -> Result<Wait, Errno> {
    // A timeout that the kernel cannot count is no timeout.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match futex::wait(word, SHARED, expected, timeout.as_ref()) {
        Ok(()) => Ok(Wait::Woken),
        Err(Errno::AGAIN) => Ok(Wait::Changed),
        Err(Errno::TIMEDOUT) => Ok(Wait::TimedOut),
        Err(Errno::INTR) => Ok(Wait::Interrupted),
        Err(errno) => Err(errno),
    }
}

/// `syscall(SYS_futex, word, FUTEX_WAKE, count)`
///
/// Wakes up to `count` waiters, `u32::MAX` meaning all, and returns how many there were.
///
/// # Panics
///
/// Panics if the kernel refuses, which it cannot for a valid reference.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    try_wake(word, count)
        .unwrap_or_else(|errno| panic!("futex wake: {errno} is no answer to a valid call"))
}

/// As [`wake`], and returns the refusal.
pub(crate) fn try_wake(word: &AtomicU32, count: u32) -> Result<usize, Errno> {
    if count == 0 {
        // The kernel would wake one.
        return Ok(0);
    }
    // The kernel reads the count as an int, and wakes one waiter if it is negative.
    futex::wake(word, SHARED, count.min(i32::MAX as u32))
}
