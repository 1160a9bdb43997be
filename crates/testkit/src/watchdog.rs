//! What hangs, when a test does not end.
//!
//! A test has no maximum time of its own. It starts a watchdog with a generous limit, and one that
//! is not dropped in time shows where every thread of the process and of its descendants stands.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::procfs::{descendants_of, numbers_in};

/// A limit that ends the process, with a report, unless it is dropped in time.
#[derive(Debug)]
pub struct Watchdog {
    /// Dropped to end the thread.
    dropped: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts a thread that, unless the watchdog is dropped within `limit`, writes [`report`] to
    /// standard error and aborts the process.
    ///
    /// A test that takes a census takes both counts with, or both without, a watchdog running.
    ///
    /// # Panics
    ///
    /// Panics if no thread can be started: without one the test is not watched.
    pub fn start(limit: Duration) -> Self {
        let (dropped, is_dropped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                if is_dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    expire(limit);
                }
            })
            .unwrap_or_else(|error| panic!("cannot start the watchdog: {error}"));
        Self { dropped: Some(dropped), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    /// Ends the thread, and returns when it is gone.
    fn drop(&mut self) {
        drop(self.dropped.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was written to standard error already.
            let _ = thread.join();
        }
    }
}

fn expire(limit: Duration) -> ! {
    let text = format!("watchdog: not done within {limit:?}\n{}", report());
    // To the descriptor itself, past the capture of the test harness; if that fails, nobody can be
    // told.
    let _ = std::io::stderr().write_all(text.as_bytes());
    process::abort()
}

/// Returns where every thread of this process and of its descendants stands, a line each.
pub fn report() -> String {
    let mut text = String::new();
    let own_pid = process::id();
    add_process(&mut text, own_pid, "this process");
    for child in descendants_of(own_pid) {
        add_process(&mut text, child.pid, &format!("child of {}", child.parent_pid));
    }
    text
}

/// Adds a process and its threads to a report.
fn add_process(text: &mut String, pid: u32, relation: &str) {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "process {pid}, {relation}: {}", command.trim_end());
    for thread in numbers_in(format!("/proc/{pid}/task")) {
        let _ = writeln!(text, "  thread {thread} {}", describe(pid, thread));
    }
}

/// Describes a thread: its name, state, place in the kernel, and what it last asked of the kernel.
fn describe(pid: u32, thread: u32) -> String {
    let read = |file: &str| {
        let content = fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}"));
        content.map_or_else(|_| "?".to_owned(), |content| content.trim().to_owned())
    };
    let status = read("status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim();
    let mut text = format!("{:?}, {}", read("comm"), field("State:"));
    for (name, value) in [
        ("wchan", read("wchan")),
        ("syscall", read("syscall")),
        ("blocked", field("SigBlk:").to_owned()),
        ("pending", field("SigPnd:").to_owned()),
        ("switches", field("voluntary_ctxt_switches:").to_owned()),
    ] {
        let _ = write!(text, ", {name} {value}");
    }
    // Readable by root only, and not on every kernel.
    for frame in read("stack").lines().filter(|frame| *frame != "?") {
        let _ = write!(text, "\n    {frame}");
    }
    text
}
