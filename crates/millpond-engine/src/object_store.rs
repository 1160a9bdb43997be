//! The object store, parent's side: parts that many tasks name, each stored once.

use std::collections::HashMap;

use millpond_sys::mapping::Mapping;
use millpond_table::{Block, StoreId, StoredAt, Table};
use twox_hash::XxHash3_128;

use crate::error::{Error, Result};
use crate::space::Space;

#[derive(Debug)]
struct Part {
    id: StoreId,
    block: Block,
    hash: u128,
    kind: u64,
    /// Holders: tasks that are out, and the front as long as it keeps the part.
    holders: usize,
}

/// What is stored, by entry.
#[derive(Debug)]
pub(crate) struct ObjectStore {
    parts: Vec<Option<Part>>,
    free: Vec<u32>,
    by_content: HashMap<u128, u32>,
    pub(crate) bytes: u64,
}

impl ObjectStore {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            parts: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            by_content: HashMap::new(),
            bytes: 0,
        }
    }

    /// Stores `bytes`, or finds them stored, and holds the part once for the caller.
    pub(crate) fn store(
        &mut self,
        table: Table<'_>,
        space: &mut Space,
        bytes: &[u8],
        kind: u64,
    ) -> Result<StoreId> {
        let hash = XxHash3_128::oneshot(bytes);
        // An equal hash is a hint; only equal bytes make the parts one.
        if let Some(&entry) = self.by_content.get(&hash)
            && let Some(Some(part)) = self.parts.get_mut(entry as usize)
            && part.kind == kind
            && space.holds(&part.block, bytes)
        {
            part.holders += 1;
            return Ok(part.id);
        }
        let Some(entry) = self.free.pop() else {
            return Err(Error::no_room(bytes.len() as u64, self.bytes));
        };
        let block = match space.store(&[bytes]) {
            Ok(block) => block,
            Err(error) => {
                self.free.push(entry);
                return Err(error);
            }
        };
        let at = StoredAt { offset: block.offset, len: block.len, kind };
        let id = table.store_list(entry, at);
        self.bytes += block.len;
        self.by_content.insert(hash, entry);
        self.parts[entry as usize] = Some(Part { id, block, hash, kind, holders: 1 });
        Ok(id)
    }

    /// Holds a part once more, for a task that names it.
    pub(crate) fn hold(&mut self, id: StoreId) {
        if let Some(Some(part)) = self.parts.get_mut(id.entry as usize)
            && part.id == id
        {
            part.holders += 1;
        } else {
            debug_assert!(false, "{id:?} is held while it is not stored");
        }
    }

    /// Lets a part go once; the last holder takes it off the list and frees its memory.
    pub(crate) fn let_go(&mut self, table: Table<'_>, space: &mut Space, id: StoreId) {
        let Some(place) = self.parts.get_mut(id.entry as usize) else { return };
        // An id of an earlier turn must not let go of the part that has its entry now.
        let Some(part) = place.as_mut().filter(|part| part.id == id) else {
            debug_assert!(false, "{id:?} is let go while it is not stored");
            return;
        };
        part.holders -= 1;
        if part.holders > 0 {
            return;
        }
        if let Some(part) = place.take() {
            table.store_unlist(part.id);
            self.bytes -= part.block.len;
            if self.by_content.get(&part.hash) == Some(&id.entry) {
                self.by_content.remove(&part.hash);
            }
            space.give_back(part.block);
            self.free.push(id.entry);
        }
    }
}

impl Space {
    /// Tells whether a block holds just these bytes.
    pub(crate) fn holds(&self, block: &Block, bytes: &[u8]) -> bool {
        if block.len != bytes.len() as u64 {
            return false;
        }
        let page = millpond_sys::mapping::page_size() as u64;
        let from = block.offset / page * page;
        let len = (block.offset + block.len - from) as usize;
        let access = millpond_sys::mapping::Access::ReadOnly;
        Mapping::new(self.fd(), from, len, access)
            .is_ok_and(|mapping| equal(&mapping, (block.offset - from) as usize, bytes))
    }
}

#[allow(unsafe_code, reason = "the stored bytes lie in a mapping")]
fn equal(mapping: &Mapping, at: usize, bytes: &[u8]) -> bool {
    assert!(at + bytes.len() <= mapping.len(), "the block lies in the mapping");
    // SAFETY: the range was checked. This process is the only writer of its arena and the block is
    // held, so nothing changes under the slice.
    let stored = unsafe { std::slice::from_raw_parts(mapping.as_ptr().add(at), bytes.len()) };
    stored == bytes
}
