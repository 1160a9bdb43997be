//! The time.

use rustix::time::{ClockId, clock_gettime};

/// `clock_gettime(CLOCK_MONOTONIC)`
///
/// Returns nanoseconds since the system's start, the same in all processes of one time namespace.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
