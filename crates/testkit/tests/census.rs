use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use millpond_sys::mapping::{Access, Mapping, page_size};
use millpond_sys::memfd;
use testkit::census::Census;

use crate::alone;

/// Returns the only difference, which is what the tests look for.
fn only_difference(now: &Census, before: &Census) -> String {
    let mut found = now.difference(before);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn nothing_done_is_no_difference() {
    alone("census::nothing_done_is_no_difference", || {
        let before = Census::take();
        drop(File::open("/dev/null").unwrap());
        let now = Census::take();
        assert!(now.difference(&before).is_empty());
        assert_eq!(now, before);
    });
}

#[test]
fn a_leaked_descriptor_is_found() {
    alone("census::a_leaked_descriptor_is_found", || {
        let before = Census::take();
        let leaked = [File::open("/proc/version").unwrap(), File::open("/proc/version").unwrap()];
        let during = Census::take();
        let found = only_difference(&during, &before);
        assert_eq!(found, "descriptor of /proc/version: 0 before, 2 now");
        assert_ne!(during, before);
        drop(leaked);
        let found = only_difference(&Census::take(), &during);
        assert_eq!(found, "descriptor of /proc/version: 2 before, 0 now");
        assert_eq!(Census::take(), before);
    });
}

#[test]
fn a_thread_is_found_until_it_is_joined() {
    alone("census::a_thread_is_found_until_it_is_joined", || {
        // Many times, since a thread that was joined may still be on its way out of the kernel.
        for _ in 0..100 {
            let before = Census::take();
            let (end, is_ended) = mpsc::channel::<()>();
            let thread = thread::Builder::new()
                .name("leaked".to_owned())
                .spawn(move || is_ended.recv().is_err())
                .unwrap();
            // A thread names itself as its first deed, so until then it bears its maker's name.
            assert_eq!(Census::take().difference(&before).len(), 1);
            drop(end);
            assert!(thread.join().unwrap());
            assert_eq!(Census::take().difference(&before), [""; 0]);
        }
    });
}

#[test]
fn a_child_is_found_until_it_is_reaped() {
    alone("census::a_child_is_found_until_it_is_reaped", || {
        let before = Census::take();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let found = Census::take().difference(&before);
        // The pipe to the child is one more descriptor of ours.
        assert_eq!(found.len(), 2, "{found:?}");
        let pidfd = millpond_sys::pidfd::open(child.id()).unwrap();
        drop(child.stdin.take());
        millpond_sys::pidfd::wait_end(pidfd.as_fd());
        drop(pidfd);
        let found = only_difference(&Census::take(), &before);
        let name = format!("child {} \"cat\", ended and not reaped", child.id());
        assert_eq!(found, format!("{name}: 0 before, 1 now"));
        child.wait().unwrap();
        assert_eq!(Census::take(), before);
    });
}

#[test]
fn a_mapping_is_found_until_it_is_unmapped() {
    alone("census::a_mapping_is_found_until_it_is_unmapped", || {
        let before = Census::take();
        let file = memfd::create("millpond-leak", page_size() as u64).unwrap();
        let mapping = Mapping::new(file.as_fd(), 0, page_size(), Access::ReadOnly).unwrap();
        drop(file);
        let found = only_difference(&Census::take(), &before);
        assert!(found.starts_with("mapping ") && found.contains("memfd:millpond-leak"), "{found}");
        drop(mapping);
        assert_eq!(Census::take(), before);
    });
}

#[test]
fn a_file_in_dev_shm_is_found_until_it_is_removed() {
    alone("census::a_file_in_dev_shm_is_found_until_it_is_removed", || {
        let path = format!("/dev/shm/millpond-testkit-{}", std::process::id());
        File::create(&path).unwrap();
        let during = Census::take();
        std::fs::remove_file(&path).unwrap();
        let found = only_difference(&Census::take(), &during);
        assert_eq!(found, format!("{path}: 1 before, 0 now"));
    });
}
