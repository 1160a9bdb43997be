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
