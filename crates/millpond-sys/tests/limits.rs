use std::process::Command;

use millpond_sys::limits;

/// Runs a test of this binary in a shell that sets limits first.
fn run_limited(shell: &str, test: &str) {
    let binary = std::env::current_exe().unwrap();
    let script = format!("{shell} && exec '{}' --exact --ignored {test}", binary.display());
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
fn limits_are_those_of_the_process() {
    // Address space in KiB, file size in blocks of 512 bytes.
    run_limited("ulimit -S -v 8388608 && ulimit -S -f 2048", "limits::limited");
    run_limited("ulimit -S -v unlimited && ulimit -S -f unlimited", "limits::unlimited");
}

#[test]
#[ignore = "run by limits_are_those_of_the_process"]
fn limited() {
    assert_eq!(limits::address_space_max(), 8 << 30);
    assert_eq!(limits::file_size_max(), 1 << 20);
}

#[test]
#[ignore = "run by limits_are_those_of_the_process"]
fn unlimited() {
    assert_eq!(limits::address_space_max(), u64::MAX);
    assert_eq!(limits::file_size_max(), u64::MAX);
}

#[test]
fn usable_cpus_follow_the_affinity() {
    run_limited("taskset -p -c 0 $$ >/dev/null", "limits::one_cpu");
}

#[test]
#[ignore = "run by usable_cpus_follow_the_affinity"]
fn one_cpu() {
    assert_eq!(limits::usable_cpus(), 1);
}
