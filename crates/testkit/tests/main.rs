//! One module for each public file of `src`, under the same name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod census;
mod ledger;
mod watchdog;

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// Set in a process that runs one test and nothing else.
const ROLE: &str = "MILLPOND_TESTKIT_ROLE";

/// Returns the role of this process, none for the test harness itself.
fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Returns a command that runs a test of this binary in a process of its own, in a role.
fn command_in_role(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(ROLE, role);
    command
}

/// Held while a process runs alone: what is Millpond's in /dev/shm is seen by all of them.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a test body in a process of its own, where no other test opens, starts or ends anything.
fn alone(test: &str, body: impl FnOnce()) {
    if role().is_some() {
        body();
        return;
    }
    let _turn = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = command_in_role(test, "alone").output().unwrap();
    assert!(output.status.success(), "{}", everything(&output));
    assert!(everything(&output).contains("1 passed"), "{test} did not run");
}

/// Returns what a process said on both its streams.
fn everything(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
