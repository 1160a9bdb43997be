//! What a process holds: a leak is a difference between two counts, and there is no tolerance.

use std::collections::BTreeMap;
use std::fs;

use crate::procfs::{children_of, numbers_in, own_threads};

/// What marks Millpond's memory files in the list of mappings.
const MEMFD_MARK: &str = "memfd:millpond";

/// What marks an entry of `/dev/shm` as Millpond's; the rest is the business of the whole machine.
const SHM_MARK: &str = "millpond";

/// What this process holds at one moment.
///
/// It is for processes that run one test at a time: what other threads open and close meanwhile is
/// counted too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Each thing by its description, with how many there are of it.
    things: BTreeMap<String, usize>,
}

impl Census {
    /// Counts open descriptors by what they stand for, threads by name, children (those that ended
    /// and were not reaped apart), mappings of Millpond's memory files, and entries of
    /// `/dev/shm` with Millpond's name.
    ///
    /// A thread that has begun to end is not counted, because joining it returns a little before
    /// the kernel has forgotten it.
    ///
    /// # Panics
    ///
    /// Panics where `/proc` cannot be read: a count of nothing would find no leak.
    pub fn take() -> Self {
        let mut census = Self { things: BTreeMap::new() };
        for target in descriptor_targets() {
            census.count(format!("descriptor of {target}"));
        }
        for thread in own_threads().iter().filter(|thread| !thread.is_ending()) {
            census.count(format!("thread {:?}", thread.name));
        }
        for child in children_of(std::process::id()) {
            let state = if child.is_ending() { ", ended and not reaped" } else { "" };
            census.count(format!("child {} {:?}{state}", child.pid, child.name));
        }
        for line in memfd_mappings() {
            census.count(format!("mapping {line}"));
        }
        for name in shm_names() {
            census.count(format!("/dev/shm/{name}"));
        }
        census
    }

    fn count(&mut self, thing: String) {
        *self.things.entry(thing).or_default() += 1;
    }

    /// Returns a sentence for each thing that came or went since `before`; none if all is equal.
    ///
    /// A descriptor that was closed, and opened again for the same thing under another number, is
    /// no difference.
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let count_in = |census: &Self, thing| census.things.get(thing).copied().unwrap_or(0);
        let added = self.things.keys().filter(|thing| !before.things.contains_key(*thing));
        before
            .things
            .keys()
            .chain(added)
            .map(|thing| (thing, count_in(before, thing), count_in(self, thing)))
            .filter(|(_, count_before, count_now)| count_before != count_now)
            .map(|(thing, count_before, count_now)| {
                format!("{thing}: {count_before} before, {count_now} now")
            })
            .collect()
    }
}

/// Reads what each open descriptor stands for.
fn descriptor_targets() -> Vec<String> {
    let numbers = numbers_in("/proc/self/fd");
    assert!(!numbers.is_empty(), "/proc/self/fd cannot be read");
    // The descriptor that listed the folder is closed by now, and has no target.
    let target = |number| fs::read_link(format!("/proc/self/fd/{number}")).ok();
    let targets = numbers.into_iter().filter_map(target);
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}

/// Reads the mappings of Millpond's memory files, a line each.
fn memfd_mappings() -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps")
        .unwrap_or_else(|error| panic!("/proc/self/maps cannot be read: {error}"));
    maps.lines().filter(|line| line.contains(MEMFD_MARK)).map(str::to_owned).collect()
}

/// Lists what is Millpond's in /dev/shm, which not every machine has.
fn shm_names() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(SHM_MARK)).collect()
}
