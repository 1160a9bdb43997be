use millpond_sys::Error;

/// Opens a descriptor of a process that was reaped.
fn no_such_process() -> Error {
    // Linux gives no process a number beyond 2^22.
    millpond_sys::pidfd::open(i32::MAX as u32).unwrap_err()
}

#[test]
fn an_error_names_its_operation_and_number() {
    let error = no_such_process();
    assert_eq!(error.to_string(), "pidfd_open: no such process (errno 3)");
    assert_eq!((error.operation(), error.raw_os_error()), ("pidfd_open", 3));
}

#[test]
fn predicates_tell_errors_apart() {
    let error = no_such_process();
    assert!(error.is_no_such_process());
    assert!(!error.is_not_supported());
    assert!(!error.is_out_of_memory());
}

#[test]
fn an_error_crosses_threads_and_becomes_an_io_error() {
    fn crosses_threads<T: Send + Sync + std::error::Error + 'static>(_: &T) {}
    let error = no_such_process();
    crosses_threads(&error);
    let converted = std::io::Error::from(error);
    assert_eq!(converted.to_string(), error.to_string());
    let inner = converted.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert_eq!(inner, Some(&error));
}
