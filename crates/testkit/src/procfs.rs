//! The little of `/proc` that census and watchdog both read.

use std::fs;
use std::path::Path;

/// Returns the numeric names in a folder, sorted: process ids, thread ids, descriptors.
///
/// What cannot be read is empty, as a process that has just ended is.
pub(crate) fn numbers_in(folder: impl AsRef<Path>) -> Vec<u32> {
    let mut numbers: Vec<u32> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The kernel's mark of a thread or process that has begun to end.
const EXITING: u32 = 0x4;

/// A process or thread as its `stat` file tells it.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent_pid: u32,
    pub(crate) name: String,
    flags: u32,
}

impl Process {
    /// Reads one process or thread from its folder in `/proc`; none if it is gone.
    fn read(folder: &Path) -> Option<Self> {
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name stands in parentheses and may hold parentheses and spaces itself.
        let (before, after) = stat.rsplit_once(") ")?;
        let (pid, name) = before.split_once(" (")?;
        // From here: state, parent, group, session, terminal, its group, flags.
        let mut fields = after.split(' ').skip(1);
        Some(Self {
            pid: pid.parse().ok()?,
            parent_pid: fields.next()?.parse().ok()?,
            name: name.to_owned(),
            flags: fields.nth(4)?.parse().ok()?,
        })
    }

    /// Reads all processes or threads of a folder.
    fn all_in(folder: &str) -> Vec<Self> {
        let folder = Path::new(folder);
        let read = |number: u32| Self::read(&folder.join(number.to_string()));
        numbers_in(folder).into_iter().filter_map(read).collect()
    }

    /// Tells whether it has begun to end, or has ended and was not reaped.
    pub(crate) const fn is_ending(&self) -> bool {
        self.flags & EXITING != 0
    }
}

/// Returns the threads of this process, those that are about to end included.
pub(crate) fn own_threads() -> Vec<Process> {
    Process::all_in("/proc/self/task")
}

/// Returns the children of a process, ended ones that nobody reaped included.
pub(crate) fn children_of(pid: u32) -> Vec<Process> {
    Process::all_in("/proc").into_iter().filter(|process| process.parent_pid == pid).collect()
}

/// Returns the children of a process, their children, and so on.
pub(crate) fn descendants_of(pid: u32) -> Vec<Process> {
    let all = Process::all_in("/proc");
    let mut family = vec![pid];
    let mut found: Vec<Process> = Vec::new();
    let mut next = 0;
    while let Some(&parent_pid) = family.get(next) {
        next += 1;
        for process in all.iter().filter(|process| process.parent_pid == parent_pid) {
            // A number that was reused while the list was read could make a circle.
            if !family.contains(&process.pid) {
                family.push(process.pid);
                found.push(process.clone());
            }
        }
    }
    found
}
