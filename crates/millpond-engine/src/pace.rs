//! How briskly tasks are claimed, and so whether waking one more worker helps.
//!
//! Where workers outnumber the CPUs, and tasks take microseconds, the workers that are awake have
//! emptied the ring before another one has woken; it finds nothing, and has taken a CPU from them. So
//! while the pace is brisk, no worker is woken as long as there are as many awake as CPUs. That is a
//! guess: these workers may all have begun long tasks just now, or tasks that only wait. So while it
//! is acted on, the supervisor patrols: it looks once in a window, and wakes one worker, or, when the
//! pace has fallen, one for each task that waits. Tasks that nobody claims wait so for two windows.

use millpond_sys::futex;
use millpond_table::Table;

use crate::parent::Shared;
use crate::state::State;

/// For how long claims are counted, at least; and how often the supervisor looks.
const WINDOW_NS: u64 = 1_000_000;

/// The pace is brisk if a task is claimed so often or oftener: in less time than a wake costs.
const BRISK_NS: u64 = 10_000;

/// Claims of a window of time.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun_at_ns: u64,
    /// Where the ring's head was then.
    head: u64,
    is_brisk: bool,
    /// When the supervisor looks again; `None` if wakes are not held back.
    patrol_at_ns: Option<u64>,
}

impl Pace {
    /// Counts claims up to `head`. Returns whether the pace is brisk, by the last window that is whole.
    fn note(&mut self, now_ns: u64, head: u64) -> bool {
        let time_ns = now_ns.saturating_sub(self.begun_at_ns);
        if time_ns >= WINDOW_NS {
            let claims = head.saturating_sub(self.head);
            self.is_brisk = claims.saturating_mul(BRISK_NS) >= time_ns;
            (self.begun_at_ns, self.head) = (now_ns, head);
        }
        self.is_brisk
    }
}

impl<T> Shared<T> {
    /// After a publish: holds wakes back if that helps, until the supervisor has looked.
    pub(crate) fn mind_the_pace(&self, state: &mut State<T>, now_ns: u64) {
        let table = self.table();
        let is_brisk = state.pace.note(now_ns, table.head_position());
        if is_brisk && state.pace.patrol_at_ns.is_none() {
            let due_ns = now_ns + WINDOW_NS;
            state.pace.patrol_at_ns = Some(due_ns);
            self.hold_wakes(state);
            self.look_by(state, due_ns);
        }
    }

    fn hold_wakes(&self, state: &State<T>) {
        let spare = state.lives.len().saturating_sub(self.cpu_count);
        self.table().hold_wakes(u32::try_from(spare).unwrap_or(u32::MAX));
    }

    /// Tells whether there are so many workers that the pace matters.
    pub(crate) fn is_crowded(&self, state: &State<T>) -> bool {
        state.lives.len() > self.cpu_count
    }

    /// Wakes workers for what waits, if the pace has fallen. Runs in the supervisor; returns when it is
    /// to look again.
    pub(crate) fn patrol(&self, state: &mut State<T>, now_ns: u64) -> u64 {
        let Some(due_ns) = state.pace.patrol_at_ns else { return u64::MAX };
        if now_ns < due_ns {
            return due_ns;
        }
        let table = self.table();
        let head = table.head_position();
        state.run_ahead.claimed(head);
        let waiting = state.run_ahead.len();
        if waiting > 0 && state.pace.note(now_ns, head) && self.is_crowded(state) {
            let due_ns = now_ns + WINDOW_NS;
            state.pace.patrol_at_ns = Some(due_ns);
            self.hold_wakes(state);
            // Workers in tasks that only wait count as awake and leave CPUs idle. One more worker in each
            // window costs next to nothing, and makes up for them.
            #[cfg(not(canary = "blind-patrol"))]
            wake(&table, 1);
            return due_ns;
        }
        // A wake was held back for a task that was published before this look, which sees it if it still
        // waits; for tasks that are published after it, none is.
        state.pace.patrol_at_ns = None;
        table.hold_wakes(0);
        #[cfg(not(canary = "blind-patrol"))]
        wake(&table, waiting);
        u64::MAX
    }
}

fn wake(table: &Table<'_>, count: usize) {
    for _ in 0..count {
        let Some(bell) = table.wake_one() else { break };
        futex::wake(bell, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_after_a_rest_is_not_brisk() {
        let mut pace = Pace::default();
        assert!(!pace.note(1_000_000_000, 0));
        // Each of 64 workers has claimed one.
        assert!(!pace.note(1_000_300_000, 64));
        assert!(!pace.note(1_001_000_000, 64));
    }

    #[test]
    fn claims_in_quick_order_are() {
        let mut pace = Pace::default();
        pace.note(1_000_000_000, 0);
        assert!(pace.note(1_001_000_000, 100));
        // By the last window that is whole.
        assert!(pace.note(1_001_500_000, 100));
        assert!(!pace.note(1_002_500_000, 149));
    }

    #[test]
    fn a_damaged_head_is_no_panic() {
        let mut pace = Pace::default();
        pace.note(5, u64::MAX);
        pace.note(u64::MAX, 0);
        pace.note(0, 7);
    }
}
