//! What the system lets this process use.

use rustix::process::{Resource, getrlimit};

/// `getrlimit(RLIMIT_FSIZE)`
///
/// Returns the largest file in bytes that this process may make, `u64::MAX` if there is no limit.
/// Memory files count. The limit may change while the program runs.
pub fn file_size_max() -> u64 {
    soft_limit(Resource::Fsize)
}

/// `getrlimit(RLIMIT_AS)`
///
/// Returns the most address space in bytes that this process may map, `u64::MAX` if there is no
/// limit.
pub fn address_space_max() -> u64 {
    soft_limit(Resource::As)
}

fn soft_limit(resource: Resource) -> u64 {
    getrlimit(resource).current.unwrap_or(u64::MAX)
}

/// `sched_getaffinity(0)`, and the quota of the control group
///
/// Returns how many processors this thread may keep busy, at least 1. Reads files: not for a hot
/// path.
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
