//! The object store, parent's side: parts that many tasks name, each stored once.

use std::collections::{BTreeMap, HashMap};

use millpond_sys::mapping::Mapping;
use millpond_table::{Block, PART_COUNTS, StoreId, StoredAt, Table};
use twox_hash::XxHash3_128;

use crate::error::{Error, Result};
use crate::space::Space;

#[derive(Debug)]
struct Part {
    id: StoreId,
    block: Block,
    /// None for a buffer, whose equals are not looked for, and which workers lease.
    hash: Option<u128>,
    kind: u64,
    /// Under which the front wants what workers count to be added up.
    tag: u64,
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
    /// What workers counted for parts that are gone, by tag: of the newest tags alone.
    counted: BTreeMap<u64, PartCounts>,
    /// Buffers that are no longer listed, and that workers still read.
    leased: Vec<(StoreId, Block)>,
    /// Only the first so many seats have a worker.
    pub(crate) seat_count: usize,
}

/// Of how many tags, the highest ones, the counts of parts that are gone are kept. A front that numbers its
/// tags upwards can ask for as many, and a pool that sees ever new ones does not grow.
pub const COUNTED_TAGS_MAX: usize = 128;

/// What workers have counted for a part, by the indices that the front gives them.
pub type PartCounts = [u64; PART_COUNTS];

impl ObjectStore {
    pub(crate) fn new(count: u32) -> Self {
        Self {
            parts: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            by_content: HashMap::new(),
            bytes: 0,
            counted: BTreeMap::new(),
            leased: Vec::new(),
            seat_count: 0,
        }
    }

    /// Stores `bytes`, or finds them stored, and holds the part once for the caller.
    pub(crate) fn store(
        &mut self,
        table: Table<'_>,
        space: &mut Space,
        bytes: &[u8],
        kind: u64,
        tag: u64,
    ) -> Result<StoreId> {
        let hash = XxHash3_128::oneshot(bytes);
        if let Some(id) = self.find(hash, kind, |block| space.holds(block, bytes)) {
            return Ok(id);
        }
        let block = space.store(&[bytes])?;
        self.list(table, space, block, Some(hash), kind, tag)
    }

    /// Lists a block that has been written, unless its bytes are stored already, and holds the part
    /// once for the caller.
    pub(crate) fn store_block(
        &mut self,
        table: Table<'_>,
        space: &mut Space,
        block: Block,
        hash: u128,
        kind: u64,
        tag: u64,
    ) -> Result<StoreId> {
        if let Some(id) = self.find(hash, kind, |stored| space.are_equal(stored, &block)) {
            space.give_back(block);
            return Ok(id);
        }
        self.list(table, space, block, Some(hash), kind, tag)
    }

    /// Lists a buffer that has been written, and holds it once for the caller.
    pub(crate) fn list_buffer(
        &mut self,
        table: Table<'_>,
        space: &mut Space,
        block: Block,
        kind: u64,
        tag: u64,
    ) -> Result<StoreId> {
        self.list(table, space, block, None, kind, tag)
    }

    /// Tells whether there are buffers that only workers keep.
    pub(crate) fn any_leased(&self) -> bool {
        !self.leased.is_empty()
    }

    /// Frees the buffers that nobody holds and no worker reads any more.
    pub(crate) fn free_unleased(&mut self, table: Table<'_>, space: &mut Space) {
        let mut at = 0;
        while at < self.leased.len() {
            if table.is_leased_among(self.leased[at].0, self.seat_count) {
                at += 1;
                continue;
            }
            let (_, block) = self.leased.swap_remove(at);
            self.bytes -= block.len;
            space.give_back(block);
        }
    }

    /// Finds stored bytes. An equal hash is a hint; only equal bytes make the parts one.
    fn find(
        &mut self,
        hash: u128,
        kind: u64,
        is_equal: impl FnOnce(&Block) -> bool,
    ) -> Option<StoreId> {
        let entry = *self.by_content.get(&hash)?;
        let part = self.parts.get_mut(entry as usize)?.as_mut()?;
        if part.kind != kind || !is_equal(&part.block) {
            return None;
        }
        part.holders += 1;
        Some(part.id)
    }

    fn list(
        &mut self,
        table: Table<'_>,
        space: &mut Space,
        block: Block,
        hash: Option<u128>,
        kind: u64,
        tag: u64,
    ) -> Result<StoreId> {
        let Some(entry) = self.free.pop() else {
            let len = block.len;
            space.give_back(block);
            return Err(Error::no_room(len, self.bytes));
        };
        let at = StoredAt { offset: block.offset, len: block.len, kind };
        let id = table.store_list(entry, at);
        kill_point!("parent.store.listed");
        self.bytes += block.len;
        if let Some(hash) = hash {
            self.by_content.insert(hash, entry);
        }
        self.parts[entry as usize] = Some(Part { id, block, hash, kind, tag, holders: 1 });
        Ok(id)
    }

    /// Returns what workers have counted, by tag.
    pub(crate) fn counts(&self, table: Table<'_>) -> HashMap<u64, PartCounts> {
        let mut all: HashMap<_, _> =
            self.counted.iter().map(|(&tag, &counts)| (tag, counts)).collect();
        for part in self.parts.iter().flatten() {
            add(all.entry(part.tag).or_default(), table.part_counts(part.id.entry));
        }
        all
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
            add(self.counted.entry(part.tag).or_default(), table.part_counts(part.id.entry));
            if self.counted.len() > COUNTED_TAGS_MAX {
                self.counted.pop_first();
            }
            table.store_unlist(part.id);
            kill_point!("parent.store.unlisted");
            match part.hash {
                // A worker may map a buffer beyond the tasks that named it.
                None => self.leased.push((id, part.block)),
                Some(hash) => {
                    if self.by_content.get(&hash) == Some(&id.entry) {
                        self.by_content.remove(&hash);
                    }
                    self.bytes -= part.block.len;
                    space.give_back(part.block);
                }
            }
            self.free.push(id.entry);
            self.free_unleased(table, space);
        }
    }
}

fn add(sum: &mut PartCounts, more: PartCounts) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.wrapping_add(more);
    }
}

impl Space {
    /// Tells whether a block holds just these bytes.
    fn holds(&self, block: &Block, bytes: &[u8]) -> bool {
        block.len == bytes.len() as u64
            && BlockView::of(self, block).is_some_and(|view| view.bytes() == bytes)
    }

    /// Tells whether two blocks hold the same bytes.
    fn are_equal(&self, one: &Block, other: &Block) -> bool {
        let (Some(one), Some(other)) = (BlockView::of(self, one), BlockView::of(self, other))
        else {
            return false;
        };
        one.bytes() == other.bytes()
    }
}

/// A mapping of one block, for a comparison.
struct BlockView {
    mapping: Mapping,
    at: usize,
    len: usize,
}

impl BlockView {
    fn of(space: &Space, block: &Block) -> Option<Self> {
        let page = millpond_sys::mapping::page_size() as u64;
        let from = block.offset / page * page;
        let at = (block.offset - from) as usize;
        let len = block.len as usize;
        let access = millpond_sys::mapping::Access::ReadOnly;
        let mapping = Mapping::new(space.fd(), from, at + len, access).ok()?;
        Some(Self { mapping, at, len })
    }

    #[allow(unsafe_code, reason = "the stored bytes lie in a mapping")]
    fn bytes(&self) -> &[u8] {
        assert!(self.at + self.len <= self.mapping.len(), "the block lies in the mapping");
        // SAFETY: the range was checked. This process is the only writer of its arena and the block
        // is held, so nothing changes under the slice.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().add(self.at), self.len) }
    }
}
