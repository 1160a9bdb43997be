//! Payload memory that another process wrote: mapped read-only, on demand.
#![allow(unsafe_code, reason = "a view gives out the bytes of a mapping")]

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use millpond_sys::mapping::{Access, Mapping, page_size};

use crate::error::{Error, Result};

/// A file of payloads, and the windows of it that are mapped.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<OwnedFd>,
    file_len: u64,
    /// The file is a sequence of ranges of this length, each with a small area at its start.
    range_len: u64,
    small_len: u64,
    small: HashMap<u64, Arc<Mapping>>,
}

/// Bytes that a peer wrote, readable as long as the view lives.
///
/// They are shared memory: a hostile peer may change them under the reader. So they are given out as
/// a pointer and a length, and never as a slice.
#[derive(Debug)]
pub struct View {
    address: *const u8,
    len: usize,
    _mapping: Option<Arc<Mapping>>,
}

// SAFETY: a view is an address in a mapping that any thread may read, and a share in that mapping.
unsafe impl Send for View {}
// SAFETY: as above; a view has no interior that changes.
unsafe impl Sync for View {}

impl View {
    /// A view of bytes in the task table, which stays mapped as long as engine or worker lives.
    pub(crate) fn inline(address: *const u8, len: usize) -> Self {
        Self { address, len, _mapping: None }
    }

    /// Returns the address of the first byte.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.address
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Tells whether the bytes from `at` on are these. Of a view of what this process wrote itself,
    /// nobody changes the bytes meanwhile.
    #[must_use]
    pub fn equals(&self, at: usize, bytes: &[u8]) -> bool {
        if at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: the range was checked, and the view's bytes are mapped as long as it lives; as in
        // `to_vec`, a peer that writes makes the answer meaningless and nothing worse.
        let mine = unsafe { std::slice::from_raw_parts(self.address.add(at), bytes.len()) };
        mine == bytes
    }

    /// Returns the bytes as a copy.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the view's bytes are mapped as long as it lives, and `u8` has no invalid value. A
        // peer that writes at the same time makes the copy's content undefined as a message, which
        // its reader has to check anyway.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }.to_vec()
    }

    /// Copies the bytes into `target`, in the place of what it holds.
    pub fn copy_to(&self, target: &mut Vec<u8>) {
        target.clear();
        // SAFETY: as in `to_vec`.
        target.extend_from_slice(unsafe { std::slice::from_raw_parts(self.address, self.len) });
    }
}

impl Reader {
    pub(crate) fn new(file: Arc<OwnedFd>, file_len: u64, range_len: u64, small_len: u64) -> Self {
        Self { file, file_len, range_len, small_len, small: HashMap::new() }
    }

    pub(crate) fn file(&self) -> &Arc<OwnedFd> {
        &self.file
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Returns a view of `len` bytes at `offset`, both as a peer gave them: they are checked here.
    pub(crate) fn view(&mut self, offset: u64, len: u64) -> Result<View> {
        let end = offset.checked_add(len).filter(|&end| end <= self.file_len);
        let (Some(end), Ok(len_here)) = (end, usize::try_from(len)) else {
            return Err(Error::bad_payload(offset, len, self.file_len));
        };
        let range = offset / self.range_len;
        let start = range * self.range_len;
        if end <= start + self.small_len {
            let mapping = match self.small.get(&range) {
                Some(mapping) => Arc::clone(mapping),
                None => {
                    let mapping = Arc::new(Mapping::new(
                        self.file.as_fd(),
                        start,
                        self.small_len as usize,
                        Access::ReadOnly,
                    )?);
                    self.small.insert(range, Arc::clone(&mapping));
                    mapping
                }
            };
            return Ok(Self::slice(mapping, (offset - start) as usize, len_here));
        }
        let page = page_size() as u64;
        let from = offset / page * page;
        let mapping = Arc::new(Mapping::new(
            self.file.as_fd(),
            from,
            (end - from) as usize,
            Access::ReadOnly,
        )?);
        Ok(Self::slice(mapping, (offset - from) as usize, len_here))
    }

    fn slice(mapping: Arc<Mapping>, at: usize, len: usize) -> View {
        debug_assert!(at + len <= mapping.len());
        // SAFETY: `view` has checked that the bytes lie within the mapping.
        let address = unsafe { mapping.as_ptr().add(at) };
        View { address, len, _mapping: Some(mapping) }
    }

    /// Forgets the small area of a range whose writer is gone.
    pub(crate) fn forget_range(&mut self, range: u64) {
        self.small.remove(&range);
    }
}
