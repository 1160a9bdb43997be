//! Stored parts that tasks name, and what is still read of either side's memory when they have ended.
//!
//! Memory is an array of numbers outside of the table: who reads a number that is another one than what
//! he was promised has read memory that was used again.

use std::sync::atomic::{AtomicU64, Ordering};

use millpond_table::{LEASE_COUNT, Owner, Payload, Seat, StoreId, StoredAt, Table};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;

use super::pool::Pool;
use super::worker::Identity;

/// Entries of the directory.
pub(crate) const ENTRY_COUNT: u32 = 2;
/// Blocks of the parent's memory: one more than entries, so that an entry is used again while a worker
/// reads what it named before.
const BLOCK_COUNT: usize = 3;
/// What a task's payload says that names no part.
const NO_PART: u64 = 0;

fn pack(id: StoreId) -> u64 {
    1 + (id.turn << 8 | u64::from(id.entry))
}

fn unpack(word: u64) -> Option<StoreId> {
    let word = word.checked_sub(1)?;
    Some(StoreId { entry: (word & 0xff) as u32, turn: word >> 8 })
}

struct Part {
    id: StoreId,
    block: usize,
    holders: usize,
}

/// A result's memory that the parent still reads.
struct Borrowed {
    from: Identity,
    index: usize,
    turn: u64,
    value: u64,
}

#[derive(Default)]
struct Store {
    listed: Vec<Part>,
    /// Off the list, and perhaps still read by a worker.
    leased: Vec<(StoreId, usize)>,
    free_blocks: Vec<usize>,
    made: u64,
    borrowed: Vec<Borrowed>,
}

/// The parent's memory, its store, and the memory of results. The store's lock is only taken under the
/// pool's.
pub(crate) struct Parts {
    blocks: [AtomicU64; BLOCK_COUNT],
    lent: Vec<[AtomicU64; LEASE_COUNT]>,
    store: Mutex<Store>,
    is_used: bool,
}

impl Parts {
    pub(crate) fn new(is_used: bool, incarnation_count: usize) -> Self {
        let store = Store { free_blocks: (0..BLOCK_COUNT).collect(), ..Store::default() };
        Self {
            blocks: Default::default(),
            lent: (0..incarnation_count).map(|_| Default::default()).collect(),
            store: Mutex::new(store),
            is_used,
        }
    }

    /// Parent: returns the word that names a task's part: a listed one, a new one, or none.
    pub(crate) fn choose(&self, table: Table<'_>) -> u64 {
        if !self.is_used {
            return NO_PART;
        }
        let mut store = self.store.lock().expect("no panic");
        let entry =
            (0..ENTRY_COUNT).find(|&at| store.listed.iter().all(|part| part.id.entry != at));
        let may_list = entry.is_some() && !store.free_blocks.is_empty();
        if let Some(part) = store.listed.first_mut()
            && (!may_list || thread_rng().gen_bool(0.5))
        {
            part.holders += 1;
            return pack(part.id);
        }
        let (Some(entry), Some(block)) = (entry, store.free_blocks.pop()) else { return NO_PART };
        store.made += 1;
        let value = store.made;
        self.blocks[block].store(value, Ordering::Relaxed);
        let at = StoredAt { offset: block as u64, len: value, kind: !value };
        let id = table.store_list(entry, at);
        store.listed.push(Part { id, block, holders: 1 });
        pack(id)
    }

    /// Parent: a task that names this part has ended.
    pub(crate) fn let_go(&self, table: Table<'_>, word: u64) {
        let Some(id) = unpack(word) else { return };
        let mut store = self.store.lock().expect("no panic");
        let at = store.listed.iter().position(|part| part.id == id).expect("a held part is listed");
        store.listed[at].holders -= 1;
        if store.listed[at].holders == 0 {
            let part = store.listed.swap_remove(at);
            table.store_unlist(id);
            store.leased.push((id, part.block));
        }
        drop(store);
        self.free_unleased(table);
    }

    /// Parent: uses the memory again that nobody reads any more.
    pub(crate) fn free_unleased(&self, table: Table<'_>) {
        if !self.is_used {
            return;
        }
        let mut store = self.store.lock().expect("no panic");
        for (id, block) in std::mem::take(&mut store.leased) {
            if table.is_leased(id) {
                store.leased.push((id, block));
            } else {
                self.blocks[block].store(0, Ordering::Relaxed);
                store.free_blocks.push(block);
            }
        }
    }

