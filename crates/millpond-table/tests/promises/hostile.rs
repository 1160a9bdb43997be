//! Whatever a peer writes, we answer with an error or with garbage: no panic, and no endless loop.
#![allow(unsafe_code, reason = "attaching to memory is unsafe")]

use std::time::Duration;

use millpond_table::{Layout, Owner, Payload, StoreId, StoredAt, Table};
use proptest::prelude::*;

const LAYOUT: Layout = Layout { slot_count: 4, seat_count: 3, store_count: 2 };

/// The first words of a table of this layout.
const HEADER: [(usize, u64); 3] =
    [(0, u64::from_le_bytes(*b"mlpnd\0\x01\0")), (1, 4 | 3 << 32), (2, 16 | 2 << 32)];

/// Places in words, counted from the end: the store, then the cells, then the slots.
const CELLS_AT: usize = LAYOUT.size() / 8 - 2 * 16 - 16;
const SLOTS_AT: usize = CELLS_AT - 4 * 32;
const HEAD_AT: usize = 16;
const TAIL_AT: usize = 32;
const DONE_AT: usize = 48;

/// Heap memory, aligned and cleared like a fresh mapping.
struct Memory(Vec<Line>);

#[derive(Clone)]
#[repr(C, align(128))]
struct Line([u64; 16]);

impl Memory {
    fn new() -> Self {
        Self(vec![Line([0; 16]); LAYOUT.size().div_ceil(128)])
    }

    /// Writes words, as a peer may do, at places modulo the table's length.
    fn scribble(&mut self, words: &[(usize, u64)]) {
        let count = LAYOUT.size() / 8;
        for &(place, value) in words {
            self.0[place % count / 16].0[place % 16] = value;
        }
    }

    fn create(&mut self) -> Table<'_> {
        // SAFETY: the memory is long enough, aligned, zero, and borrowed for the view's life.
        unsafe { Table::create(self.0.as_mut_ptr().cast(), LAYOUT) }
    }

    fn attach(&mut self, layout: Layout) -> millpond_table::Result<Table<'_>> {
        // SAFETY: as for `create`; the layouts of these tests are not longer than `LAYOUT`.
        unsafe { Table::attach(self.0.as_mut_ptr().cast(), layout) }
    }
}

/// All that reads what a peer may have written. Results do not matter, only that there are some.
fn use_all(table: Table<'_>) {
    let mut found = Vec::new();
    let _ = table.take_done(&mut found);
    assert!(found.len() <= LAYOUT.slot_count as usize);
    for seat in 0..2 {
        let owner = Owner(seat);
        if let Ok(Some(claim)) = table.claim(owner) {
            assert!(claim.slot < LAYOUT.slot_count);
            let payload = table.slot(claim.slot).payload();
            assert!(payload.note_len <= payload.len);
            let _ = table.slot(claim.slot).begin(owner, claim.turn);
            let _ = table.complete(claim.slot, owner, claim.turn);
        }
        let _ = table.may_spin(owner);
        table.end_spin(owner);
        if table.worker_may_sleep(owner).is_some() {
            table.worker_awake(owner);
        }
    }
    for seat in table.seats() {
        let _ = (seat.state(), seat.failure());
        seat.add(0, 1);
    }
    let mut recovered = table.recover(Owner(0));
    recovered.lost.append(&mut recovered.done);
    assert!(recovered.lost.iter().all(|&slot| slot < LAYOUT.slot_count));
    table.wake_all(|_| ());
    let _ = table.dismiss(Owner(1)).is_some();
    table.recall(Owner(1));
    for count in [0, 1, usize::MAX] {
        let _ = table.is_leased_among(StoreId { entry: 1, turn: 1 }, count);
    }
    let _ = (table.someone_spins(), table.wake_one().is_some());
    table.slot(1).describe(Payload { kind: 1, len: 1, offset: None, note_len: 0 });
    for slot in 0..LAYOUT.slot_count {
        let _ = table.publish(slot, table.slot(slot).word().turn());
    }
    let _ = table.ask_refill(table.tail_position());
    if table.parent_may_sleep().is_some() {
        table.parent_awake();
    }
    for (entry, turn) in [(0, 0), (1, u64::MAX), (2, 1), (u32::MAX, 1)] {
        let _ = table.store_find(StoreId { entry, turn });
    }
    let id = table.store_list(1, StoredAt { offset: 0, len: 0, kind: 0 });
    table.store_unlist(id);
    let _ = table.take_done(&mut found);
}

/// Runs `test` in a thread of its own: one that hangs fails after a minute.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    if told.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    {
        panic!("the table hangs");
    }
    thread.join().expect("the test passes");
}

