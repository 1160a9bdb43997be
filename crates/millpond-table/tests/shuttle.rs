//! Whole lives of a pool, on random and on PCT schedules: longer than loom can go, and with more
//! threads, but with sequentially consistent atomics only.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p millpond-table --test shuttle --release`
//!
//! In each scenario every task ends, each attempt at one ends once and began once at most, one worker's
//! results come in order, and every thread ends: one that sleeps for ever is a deadlock, of which
//! shuttle tells. What fails prints its schedule; with that in a file, `MILLPOND_REPLAY=file` and the test's
//! name run it again.
#![cfg(shuttle)]

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

#[path = "shuttle/futex.rs"]
mod futex;
#[path = "shuttle/ledger.rs"]
mod ledger;
#[path = "shuttle/parts.rs"]
mod parts;
#[path = "shuttle/plan.rs"]
mod plan;
#[path = "shuttle/pool.rs"]
mod pool;
#[path = "shuttle/state.rs"]
mod state;
#[path = "shuttle/worker.rs"]
mod worker;

use ledger::End;
use plan::{Plan, SEAT_COUNT, SLOT_COUNT};
use pool::run;

/// The depth of PCT: so many ordered steps of a bug are found with a known probability.
const PCT_DEPTH: usize = 3;
/// Schedules of each scenario, unless `MILLPOND_SCHEDULES` says so.
const SCHEDULE_COUNT: usize = 1000;
/// Random schedules, at least: they meet a bug more seldom than those of PCT. A worker that does not look
/// again before it sleeps (the canary blind-sleep) hangs in one of about 400.
const RANDOM_COUNT_MIN: usize = 5000;
/// What a meddler does, at most: a few times in a life of a dozen tasks.
const MEDDLING_MAX: usize = 6;
/// How long a meddler waits between two acts, at most, in turns of its thread.
const PAUSE_MAX: usize = 30;

fn schedule_count() -> usize {
    let wanted = std::env::var("MILLPOND_SCHEDULES").ok();
    wanted.map_or(SCHEDULE_COUNT, |count| count.parse().expect("MILLPOND_SCHEDULES is a number"))
}

fn check_pct(scenario: fn()) {
    if let Ok(path) = std::env::var("MILLPOND_REPLAY") {
        let schedule = std::fs::read_to_string(path).expect("MILLPOND_REPLAY names a file");
        shuttle::replay(scenario, schedule.trim());
        return;
    }
    shuttle::check_pct(scenario, schedule_count(), PCT_DEPTH);
}

/// Does something a few times, at random moments.
fn meddle(mut act: impl FnMut()) {
    for _ in 0..thread_rng().gen_range(0..=MEDDLING_MAX) {
        pause();
        act();
    }
}

fn pause() {
    for _ in 0..thread_rng().gen_range(0..=PAUSE_MAX) {
        thread::yield_now();
    }
}

fn random_slot() -> u32 {
    thread_rng().gen_range(0..SLOT_COUNT as u32)
}

/// One of three workers dies, and the others do all that is left.
fn a_whole_life() {
    let plan = Plan { mortal_count: 1, replaces: false, task_count: 20, ..Plan::PLAIN };
    let pool = run(plan, |_| ());
    assert!(pool.ledger.count(End::Lost) <= 1, "one death loses one task at most");
}

/// Two of three die, perhaps at once, and others take their seats.
fn two_deaths() {
    let pool = run(Plan { mortal_count: 2, ..Plan::PLAIN }, |_| ());
    assert!(pool.ledger.count(End::Lost) <= 2, "a death loses one task at most");
}

/// Tasks are cancelled while a worker dies, and what it lost is tried again.
fn withdraw_and_retry() {
    let plan = Plan { mortal_count: 1, retries: true, ..Plan::PLAIN };
    let pool = run(plan, |pool| meddle(|| pool.cancel(random_slot(), false)));
    let done = pool.ledger.count(End::Finished) + pool.ledger.count(End::Withdrawn);
    assert_eq!(done, plan.task_count, "what was lost is tried again");
}

/// Tasks are condemned while their workers complete them.
fn condemn_beside_completion() {
    let pool = run(Plan::PLAIN, |pool| meddle(|| pool.cancel(random_slot(), true)));
    assert_eq!(pool.ledger.count(End::Lost), 0, "nobody died but for a condemned task");
}

/// The number of workers changes.
fn dismiss_and_recall() {
    let pool = run(Plan::PLAIN, |pool| {
        meddle(|| pool.resize(thread_rng().gen_range(1..=SEAT_COUNT)));
    });
    assert_eq!(pool.ledger.count(End::Finished), Plan::PLAIN.task_count);
}

/// The pool ends while tasks go out: each is done, or was begun by nobody.
fn stop_during_publish() {
    let pool = run(Plan::PLAIN, |pool| {
        pause();
        pool.stop();
    });
    assert_eq!(pool.ledger.count(End::Lost), 0, "nobody died");
}

/// Workers read stored parts beyond their tasks, and lend their results; one dies.
fn leases_and_the_directory() {
    let plan = Plan { mortal_count: 1, uses_parts: true, ..Plan::PLAIN };
    let _ = run(plan, |_| ());
}

/// Wakes are held back, and a patrol looks after the tasks.
fn held_wakes() {
    let pool = run(Plan { spare: 2, ..Plan::PLAIN }, |_| ());
    assert_eq!(pool.ledger.count(End::Finished), Plan::PLAIN.task_count);
}

#[test]
fn every_task_ends_exactly_once_on_random_schedules() {
    shuttle::check_random(a_whole_life, schedule_count().max(RANDOM_COUNT_MIN));
}

#[test]
fn a_death_loses_no_task_but_the_one_that_was_begun() {
    check_pct(a_whole_life);
}

#[test]
fn two_deaths_lose_two_tasks_at_most() {
    check_pct(two_deaths);
}

#[test]
fn a_withdrawn_task_never_begins_and_a_lost_one_is_tried_again() {
    check_pct(withdraw_and_retry);
}

#[test]
fn a_condemned_task_ends_once_whatever_its_worker_does() {
    check_pct(condemn_beside_completion);
}

#[test]
fn workers_come_and_go_and_no_task_is_lost() {
    check_pct(dismiss_and_recall);
}

#[test]
fn a_pool_that_stops_while_it_publishes_leaves_nobody_asleep() {
    check_pct(stop_during_publish);
}

#[test]
fn no_memory_is_used_again_while_it_is_read() {
    check_pct(leases_and_the_directory);
}

#[test]
fn held_wakes_leave_no_task_waiting_for_ever() {
    check_pct(held_wakes);
}
