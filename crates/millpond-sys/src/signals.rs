#![allow(unsafe_code, reason = "the signal sets of libc")]
//! Signals, which belong to the user's threads and not to ours.

use std::mem::MaybeUninit;
use std::ptr;

/// What a thread's own instruction raises. The kernel ends the process if such a signal is blocked,
/// and the handlers that say what happened (Rust's for a stack overflow, `faulthandler`) never run.
const FAULTS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// `pthread_sigmask(SIG_SETMASK, all, NULL)`
///
/// Blocks every signal in the calling thread, so that the user's handlers run in the user's
/// threads. Left open are those of faults in the thread itself, and those that libc keeps for its
/// own use. `SIGKILL` and `SIGSTOP` cannot be blocked.
///
/// Threads and processes started by this thread inherit the mask, so a worker is never started
/// from a thread that called this.
///
/// # Panics
///
/// Panics if the call fails, which it does for invalid arguments only.
pub fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes the whole set behind the valid pointer before anything reads it,
    // sigdelset gets that same set and valid signals, and a null pointer for the old mask is
    // allowed.
    let failed = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for signal in FAULTS {
            libc::sigdelset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut())
    };
    assert!(failed == 0, "pthread_sigmask: errno {failed} is no answer to a valid call");
}
