//! Futexes: threads that sleep on a bell, until somebody wakes them.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use millpond_table::sync::AtomicU32;
use shuttle::thread::{self, Thread};

/// Who sleeps on which bell. Its lock is held over no step of a schedule, so that shuttle need not
/// know it. A thread that is never woken blocks for ever, and shuttle tells so when all others are over.
#[derive(Default)]
pub(crate) struct Futex {
    sleepers: Mutex<Vec<(usize, Thread)>>,
}

fn address(bell: &AtomicU32) -> usize {
    std::ptr::from_ref(bell).addr()
}

impl Futex {
    /// Sleeps until somebody wakes who sleeps on this bell, if its value is `value`.
    pub(crate) fn wait(&self, bell: &AtomicU32, value: u32) {
        let me = thread::current();
        // In the list before it looks: who silences the bell after that finds it there.
        self.sleepers.lock().expect("no panic").push((address(bell), me.clone()));
        let in_list = InList { futex: self, me };
        if bell.load(Ordering::Relaxed) == value {
            while in_list.is_there() {
                thread::park();
            }
        }
    }

    /// Wakes all that sleep on this bell.
    pub(crate) fn wake(&self, bell: &AtomicU32) {
        // A step of the caller's: it may have silenced the bell, and die before this call.
        let _ = bell.load(Ordering::Relaxed);
        let is_there = |entry: &mut (usize, Thread)| entry.0 == address(bell);
        let found: Vec<_> = {
            let mut sleepers = self.sleepers.lock().expect("no panic");
            sleepers.extract_if(.., is_there).collect()
        };
        // Each of these is a step.
        for (_, thread) in found {
            thread.unpark();
        }
    }
}

/// A thread's place in the list, which it leaves also if it dies.
struct InList<'a> {
    futex: &'a Futex,
    me: Thread,
}

impl InList<'_> {
    fn is_there(&self) -> bool {
        let sleepers = self.futex.sleepers.lock().expect("no panic");
        sleepers.iter().any(|(_, thread)| thread.id() == self.me.id())
    }
}

impl Drop for InList<'_> {
    fn drop(&mut self) {
        if let Ok(mut sleepers) = self.futex.sleepers.lock() {
            sleepers.retain(|(_, thread)| thread.id() != self.me.id());
        }
    }
}
