#![allow(unsafe_code, reason = "_exit")]
//! This process itself.

/// `_exit(code)`
///
/// Ends the process with all its threads at once: no exit handler, no destructor, no flush. The
/// parent sees the low eight bits of `code`. Allocates nothing and takes no lock.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit may be called in any state of the process, and does not return.
    unsafe { libc::_exit(code) }
}

/// `getpid()`
///
/// Returns the number of this process; in a forked child, the child's.
pub fn id() -> u32 {
    std::process::id()
}

/// `sched_yield(2)`: lets another thread that waits for this CPU run first.
///
/// A spinner calls it between looks: where it shares its CPU with whoever it waits for, as happens on
/// machines of few cores, plain spinning would only keep the news from coming.
pub fn give_way() {
    rustix::thread::sched_yield();
}
