use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use millpond_sys::{file_range, memfd};
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};
use rustix::process::{Resource, Rlimit, setrlimit};

use std::os::fd::AsFd;

#[test]
fn a_sealed_memfd_refuses_to_shrink() {
    let file = File::from(memfd::create("millpond-test", 8192).unwrap());
    assert_eq!(file.set_len(4096).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(file.metadata().unwrap().len(), 8192);
}

#[test]
fn a_sealed_memfd_refuses_to_grow() {
    let file = File::from(memfd::create("millpond-test", 4096).unwrap());
    assert_eq!(file.set_len(8192).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(file_range::write_all_at(file.as_fd(), 4090, b"beyond the end").is_err());
    assert_eq!(file.metadata().unwrap().len(), 4096);
}

#[test]
fn nobody_can_add_a_seal() {
    let file = memfd::create("millpond-test", 4096).unwrap();
    let seals = fcntl_get_seals(&file).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    assert!(!seals.contains(SealFlags::WRITE));
    assert!(fcntl_add_seals(&file, SealFlags::WRITE).is_err());
}

#[test]
fn a_memfd_takes_no_memory_until_written() {
    use std::os::unix::fs::MetadataExt;
    let file = File::from(memfd::create("millpond-test", 1 << 40).unwrap());
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (1 << 40, 0));
}

#[test]
fn a_memfd_closes_on_exec() {
    let file = memfd::create("millpond-test", 4096).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = std::fs::read_link(&path).unwrap();
    assert!(link.to_string_lossy().starts_with("/memfd:millpond-test"));
    let seen = Command::new("readlink").arg(&path).output().unwrap();
    assert!(!String::from_utf8_lossy(&seen.stdout).contains("millpond-test"));
}

#[test]
fn a_memfd_with_a_nul_in_its_name_is_an_error() {
    assert_eq!(memfd::create("mill\0pond", 4096).unwrap_err().operation(), "memfd_create");
}

#[test]
fn a_file_beyond_the_size_limit_is_an_error_and_no_signal() {
    // The limit concerns the whole process, so this test runs again in one of its own.
    const ROLE: &str = "MILLPOND_TEST_FILE_LIMIT";
    if std::env::var_os(ROLE).is_some() {
        let limit = Rlimit { current: Some(1 << 20), maximum: None };
        let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { maximum, ..limit }).unwrap();
        assert_eq!(millpond_sys::limits::file_size_max(), 1 << 20);
        memfd::create("millpond-test", 1 << 20).unwrap();
        let error = memfd::create("millpond-test", (1 << 20) + 1).unwrap_err();
        assert_eq!(error.to_string(), "ftruncate: file too large (errno 27)");
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .arg0("file-limit")
        .args(["--exact", "memfd::a_file_beyond_the_size_limit_is_an_error_and_no_signal"])
        .env(ROLE, "1")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}
