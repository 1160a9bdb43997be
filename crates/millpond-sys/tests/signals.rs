use std::fs;
use std::thread;

use millpond_sys::signals;

/// Returns the mask of blocked signals of the calling thread, bit n - 1 for signal n.
fn blocked() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// Tells whether the calling thread blocks a signal.
fn blocks(signal: i32) -> bool {
    blocked() & (1 << (signal - 1)) != 0
}

#[test]
fn a_thread_blocks_signals_for_itself_only() {
    let before = blocked();
    thread::spawn(|| {
        signals::block_all();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD, libc::SIGALRM, libc::SIGPROF] {
            assert!(blocks(signal), "signal {signal}");
        }
        assert!((libc::SIGRTMIN()..=libc::SIGRTMAX()).all(blocks));
    })
    .join()
    .unwrap();
    assert_eq!(blocked(), before);
}

#[test]
fn faults_of_the_thread_itself_stay_open() {
    thread::spawn(|| {
        signals::block_all();
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
            assert!(!blocks(signal), "signal {signal}");
        }
    })
    .join()
    .unwrap();
}
