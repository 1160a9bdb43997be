//! The time.

use millpond_sys::clock;

#[test]
fn time_never_goes_back_and_other_processes_have_the_same() {
    let before = clock::monotonic_ns();
    // `/proc/uptime` counts the same seconds, if not those of a time namespace of its own.
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime_s: f64 = text.split(' ').next().unwrap().parse().unwrap();
    let after = clock::monotonic_ns();
    assert!(after >= before);
    // The clock of the system's start also counts what it slept, and the text is rounded.
    assert!(uptime_s + 1.0 >= before as f64 / 1e9, "{uptime_s} {before}");
}
