use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

use millpond_sys::pidfd;
use millpond_sys::process::Signal;

/// Starts a child that ends when its input does.
fn child_that_waits() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn pidfd_tells_the_end_of_a_child() {
    let mut child = child_that_waits();
    let fd = pidfd::open(child.id()).unwrap();
    assert!(!pidfd::has_ended(fd.as_fd()));
    drop(child.stdin.take());
    pidfd::wait_end(fd.as_fd());
    // It has ended, and nobody reaped it yet; then it is reaped by who started it.
    assert!(pidfd::has_ended(fd.as_fd()));
    assert!(child.wait().unwrap().success());
    assert!(pidfd::has_ended(fd.as_fd()));
}

#[test]
fn pidfd_tells_a_kill() {
    let mut child = child_that_waits();
    let fd = pidfd::open(child.id()).unwrap();
    child.kill().unwrap();
    pidfd::wait_end(fd.as_fd());
    child.wait().unwrap();
}

#[test]
fn an_ended_child_that_nobody_reaped_can_be_opened() {
    let mut child = child_that_waits();
    let early = pidfd::open(child.id()).unwrap();
    child.kill().unwrap();
    pidfd::wait_end(early.as_fd());
    let late = pidfd::open(child.id()).unwrap();
    assert!(pidfd::has_ended(late.as_fd()));
    child.wait().unwrap();
}

#[test]
fn a_duplicate_outlives_the_first() {
    let mut child = child_that_waits();
    let first = pidfd::open(child.id()).unwrap();
    let second = pidfd::duplicate(first.as_fd()).unwrap();
    assert_ne!(first.as_raw_fd(), second.as_raw_fd());
    assert!(rustix::io::fcntl_getfd(&second).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    drop(first);
    assert!(!pidfd::has_ended(second.as_fd()));
    drop(child.stdin.take());
    pidfd::wait_end(second.as_fd());
    child.wait().unwrap();
}

#[test]
fn a_number_that_is_no_process_is_told_so() {
    for pid in [0, i32::MAX as u32, u32::MAX] {
        assert!(pidfd::open(pid).unwrap_err().is_no_such_process(), "{pid}");
    }
}

#[test]
fn a_signal_reaches_the_child_and_nobody_once_it_is_reaped() {
    use std::os::unix::process::ExitStatusExt;

    let mut child = child_that_waits();
    let fd = pidfd::open(child.id()).unwrap();
    pidfd::send_signal(fd.as_fd(), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    let error = pidfd::send_signal(fd.as_fd(), Signal::TERM).unwrap_err();
    assert!(error.is_no_such_process(), "{error}");
}
