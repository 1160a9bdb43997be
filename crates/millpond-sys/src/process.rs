#![allow(unsafe_code, reason = "_exit")]
//! This process itself, and others by their numbers.

use rustix::process::{Pid, kill_process};

use crate::{Error, Result};

pub use rustix::process::Signal;

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

/// `kill(pid, signal)`
///
/// Sends a signal to the process with this number, whichever that is by now.
pub fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| kill_process(pid, signal))
        .map_err(Error::of("kill"))
}

/// Reads `/proc/<pid>/statm` (proc_pid_statm(5), the second number).
///
/// Returns how many bytes of memory the process has resident, shared ones included; `None` if it is
/// gone, or there is no `/proc`.
pub fn resident_len(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * crate::mapping::page_size() as u64)
}

/// `sched_yield(2)`: lets another thread that waits for this CPU run first.
///
/// A spinner calls it between looks: where it shares its CPU with whoever it waits for, as happens on
/// machines of few cores, plain spinning would only keep the news from coming.
pub fn give_way() {
    rustix::thread::sched_yield();
}
