//! Slots' bytes pass from thread to thread with nothing but the table's words to order them.
//!
//! The models see every order of the atomic steps and none of the plain bytes between them. Here the
//! bytes are written and read where they lie, as the engine does it, so that `make test-threads` can
//! show that each access happens before the next. A machine that reorders little gives the right bytes
//! without that, and this test alone would pass.
#![allow(unsafe_code, reason = "inline bytes are read where they lie")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use millpond_table::sync::AtomicU32;
use millpond_table::{HeapTable, INLINE_LEN, Layout, Owner, Payload, Table};
use testkit::watchdog::Watchdog;

const TASK_COUNT: u64 = 5_000;
const LAYOUT: Layout = Layout { slot_count: 8, seat_count: 4, store_count: 1 };
/// A worker begins so many tasks, and is gone in the middle of the last.
const LIFE_LEN: u64 = 300;

/// Tells a number by bytes of which each differs from those of its neighbours; 8 to 199 bytes.
fn bytes_of(number: u64) -> Vec<u8> {
    let len = 8 + number as usize * 7 % (INLINE_LEN - 8);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((8..len).map(|at| (number as usize * 31 + at) as u8));
    bytes
}

fn write(table: Table<'_>, slot: u32, number: u64) {
    let bytes = bytes_of(number);
    table.slot(slot).write_inline(&bytes);
    let len = bytes.len() as u64;
    table.slot(slot).describe(Payload { kind: 0, len, offset: None, note_len: 0 });
}

fn read(table: Table<'_>, slot: u32) -> u64 {
    let len = table.slot(slot).payload().len as usize;
    // SAFETY: `payload` keeps the length of inline bytes within them, and the caller holds the slot.
    let bytes = unsafe { std::slice::from_raw_parts(table.slot(slot).inline_ptr(), len) };
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, bytes_of(number));
    number
}

/// Sleeps as on a futex, until the bell is silent.
fn sleep_on(bell: &AtomicU32, value: u32) {
    while bell.load(Ordering::Relaxed) == value {
        thread::yield_now();
    }
}

/// Works until the table stops, or the worker's life is over.
fn work(table: Table<'_>, owner: Owner, gone: &Sender<Owner>) {
    let mut begun = 0;
    while !table.is_stopping() {
        let Some(claim) = table.claim(owner).unwrap() else {
            if let Some((bell, value)) = table.worker_may_sleep(owner) {
                sleep_on(bell, value);
                table.worker_awake(owner);
            }
            continue;
        };
        assert!(table.slot(claim.slot).begin(owner, claim.turn));
        let number = read(table, claim.slot);
        begun += 1;
        if begun == LIFE_LEN {
            // What is half written when a worker dies is nobody's.
            write(table, claim.slot, u64::MAX / 64);
            gone.send(owner).unwrap();
            return;
        }
        write(table, claim.slot, number + 1);
        let _ = table.complete(claim.slot, owner, claim.turn);
    }
}

#[test]
fn bytes_arrive_whole_in_both_directions_though_workers_go_in_the_middle() {
    let _watchdog = Watchdog::start(Duration::from_secs(300));
    let heap = HeapTable::new(LAYOUT);
    let table = heap.table();
    let (gone, goes) = mpsc::channel();
    let mut ends = vec![0_u32; TASK_COUNT as usize];
    thread::scope(|scope| {
        let start = |owner| {
            let gone = gone.clone();
            scope.spawn(move || work(table, owner, &gone));
        };
        (0..LAYOUT.seat_count as u16).map(Owner).for_each(start);
        let mut free: Vec<(u32, u64)> = (0..LAYOUT.slot_count).map(|slot| (slot, 0)).collect();
        let mut out = vec![None; LAYOUT.slot_count as usize];
        let (mut next, mut ended, mut lost_count, mut death_count) = (0, 0, 0, 0);
        while ended < TASK_COUNT {
            while next < TASK_COUNT
                && let Some((slot, turn)) = free.pop()
            {
                write(table, slot, next);
                out[slot as usize] = Some((next, turn));
                let _ = table.publish(slot, turn).unwrap();
                // The bell is silenced in its taking, which is all that a sleeper waits for here.
                let _ = table.wake_one();
                next += 1;
            }
            let (mut done, mut lost) = (Vec::new(), Vec::new());
            let dead = goes.try_recv().ok();
            if let Some(dead) = dead {
                let found = table.recover(dead);
                (done, lost) = (found.done, found.lost);
                death_count += 1;
            }
            table.take_done(&mut done).unwrap();
            for slot in done.iter().chain(&lost) {
                let Some((number, turn)) = out[*slot as usize].take() else { continue };
                if lost.contains(slot) {
                    lost_count += 1;
                } else {
                    assert_eq!(read(table, *slot), number + 1);
                }
                ends[number as usize] += 1;
                ended += 1;
                free.push((*slot, table.slot(*slot).free(turn)));
            }
            if let Some(dead) = dead {
                table.wake_all(|_| ());
                start(dead);
            }
            thread::yield_now();
        }
        table.stop();
        table.wake_all(|_| ());
        assert!(death_count >= TASK_COUNT / LIFE_LEN / 4, "{death_count} workers have gone");
        assert_eq!(lost_count, death_count, "a worker that goes loses the task that it is in");
    });
    assert_eq!(ends, [1; TASK_COUNT as usize]);
}