/// Words that lie near a limit of some field, and any others.
fn word() -> impl Strategy<Value = u64> {
    let near = prop_oneof![
        Just(0u64),
        Just(1 << 16),
        Just(16),
        Just(1 << 24),
        Just(1 << 32),
        Just(1 << 40),
        Just(1 << 48),
        Just(u64::MAX),
    ];
    prop_oneof![
        (near, -3i64..20).prop_map(|(value, more)| value.wrapping_add_signed(more)),
        // State words: a turn, an owner, a phase that may not exist.
        (0u64..3, 0u64..3, 0u64..6)
            .prop_map(|(turn, owner, phase)| turn << 24 | owner << 8 | phase),
        // Cells and heads: a turn or an epoch, and a slot or a position.
        (0u64..3, 0u64..40).prop_map(|(turn, slot)| turn << 16 | slot),
        (0u64..3, 0u64..40).prop_map(|(epoch, position)| epoch << 48 | position),
        any::<u64>(),
    ]
}

/// A place: often one of the control block's few live words, else any.
fn place() -> impl Strategy<Value = usize> {
    // In words: head, tail, refill_at, stopping, done and bell, spinner, sleepers.
    prop_oneof![
        prop::sample::select(vec![16usize, 32, 33, 34, 48, 64, 80, 81]),
        0..LAYOUT.size() / 8,
        // Seats, slots, cells and store, which lie behind the sleepers.
        96..LAYOUT.size() / 8,
    ]
}

#[test]
fn a_scribbled_table_gives_errors_or_garbage() {
    within_a_minute(|| {
        let words = prop::collection::vec((place(), word()), 1..60);
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) };
        proptest!(config, |(words in words, is_used in any::<bool>())| {
            let mut memory = Memory::new();
            let table = memory.create();
            if is_used {
                use_all(table);
            }
            memory.scribble(&words);
            memory.scribble(&HEADER);
            use_all(memory.attach(LAYOUT).expect("the header is whole"));
        });
    });
}

#[test]
fn random_memory_with_a_true_header_gives_errors_or_garbage() {
    within_a_minute(|| {
        let words = prop::collection::vec(word(), LAYOUT.size() / 8);
        let config =
            ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) };
        proptest!(config, |(words in words)| {
            let mut memory = Memory::new();
            let words: Vec<_> = words.into_iter().enumerate().collect();
            memory.scribble(&words);
            memory.scribble(&HEADER);
            use_all(memory.attach(LAYOUT).expect("the header is whole"));
        });
    });
}

#[test]
fn a_done_stack_that_links_in_a_circle_ends_with_an_error() {
    within_a_minute(|| {
        let mut memory = Memory::new();
        let _ = memory.create();
        // The top is slot 0, which is not done and whose next is itself.
        memory.scribble(&[(DONE_AT, 1), (SLOTS_AT + 1, 1)]);
        let mut found = Vec::new();
        let table = memory.attach(LAYOUT).unwrap();
        assert!(table.has_done());
        assert!(table.take_done(&mut found).unwrap_err().is_damaged());
        assert!(found.is_empty());
    });
}

#[test]
fn a_tail_that_no_parent_wrote_ends_a_claim_with_an_error() {
    within_a_minute(|| {
        let mut memory = Memory::new();
        let _ = memory.create();
        memory.scribble(&[(TAIL_AT, u64::MAX)]);
        let table = memory.attach(LAYOUT).unwrap();
        assert!(table.claim(Owner(0)).unwrap_err().is_damaged());
        assert_eq!(table.publish(0, 0), None);
    });
}

#[test]
fn a_head_that_no_worker_moved_stops_the_parent_and_does_not_send_it_round() {
    within_a_minute(|| {
        for head in [0, 1, 15, 17, 1 << 20, (1 << 48) - 1, u64::MAX] {
            let mut memory = Memory::new();
            let table = memory.create();
            assert!(table.publish(0, 0).is_some());
            assert!(table.claim(Owner(0)).unwrap().is_some());
            memory.scribble(&[(HEAD_AT, head)]);
            let table = memory.attach(LAYOUT).unwrap();
            let recovered = table.recover(Owner(0));
            assert_eq!(recovered.given_back + recovered.lost.len(), 1, "head {head:#x}");
            let _ = table.publish(1, 0);
            let _ = table.parent_may_sleep();
        }
    });
}

#[test]
fn a_cell_that_names_no_slot_ends_a_claim_with_an_error() {
    let mut memory = Memory::new();
    let table = memory.create();
    assert!(table.publish(0, 0).is_some());
    memory.scribble(&[(CELLS_AT, 4)]);
    let table = memory.attach(LAYOUT).unwrap();
    assert!(table.claim(Owner(0)).unwrap_err().is_damaged());
}

#[test]
fn memory_that_is_no_table_is_refused() {
    let mut memory = Memory::new();
    assert!(!memory.attach(LAYOUT).unwrap_err().is_damaged());
    memory.scribble(&[(0, u64::from_le_bytes(*b"mlpnd\0\x02\0"))]);
    let error = memory.attach(LAYOUT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shared memory is not a Millpond table: its first word is another"
    );
}

#[test]
fn a_table_of_another_layout_is_refused() {
    let mut memory = Memory::new();
    let _ = memory.create();
    assert!(memory.attach(LAYOUT).is_ok());
    for other in [
        Layout { slot_count: 3, ..LAYOUT },
        Layout { seat_count: 2, ..LAYOUT },
        Layout { store_count: 1, ..LAYOUT },
    ] {
        assert!(memory.attach(other).is_err(), "{other:?}");
    }
}
