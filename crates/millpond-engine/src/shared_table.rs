//! The task table over mapped memory.
#![allow(unsafe_code, reason = "a table is attached to a mapping, which lives as long as it")]

use std::os::fd::BorrowedFd;

use millpond_sys::mapping::{Access, Mapping, page_size};
use millpond_table::{Layout, Table};

use crate::error::Result;

/// A mapping and the table in it.
#[derive(Debug)]
pub(crate) struct SharedTable {
    /// Borrows from `_mapping`; never handed out for longer than `self` lives.
    table: Table<'static>,
    _mapping: Mapping,
}

/// Returns the length in bytes of a file for a table of this layout.
pub(crate) fn file_len(layout: Layout) -> usize {
    layout.size().next_multiple_of(page_size())
}

impl SharedTable {
    /// Makes a table in a new file, which is all zero.
    pub(crate) fn create(fd: BorrowedFd<'_>, layout: Layout) -> Result<Self> {
        let mapping = Mapping::new(fd, 0, file_len(layout), Access::ReadWrite)?;
        // SAFETY: the mapping is `file_len` bytes, page aligned, readable and writable, of a new
        // file and so zero; it is unmapped after `table` is gone, because they live and die together
        // and `table` leaves this struct only with the lifetime of a borrow of it.
        let table = unsafe { Table::create(mapping.as_ptr(), layout) };
        Ok(Self { table, _mapping: mapping })
    }

    /// Attaches to the table that the parent has made.
    pub(crate) fn attach(fd: BorrowedFd<'_>, layout: Layout) -> Result<Self> {
        let mapping = Mapping::new(fd, 0, file_len(layout), Access::ReadWrite)?;
        // SAFETY: as in `create`, but for the zeros, which `attach` does not ask for. The file is
        // sealed against shrinking, so no access can fault.
        let table = unsafe { Table::attach(mapping.as_ptr(), layout)? };
        Ok(Self { table, _mapping: mapping })
    }

    /// Returns the table.
    pub(crate) fn table(&self) -> Table<'_> {
        self.table
    }
}
