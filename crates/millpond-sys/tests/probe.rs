use millpond_sys::probe;

#[test]
fn this_system_has_what_a_pool_needs() {
    probe::require().unwrap();
}
