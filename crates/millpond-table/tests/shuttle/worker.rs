//! A worker's life, step by step as the engine's `Worker` and its loop have it.

use std::sync::Arc;

use millpond_table::sync::live_for;
use millpond_table::{Claim, Owner, Payload, Table};
use shuttle::thread;

use super::parts::Readings;
use super::pool::Pool;

/// Added to an attempt's number, the result says which task it belongs to.
pub(crate) const RESULT: u64 = 1 << 40;

/// Who a worker is: its seat, and which of the seat's workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) owner: Owner,
    pub(crate) incarnation: u32,
}

/// What looking for a task came to.
enum Next {
    Task(Claim),
    Again,
    Stop,
}

/// Lives, at most for so many steps, and leaves behind what a process's descriptor tells.
pub(crate) fn live(pool: &Arc<Pool>, me: Identity, steps: Option<u64>) {
    let has_died = match steps {
        Some(steps) => live_for(steps, || work(pool, me)).is_none(),
        None => {
            work(pool, me);
            false
        }
    };
    pool.tell_gone(me.owner, has_died);
}

fn work(pool: &Pool, me: Identity) {
    let table = pool.table();
    let mut readings = Readings::new(me);
    let mut serial = 0;
    loop {
        readings.go_on(pool);
        if must_leave(pool, me.owner) {
            return;
        }
        let claim = match claim(pool, me.owner) {
            Some(claim) => claim,
            None => match wait(pool, me.owner) {
                Next::Task(claim) => claim,
                Next::Again => continue,
                Next::Stop => return,
            },
        };
        let slot = table.slot(claim.slot);
        let payload = slot.payload();
        if !slot.begin(me.owner, claim.turn) {
            continue;
        }
        pool.ledger.note_begun(payload.len as usize);
        readings.read_part(pool, payload);
        serial += 1;
        let len = RESULT + payload.len;
        let note_len = readings.lend(pool, len);
        slot.describe(Payload { kind: me.incarnation, len, offset: Some(serial), note_len });
        match table.complete(claim.slot, me.owner, claim.turn) {
            Some(true) => pool.futex.wake(table.parent_bell()),
            Some(false) => {}
            // The task is condemned, and so is its worker.
            None => return,
        }
    }
}

fn claim(pool: &Pool, owner: Owner) -> Option<Claim> {
    let table = pool.table();
    let claim = table.claim(owner).expect("nobody scribbles")?;
    if claim.refill && table.must_wake_parent() {
        pool.futex.wake(table.parent_bell());
    }
    Some(claim)
}

fn wait(pool: &Pool, owner: Owner) -> Next {
    let table = pool.table();
    if table.may_spin(owner) {
        thread::yield_now();
        let found = claim(pool, owner);
        table.end_spin(owner);
        if let Some(claim) = found {
            if table.has_ready()
                && let Some(bell) = table.wake_another()
            {
                pool.futex.wake(bell);
            }
            return Next::Task(claim);
        }
    }
    if let Some((bell, value)) = table.worker_may_sleep(owner) {
        pool.futex.wait(bell, value);
        table.worker_awake(owner);
    }
    match claim(pool, owner) {
        Some(claim) => Next::Task(claim),
        None if table.is_stopping() || must_leave(pool, owner) => Next::Stop,
        None => Next::Again,
    }
}

fn must_leave(pool: &Pool, owner: Owner) -> bool {
    let table: Table<'_> = pool.table();
    if !table.seats()[usize::from(owner.0)].must_leave() {
        return false;
    }
    if table.has_ready()
        && let Some(bell) = table.wake_one()
    {
        pool.futex.wake(bell);
    }
    true
}
