use std::process::Command;

use millpond_sys::process;

#[test]
fn the_id_is_that_of_the_process() {
    assert_eq!(process::id(), std::process::id());
}

#[test]
fn exit_now_ends_a_process_with_its_code_and_runs_nothing() {
    const ROLE: &str = "MILLPOND_TEST_EXIT";
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            eprintln!("a destructor ran");
        }
    }
    if std::env::var_os(ROLE).is_some() {
        let _loud = Loud;
        process::exit_now(77);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::exit_now_ends_a_process_with_its_code_and_runs_nothing"])
        .arg("--nocapture")
        .env(ROLE, "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_is_resident_grows_with_what_is_touched() {
    let before = process::resident_len(process::id()).unwrap();
    let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
    let after = process::resident_len(process::id()).unwrap();
    assert!(after >= before + (48 << 20), "{before} {after} {}", memory.len());
    assert_eq!(process::resident_len(u32::MAX), None);
}

#[test]
fn a_signal_reaches_the_process_with_the_number() {
    use std::os::unix::process::ExitStatusExt;

    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    process::send_signal(child.id(), process::Signal::KILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(process::send_signal(0, process::Signal::KILL).is_err(), "0 is a group");
}
