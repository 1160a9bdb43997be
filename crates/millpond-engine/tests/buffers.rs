//! Buffers, with the worker's side in a thread's reach of the parent's: both in this process.
#![allow(unsafe_code, reason = "the bytes of private copies are read where they lie")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use millpond_engine::{BUFFER_LEN_MIN, Config, Engine, Lent, WARM_LEN_MAX, Worker};
use millpond_sys::private_copy::PrivateCopy;

const LEN: usize = BUFFER_LEN_MIN + 5;

/// An engine, and a worker in its first seat.
fn pool() -> (Engine<()>, Worker) {
    let engine =
        Engine::new(Config { worker_count: 1, warm_len_max: WARM_LEN_MAX, memory_limit: None })
            .unwrap();
    let worker = Worker::join(&engine.take_seat().unwrap()).unwrap();
    (engine, worker)
}

fn bytes(value: u8) -> Vec<u8> {
    vec![value; LEN]
}

/// Whether a copy shows the bytes of `value`, and the zero behind them.
fn shows(copy: &PrivateCopy, value: u8) -> bool {
    // SAFETY: the copy is mapped as long as the borrow, and nobody writes to it.
    let all = unsafe { std::slice::from_raw_parts(copy.as_ptr(), copy.len()) };
    all.len() == LEN + 1 && all[..LEN].iter().all(|&byte| byte == value) && all[LEN] == 0
}

#[test]
fn a_buffer_that_nobody_holds_is_kept_as_long_as_it_is_leased() {
    let (engine, mut worker) = pool();
    let id = engine.store_buffer(&bytes(1), 32, 0).unwrap();
    let leased = worker.lease(id).unwrap().unwrap();
    engine.let_go(id);
    assert!(!worker.is_listed(id));
    assert!(worker.lease(id).unwrap().is_none());
    for value in 2..9 {
        let other = engine.store_buffer(&bytes(value), 32, 0).unwrap();
        engine.let_go(other);
    }
    assert!(shows(&leased.copy, 1));
    assert_eq!(engine.counts().stored_bytes, LEN as u64 + 1);
    worker.end_lease(leased);
    assert!(engine.cool());
    assert_eq!(engine.counts().stored_bytes, 0);
}

#[test]
fn equal_buffers_are_two_and_each_lease_is_a_copy_of_its_own() {
    let (engine, mut worker) = pool();
    let one = engine.store_buffer(&bytes(1), 32, 0).unwrap();
    let two = engine.store_buffer(&bytes(1), 32, 0).unwrap();
    assert_ne!(one, two);
    let copies = [one, one, two].map(|id| worker.lease(id).unwrap().unwrap());
    // SAFETY: nobody else reads or writes the first copy.
    unsafe { copies[0].copy.as_ptr().write(9) };
    assert!(shows(&copies[1].copy, 1) && shows(&copies[2].copy, 1));
    for leased in copies {
        worker.end_lease(leased);
    }
}

#[test]
fn a_worker_that_has_leased_all_that_it_can_is_told_so() {
    let (engine, mut worker) = pool();
    let id = engine.store_buffer(&bytes(1), 32, 0).unwrap();
    let mut all = Vec::new();
    while let Some(leased) = worker.lease(id).unwrap() {
        all.push(leased);
    }
    assert_eq!(all.len(), 64);
    worker.end_lease(all.pop().unwrap());
    assert!(worker.lease(id).unwrap().is_some());
}

#[test]
fn what_is_lent_is_not_written_again_before_it_is_given_back() {
    let (engine, mut worker) = pool();
    let first = worker.lend(&bytes(1)).unwrap().unwrap();
    let borrowed = engine.borrow(first).unwrap();
    for value in 2..9 {
        let other = worker.lend(&bytes(value)).unwrap().unwrap();
        assert_ne!(other.offset, first.offset);
        worker.unlend(other);
    }
    assert!(shows(&borrowed.copy, 1));
    assert_eq!(engine.counts().borrowed_bytes, LEN as u64 + 1);
    engine.give_back(borrowed);
    assert_eq!(engine.counts().borrowed_bytes, 0);
    worker.cool();
    let again = worker.lend(&bytes(3)).unwrap().unwrap();
    assert_eq!(again.offset, first.offset);
    assert!(again.turn > first.turn);
}

#[test]
fn what_a_worker_says_of_a_buffer_is_checked() {
    let (engine, mut worker) = pool();
    let good = worker.lend(&bytes(1)).unwrap().unwrap();
    let bad = [
        Lent { offset: good.offset + 8, ..good },
        Lent { offset: u64::MAX - 4095, ..good },
        Lent { len: u64::MAX, ..good },
        Lent { len: 0, ..good },
        Lent { len: BUFFER_LEN_MIN as u64, ..good },
    ];
    for lent in bad {
        assert!(engine.borrow(lent).unwrap_err().is_damaged(), "{lent:?}");
    }
    let borrowed = engine.borrow(good).unwrap();
    // The same bytes twice would be given back twice.
    assert!(engine.borrow(good).unwrap_err().is_damaged());
    engine.give_back(borrowed);
    assert!(engine.borrow(Lent { index: u64::MAX, ..good }).is_ok());
}

#[test]
fn what_is_borrowed_outlives_the_pool() {
    let (engine, mut worker) = pool();
    let borrowed = engine.borrow(worker.lend(&bytes(7)).unwrap().unwrap()).unwrap();
    drop(worker);
    engine.shut_down();
    drop(engine);
    assert!(shows(&borrowed.copy, 7));
    borrowed.give_up();
}
