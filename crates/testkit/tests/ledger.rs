use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Child;

use testkit::ledger::{Event, Ledger, Record, Verdict};

use crate::{command_in_role, role};

/// A path for one test's ledger, where no file is before or after.
struct FreshPath(PathBuf);

impl FreshPath {
    fn new(test: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for FreshPath {
    fn drop(&mut self) {
        // A test that failed before it created the file has left none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes events of tasks into a fresh ledger, and judges them.
fn verdict_of(test: &str, submitted: &[u64], events: &[(u64, u32, Event)]) -> Verdict {
    let path = FreshPath::new(test);
    let ledger = Ledger::create(&path.0).unwrap();
    for &(task, attempt, event) in events {
        ledger.append(task, attempt, event).unwrap();
    }
    ledger.judge(submitted).unwrap()
}

use Event::{Begin, End};

#[test]
fn what_was_appended_is_read_in_order() {
    let path = FreshPath::new("in-order");
    let ledger = Ledger::create(&path.0).unwrap();
    assert_eq!(ledger.path(), path.0);
    assert_eq!(ledger.read().unwrap(), []);
    ledger.append(u64::MAX, u32::MAX, Begin).unwrap();
    Ledger::open(&path.0).unwrap().append(0, 0, End).unwrap();
    let pid = std::process::id();
    let first = Record { task: u64::MAX, attempt: u32::MAX, pid, event: Begin };
    let second = Record { task: 0, attempt: 0, pid, event: End };
    assert_eq!(ledger.read().unwrap(), [first, second]);
}

#[test]
fn a_ledger_of_another_run_is_refused() {
    let path = FreshPath::new("another-run");
    drop(Ledger::create(&path.0).unwrap());
    assert_eq!(Ledger::create(&path.0).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn torn_and_foreign_lines_are_refused() {
    for line in ["1 0 5 beg", "1 0 5 begin", "1 0 begin\n", "1 0 5 begin 6\n", "-1 0 5 end\n", "\n"]
    {
        let path = FreshPath::new("torn");
        let ledger = Ledger::create(&path.0).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&path.0)
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
        assert_eq!(ledger.read().unwrap_err().kind(), ErrorKind::InvalidData, "{line:?}");
    }
}

#[test]
fn each_task_once_is_exactly_once() {
    let events = [(1, 0, Begin), (2, 0, Begin), (2, 0, End), (1, 0, End)];
    let verdict = verdict_of("once", &[1, 2], &events);
    assert!(verdict.is_exactly_once() && verdict.is_within_retries(0), "{verdict:?}");
    assert_eq!((verdict.submitted, verdict.begun, verdict.ended), (2, 2, 2));
}

#[test]
fn a_lost_task_is_found() {
    let verdict = verdict_of("lost", &[1, 2], &[(1, 0, Begin), (1, 0, End)]);
    assert!(!verdict.is_exactly_once());
    assert_eq!(verdict.never_begun, [2]);
}

#[test]
fn a_task_that_died_is_found() {
    let verdict = verdict_of("died", &[1], &[(1, 0, Begin)]);
    assert!(!verdict.is_exactly_once() && verdict.is_within_retries(0), "{verdict:?}");
    assert_eq!(verdict.never_ended, [1]);
}

#[test]
fn a_task_that_ran_again_is_found() {
    let events = [(1, 0, Begin), (1, 1, Begin), (1, 1, End)];
    let verdict = verdict_of("again", &[1], &events);
    assert!(!verdict.is_exactly_once());
    assert_eq!(verdict.begun_again, [(1, 2)]);
    assert!(verdict.is_within_retries(1) && !verdict.is_within_retries(0));
}

#[test]
fn a_task_that_ended_twice_is_found() {
    let events = [(1, 0, Begin), (1, 0, End), (1, 0, End)];
    let verdict = verdict_of("ended-twice", &[1], &events);
    assert!(!verdict.is_exactly_once() && !verdict.is_within_retries(9));
    assert_eq!((verdict.ended_again, verdict.ended_unbegun), (vec![(1, 2)], vec![1]));
}

#[test]
fn a_task_never_submitted_is_found() {
    let verdict = verdict_of("stranger", &[], &[(7, 0, Begin), (7, 0, End)]);
    assert!(!verdict.is_exactly_once() && !verdict.is_within_retries(9));
    assert_eq!(verdict.strangers, [7]);
}

#[test]
fn a_task_submitted_twice_is_found() {
    let verdict = verdict_of("submitted-twice", &[3, 3], &[]);
    assert_eq!(verdict.submitted_again, [3]);
    assert!(!verdict.is_within_retries(0));
}

#[test]
fn records_of_many_processes_do_not_mix() {
    const TEST: &str = "ledger::records_of_many_processes_do_not_mix";
    const TASKS_EACH: u64 = 2000;
    if let Some(role) = role() {
        let (first, path) = role.split_once(' ').unwrap();
        let (first, ledger) = (first.parse::<u64>().unwrap(), Ledger::open(path).unwrap());
        for task in first..first + TASKS_EACH {
            ledger.append(task, 0, Begin).unwrap();
            ledger.append(task, 0, End).unwrap();
        }
        return;
    }
    let path = FreshPath::new("many");
    let ledger = Ledger::create(&path.0).unwrap();
    let start = |index: u64| -> Child {
        let role = format!("{} {}", index * TASKS_EACH, path.0.display());
        command_in_role(TEST, &role).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    for mut child in (0..4).map(start).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let submitted: Vec<u64> = (0..4 * TASKS_EACH).collect();
    let verdict = ledger.judge(&submitted).unwrap();
    assert!(verdict.is_exactly_once(), "{verdict:?}");
}
