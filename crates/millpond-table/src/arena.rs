//! The allocator of payload memory.
//!
//! The metadata lies here, in the memory of the one process that allocates, never in the shared
//! memory: no peer can damage it, and nothing of it is rebuilt when a peer dies.
//!
//! An arena has two areas. Blocks up to [`SMALL_LEN_MAX`] lie in the *small* area at its start, which
//! both sides keep mapped. Longer ones lie in the *large* area: whole pages, written by `pwrite` and
//! mapped on demand by the reader.

use offset_allocator::{Allocation, Allocator};

/// The longest block in bytes that is looked for in the small area.
const SMALL_LEN_MAX: u64 = 256 << 10;

/// The unit of the small area in bytes: one cache line.
const SMALL_UNIT: u64 = 64;

/// The unit of the large area in bytes: one page.
const LARGE_UNIT: u64 = 4096;

/// The most blocks that can be out in each area: one for each slot and each stored part, and some.
const BLOCK_COUNT_MAX: u32 = 8192;

/// A piece of the arena, `len` bytes at `offset` from the arena file's start.
pub struct Block {
    /// Offset in bytes from the start of the file.
    pub offset: u64,
    /// Length in bytes, as asked for.
    pub len: u64,
    /// Length in bytes, as given: a multiple of the area's unit.
    pub capacity: u64,
    /// Whether it lies in the large area.
    pub is_large: bool,
    allocation: Allocation,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes at {})", self.len, self.offset)
    }
}

/// Hands out blocks of a range of a file.
pub struct Arena {
    start: u64,
    small_len: u64,
    small: Area,
    large: Area,
}

/// One area's allocator. It is made at its first use: its tables take a quarter of a megabyte, which
/// most workers never need.
struct Area {
    units: u32,
    allocator: Option<Allocator>,
}

impl Area {
    fn get(&mut self) -> &mut Allocator {
        self.allocator
            .get_or_insert_with(|| Allocator::with_max_allocs(self.units, BLOCK_COUNT_MAX))
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena")
            .field("start", &self.start)
            .field("small_len", &self.small_len)
            .finish_non_exhaustive()
    }
}

impl Arena {
    /// Makes an arena over the `len` bytes at `start` of its file, the first `small_len` of them the
    /// small area. All three are multiples of the page size.
    #[must_use]
    pub fn new(start: u64, len: u64, small_len: u64) -> Self {
        debug_assert!(small_len <= len && start.is_multiple_of(LARGE_UNIT));
        let large_units = ((len - small_len) / LARGE_UNIT).min(u64::from(u32::MAX >> 1)) as u32;
        let small_units = (small_len / SMALL_UNIT).min(u64::from(u32::MAX >> 1)) as u32;
        Self {
            start,
            small_len,
            small: Area { units: small_units, allocator: None },
            large: Area { units: large_units, allocator: None },
        }
    }

    /// Returns a block of `len` bytes, or `None` if no piece of that length is free. `len` is not 0.
    pub fn allocate(&mut self, len: u64) -> Option<Block> {
        if len <= SMALL_LEN_MAX
            && let Some(block) = self.allocate_in(len, false)
        {
            return Some(block);
        }
        self.allocate_in(len, true)
    }

    fn allocate_in(&mut self, len: u64, is_large: bool) -> Option<Block> {
        let (area, unit, base) = if is_large {
            (&mut self.large, LARGE_UNIT, self.start + self.small_len)
        } else {
            (&mut self.small, SMALL_UNIT, self.start)
        };
        let units = u32::try_from(len.div_ceil(unit).max(1)).ok()?;
        let allocation = area.get().allocate(units)?;
        let offset = base + u64::from(allocation.offset) * unit;
        Some(Block { offset, len, capacity: u64::from(units) * unit, is_large, allocation })
    }

    /// Takes a block back.
    pub fn free(&mut self, block: Block) {
        let area = if block.is_large { &mut self.large } else { &mut self.small };
        area.get().free(block.allocation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_block_of_two_gigabytes_and_one_byte_is_given() {
        let mut arena = Arena::new(0, 1 << 40, 4 * MIB);
        let block = arena.allocate((2 << 30) + 1).expect("the arena has a terabyte");
        assert!(block.is_large && block.offset.is_multiple_of(4096));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_cut() {
        let mut arena = Arena::new(0, 8 * MIB, 4 * MIB);
        assert!(arena.allocate(5 * MIB).is_none());
        assert!(arena.allocate(u64::MAX).is_none());
    }

    proptest! {
        #[test]
        fn live_blocks_never_overlap_and_lie_in_the_range(
            steps in prop::collection::vec((1u64..3 * MIB, any::<bool>()), 1..200),
        ) {
            let start = 16 * MIB;
            let mut arena = Arena::new(start, 64 * MIB, 4 * MIB);
            let mut live: Vec<Block> = Vec::new();
            for (len, give_back) in steps {
                if give_back && !live.is_empty() {
                    arena.free(live.swap_remove(len as usize % live.len()));
                } else if let Some(block) = arena.allocate(len) {
                    prop_assert!(block.capacity >= len);
                    prop_assert!(block.offset >= start);
                    prop_assert!(block.offset + block.capacity <= start + 64 * MIB);
                    for other in &live {
                        prop_assert!(
                            block.offset + block.capacity <= other.offset
                                || other.offset + other.capacity <= block.offset
                        );
                    }
                    live.push(block);
                }
            }
        }
    }
}
