//! No write is lost, however scans, trackings and writes of other threads meet.

use std::sync::Barrier;

use millpond_sys::mapping::page_size;
use millpond_sys::write_tracking::{Drops, Tracked};

use super::PAGES;
use crate::support::{Memory, tracker};

#[test]
fn no_write_of_another_thread_is_lost_however_it_meets_a_scan() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let barrier = Barrier::new(2);
    let rounds = 2000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..rounds {
                barrier.wait();
                memory.write((round * 7 % PAGES) * page_size(), round as u8);
                barrier.wait();
            }
        });
        let mut lost = 0;
        for _ in 0..rounds {
            let tracked = tracker.track(memory.start, memory.len, Drops::Possible);
            barrier.wait();
            // Whatever this says, the write may be before or after it.
            let _ = tracked.as_ref().is_ok_and(Tracked::is_written);
            barrier.wait();
            lost += usize::from(!tracked.is_ok_and(|tracked| tracked.is_written()));
        }
        assert_eq!(lost, 0);
    });
}

#[test]
fn no_write_is_lost_when_two_threads_begin_to_track_the_same_pages() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let barrier = Barrier::new(2);
    let rounds = 5000;
    let run = |page: usize| {
        let mut lost = 0;
        for round in 0..rounds {
            barrier.wait();
            // A panic would leave the other thread at the barrier; so failures are counted.
            let Ok(tracked) = tracker.track(memory.start, memory.len, Drops::Never) else {
                lost += 1;
                continue;
            };
            // From here on a write must be seen, whatever the other thread still does.
            memory.write(page * page_size(), round as u8);
            lost += usize::from(!tracked.is_written());
        }
        lost
    };
    let lost = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(3));
        run(PAGES - 3) + other.join().unwrap()
    });
    assert_eq!(lost, 0);
}

#[test]
fn a_write_is_not_hidden_by_a_tracking_that_begins_during_the_scan() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(PAGES);
    let barrier = Barrier::new(2);
    let rounds = 5000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                barrier.wait();
                let _ = tracker.track(memory.start, memory.len, Drops::Never);
                barrier.wait();
            }
        });
        let mut lost = 0;
        for round in 0..rounds {
            let tracked = tracker.track(memory.start, memory.len, Drops::Never);
            memory.write(PAGES / 2 * page_size(), round as u8);
            barrier.wait();
            lost += usize::from(!tracked.is_ok_and(|tracked| tracked.is_written()));
            barrier.wait();
        }
        assert_eq!(lost, 0);
    });
}

#[test]
fn trackings_of_many_threads_do_not_disturb_each_other() {
    let Some(tracker) = tracker() else { return };
    let memory = Memory::filled(4 * PAGES);
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (memory, tracker) = (&memory, &tracker);
            let len = PAGES * page_size();
            scope.spawn(move || {
                for round in 0..500 {
                    let start = memory.start + part * len;
                    let tracked = tracker.track(start, len, Drops::Never).unwrap();
                    assert!(!tracked.is_written(), "part {part}, round {round}");
                    memory.write(part * len + round % PAGES * page_size(), 7);
                    assert!(tracked.is_written(), "part {part}, round {round}");
                }
            });
        }
    });
}
