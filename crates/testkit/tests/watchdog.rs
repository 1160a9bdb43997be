use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testkit::census::Census;
use testkit::watchdog::{self, Watchdog};

use crate::{alone, command_in_role, everything, role};

/// Longer than any test: it must never expire.
const NEVER: Duration = Duration::from_secs(3600);

/// The number of SIGABRT.
const ABORTED: i32 = 6;

#[test]
fn a_watchdog_dropped_in_time_leaves_nothing() {
    alone("watchdog::a_watchdog_dropped_in_time_leaves_nothing", || {
        let before = Census::take();
        let watchdog = Watchdog::start(NEVER);
        assert_ne!(Census::take(), before);
        drop(watchdog);
        assert_eq!(Census::take().difference(&before), [""; 0]);
    });
}

#[test]
fn a_watchdog_that_expires_shows_what_hangs_and_aborts() {
    const TEST: &str = "watchdog::a_watchdog_that_expires_shows_what_hangs_and_aborts";
    if role().is_some() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        // Held, so that the child hangs, and this process with it.
        let _input = child.stdin.take();
        let (_end, is_ended) = mpsc::channel::<()>();
        let (named, is_named) = mpsc::channel();
        let hanging = thread::Builder::new().name("hanging".to_owned()).spawn(move || {
            named.send(()).unwrap();
            is_ended.recv().is_err()
        });
        is_named.recv().unwrap();
        let _watchdog = Watchdog::start(Duration::from_millis(10));
        child.wait().unwrap();
        hanging.unwrap().join().unwrap();
        return;
    }
    // An abort on purpose leaves no core dump.
    let direct = command_in_role(TEST, "hangs");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c 0; exec \"$0\" \"$@\""]).arg(direct.get_program());
    let envs = direct.get_envs().filter_map(|(key, value)| Some((key, value?)));
    let output = command.args(direct.get_args()).envs(envs).output().unwrap();
    assert_eq!(output.status.signal(), Some(ABORTED), "{}", everything(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["not done within 10ms", "this process", "\"hanging\", ", ", wchan ", ": cat"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_report_names_every_thread() {
    let (end, is_ended) = mpsc::channel::<()>();
    let (named, is_named) = mpsc::channel();
    let thread = thread::Builder::new().name("reported".to_owned()).spawn(move || {
        named.send(()).unwrap();
        is_ended.recv().is_err()
    });
    is_named.recv().unwrap();
    let report = watchdog::report();
    assert!(report.contains("\"reported\""), "{report}");
    assert!(report.contains(&format!("process {}, this process", std::process::id())), "{report}");
    drop(end);
    assert!(thread.unwrap().join().unwrap());
}
