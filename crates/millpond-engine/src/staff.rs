//! How many workers there are: who is surplus, who is recalled, and how many are missing.
//!
//! A surplus worker is dismissed: it ends in order after its present task, and leaves its seat like any
//! other that has ended. Whoever starts the processes asks again when a worker is gone or another number
//! is wanted; so nothing here has to be right for longer than the call.

use std::cmp::Reverse;
use std::collections::HashSet;

use millpond_sys::futex;
use millpond_table::{Owner, SeatState};

use crate::lives::{Incarnation, Life};
use crate::parent::{Engine, Shared};
use crate::state::State;

/// What it takes to have as many workers as are wanted.
#[derive(Debug)]
pub struct Staffing {
    /// Workers that were dismissed now.
    pub dismissed: Vec<Incarnation>,
    /// Workers that had been dismissed, and may stay.
    pub recalled: Vec<Incarnation>,
    /// How many are to be started.
    pub missing: usize,
}

/// How much is lost with a worker, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It ends anyway: the parent has stopped it, or it has said so.
    Ending,
    Starting,
    Idle,
    Busy,
}

impl<T: Send + 'static> Engine<T> {
    /// Dismisses surplus workers, or recalls dismissed ones, so that `wanted` of them stay, as far as
    /// there are so many.
    ///
    /// Those that end anyway are dismissed first, then those that are not ready, then idle ones. A worker
    /// that was dismissed before it was recalled may end all the same, which a vacancy tells.
    pub fn staff(&self, wanted: usize) -> Staffing {
        let shared = &self.shared;
        let mut guard = shared.lock();
        let state = &mut *guard;
        let leaving_count = state.lives.values().filter(|life| life.is_leaving).count();
        let staying = state.lives.len() - leaving_count;
        let surplus = staying.saturating_sub(wanted);
        let mut dismissed = Vec::new();
        if surplus > 0 {
            let mut staff = shared.by_worth(state, false);
            staff.sort_unstable_by_key(|(worth, seat, _)| (*worth, Reverse(*seat)));
            dismissed
                .extend(staff.into_iter().take(surplus).map(|(_, _, incarnation)| incarnation));
        }
        let lacking = wanted.saturating_sub(staying);
        let mut recalled = Vec::new();
        if lacking > 0 && leaving_count > 0 {
            let mut staff = shared.by_worth(state, true);
            staff.retain(|(worth, _, _)| *worth != Worth::Ending);
            staff.sort_unstable_by_key(|(worth, seat, _)| (Reverse(*worth), *seat));
            recalled.extend(staff.into_iter().take(lacking).map(|(_, _, incarnation)| incarnation));
        }
        for incarnation in &dismissed {
            let Some(life) = state.lives.get_mut(incarnation) else { continue };
            life.is_leaving = true;
            if let Some(bell) = shared.table().dismiss(Owner(life.seat as u16)) {
                futex::wake(bell, 1);
            }
        }
        for incarnation in &recalled {
            let Some(life) = state.lives.get_mut(incarnation) else { continue };
            life.is_leaving = false;
            shared.table().recall(Owner(life.seat as u16));
        }
        let free_seats = shared.sizes.seat_count as usize - state.lives.len();
        let missing = (lacking - recalled.len()).min(free_seats);
        Staffing { dismissed, recalled, missing }
    }
}

impl<T> Shared<T> {
    /// Returns the workers that are leaving, or those that are not, with what each is worth.
    fn by_worth(&self, state: &State<T>, are_leaving: bool) -> Vec<(Worth, u32, Incarnation)> {
        let table = self.table();
        let owners: HashSet<u16> = (0..state.slots.len() as u32)
            .map(|slot| table.slot(slot).word())
            .filter(|word| word.is_held_by(word.owner()))
            .map(|word| word.owner().0)
            .collect();
        let lives = state.lives.iter().filter(|(_, life)| life.is_leaving == are_leaving);
        let rated = lives.map(|(incarnation, life)| {
            (self.worth_of(life, owners.contains(&(life.seat as u16))), life.seat, *incarnation)
        });
        rated.collect()
    }

    fn worth_of(&self, life: &Life, has_task: bool) -> Worth {
        match self.table().seats()[life.seat as usize].state() {
            _ if life.stop.is_some() => Worth::Ending,
            SeatState::Retired | SeatState::Failed | SeatState::Damaged => Worth::Ending,
            SeatState::Starting => Worth::Starting,
            SeatState::Ready if has_task => Worth::Busy,
            SeatState::Ready => Worth::Idle,
        }
    }
}