    /// Parent: reads a result, and keeps what was lent with it.
    pub(crate) fn borrow(&self, from: Identity, result: Payload) {
        let Some(word) = result.note_len.checked_sub(1) else { return };
        let (index, turn) = ((word & 0xff) as usize, word >> 8);
        let borrowed = Borrowed { from, index, turn, value: result.len };
        self.check(&borrowed);
        self.store.lock().expect("no panic").borrowed.push(borrowed);
    }

    fn check(&self, borrowed: &Borrowed) {
        let found =
            self.lent[borrowed.from.incarnation as usize][borrowed.index].load(Ordering::Relaxed);
        assert_eq!(found, borrowed.value, "a result's memory was used again while it was read");
    }

    /// Parent: gives some of what it has borrowed back, if its worker is the one of the seat still.
    pub(crate) fn give_back(&self, table: Table<'_>, is_alive: impl Fn(Identity) -> bool) {
        if !self.is_used {
            return;
        }
        let mut store = self.store.lock().expect("no panic");
        for borrowed in std::mem::take(&mut store.borrowed) {
            self.check(&borrowed);
            if !is_alive(borrowed.from) {
                continue;
            }
            if thread_rng().gen_bool(0.5) {
                store.borrowed.push(borrowed);
            } else {
                let seat = &table.seats()[usize::from(borrowed.from.owner.0)];
                seat.give_back(borrowed.index, borrowed.turn);
            }
        }
    }
}

/// What a worker reads beyond its task, and what it has lent.
pub(crate) struct Readings {
    me: Identity,
    leased: Vec<(usize, u64, u64)>,
    lent: [u64; LEASE_COUNT],
    turn: u64,
}

impl Readings {
    pub(crate) fn new(me: Identity) -> Self {
        Self { me, leased: Vec::new(), lent: [0; LEASE_COUNT], turn: 0 }
    }

    fn seat<'a>(&self, pool: &'a Pool) -> &'a Seat {
        let Owner(seat) = self.me.owner;
        &pool.table().seats()[usize::from(seat)]
    }

    /// During a task: finds its part, reads it, and leases it if it can.
    pub(crate) fn read_part(&mut self, pool: &Pool, payload: Payload) {
        let Some(id) = payload.offset.and_then(unpack) else { return };
        let lease = self.seat(pool).lease(id);
        let at = pool.table().store_find(id).expect("a part that a task names is listed");
        assert_eq!(at.kind, !at.len, "half of an entry was seen");
        let check = |when| {
            let found = pool.parts.blocks[at.offset as usize].load(Ordering::Relaxed);
            assert_eq!(found, at.len, "a part's memory was used again {when}");
        };
        check("before its task's end");
        if let Some(lease) = lease {
            self.leased.push((lease, at.offset, at.len));
        }
    }

    /// After a task: reads on, and ends a lease now and then.
    pub(crate) fn go_on(&mut self, pool: &Pool) {
        for &(_, block, value) in &self.leased {
            let found = pool.parts.blocks[block as usize].load(Ordering::Relaxed);
            assert_eq!(found, value, "a leased part's memory was used again");
        }
        if !self.leased.is_empty() && thread_rng().gen_bool(0.5) {
            let (lease, _, _) = self.leased.swap_remove(0);
            self.seat(pool).end_lease(lease);
        }
    }

    /// Writes a result into memory that is free again, and returns the word that says where; 0 if there
    /// is none.
    pub(crate) fn lend(&mut self, pool: &Pool, value: u64) -> u64 {
        if !pool.parts.is_used {
            return 0;
        }
        let seat = self.seat(pool);
        let is_free =
            |index: usize| self.lent[index] == 0 || seat.was_given_back(index, self.lent[index]);
        let Some(index) = (0..LEASE_COUNT).find(|&index| is_free(index)) else { return 0 };
        pool.parts.lent[self.me.incarnation as usize][index].store(value, Ordering::Relaxed);
        self.turn += 1;
        self.lent[index] = self.turn;
        1 + (self.turn << 8 | index as u64)
    }
}
