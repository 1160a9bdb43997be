//! What happened to each task, counted outside the table.

use std::sync::Mutex;

/// How an attempt at a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Finished,
    /// Begun, and its worker is gone.
    Lost,
    /// Begun, and its worker was stopped for it.
    Condemned,
    /// Taken back before it had begun.
    Withdrawn,
}

#[derive(Debug)]
struct Attempt {
    task: usize,
    begun: usize,
    end: Option<End>,
}

/// All attempts at all tasks: one each time that a task goes out. The lock is held over no step.
#[derive(Default)]
pub(crate) struct Ledger {
    attempts: Mutex<Vec<Attempt>>,
}

impl Ledger {
    /// Notes that a task goes out, and returns the attempt's number.
    pub(crate) fn note_out(&self, task: usize) -> usize {
        let mut attempts = self.attempts.lock().expect("no panic");
        attempts.push(Attempt { task, begun: 0, end: None });
        attempts.len() - 1
    }

    pub(crate) fn note_begun(&self, attempt: usize) {
        self.attempts.lock().expect("no panic")[attempt].begun += 1;
    }

    /// Notes the end, and returns the task.
    pub(crate) fn note_end(&self, attempt: usize, end: End) -> usize {
        let mut attempts = self.attempts.lock().expect("no panic");
        let place = &mut attempts[attempt];
        let before = place.end.replace(end);
        let task = place.task;
        drop(attempts);
        assert_eq!(before, None, "attempt {attempt} at task {task} ended before, now {end:?}");
        task
    }

    /// Returns how many attempts ended so.
    pub(crate) fn count(&self, end: End) -> usize {
        let attempts = self.attempts.lock().expect("no panic");
        attempts.iter().filter(|attempt| attempt.end == Some(end)).count()
    }

    /// Checks that no attempt is without an end, and that none was begun twice, or without being told.
    pub(crate) fn check(&self) {
        for attempt in &*self.attempts.lock().expect("no panic") {
            let end = attempt.end.unwrap_or_else(|| panic!("{attempt:?} never ended"));
            assert_eq!(attempt.begun, usize::from(end != End::Withdrawn), "{attempt:?}");
        }
    }
}
