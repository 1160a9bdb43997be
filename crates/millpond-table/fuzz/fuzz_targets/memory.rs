//! Shared by the targets: a small table over heap memory whose bytes the fuzzer chose.
#![allow(dead_code, reason = "each target uses a part of it")]

use millpond_table::{Layout, Result, Table};

/// The table that every target attaches to.
pub const LAYOUT: Layout = Layout { slot_count: 4, seat_count: 3, store_count: 2 };

const WORD_COUNT: usize = LAYOUT.size() / 8;

/// Length in words of what `attach` compares.
const HEADER_LEN: usize = 3;

#[derive(Clone)]
#[repr(C, align(128))]
struct Line([u64; 16]);

/// Memory that is aligned like a mapping.
pub struct Memory(Vec<Line>);

impl Memory {
    /// Takes `bytes` as the start of the memory; the rest is zero. If the first byte is odd, the
    /// header becomes that of a true table.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut memory = Self(vec![Line([0; 16]); WORD_COUNT.div_ceil(16)]);
        let mut first = 0;
        if bytes.first().is_some_and(|byte| byte % 2 == 1) {
            // SAFETY: as in `scribbled`.
            let _ = unsafe { Table::create(memory.0.as_mut_ptr().cast(), LAYOUT) };
            first = HEADER_LEN;
        }
        let words = bytes.chunks_exact(8).take(WORD_COUNT).enumerate();
        for (place, word) in words.skip(first) {
            let word = word.try_into().expect("a chunk has eight bytes");
            memory.0[place / 16].0[place % 16] = u64::from_le_bytes(word);
        }
        memory
    }

    /// Makes a table, lets `use_it` work, then scribbles over it: of each 10 bytes, two are the
    /// place in words and eight the value. The header stays whole.
    pub fn scribbled(bytes: &[u8], use_it: impl FnOnce(Table<'_>)) -> Self {
        let mut memory = Self::of_bytes(&[]);
        // SAFETY: the memory is long enough, aligned, zero, and borrowed for the view's life.
        use_it(unsafe { Table::create(memory.0.as_mut_ptr().cast(), LAYOUT) });
        for piece in bytes.chunks_exact(10) {
            let place = usize::from(u16::from_le_bytes([piece[0], piece[1]])) % WORD_COUNT;
            let word = piece[2..].try_into().expect("eight bytes are left");
            if place >= HEADER_LEN {
                memory.0[place / 16].0[place % 16] = u64::from_le_bytes(word);
            }
        }
        memory
    }

    /// Attaches to the memory as it is.
    pub fn attach(&mut self) -> Result<Table<'_>> {
        // SAFETY: the memory is long enough, aligned, and borrowed for the view's life.
        unsafe { Table::attach(self.0.as_mut_ptr().cast(), LAYOUT) }
    }
}
