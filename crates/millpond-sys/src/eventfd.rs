//! A bell that one thread rings and another, asleep in a [`Poller`](crate::poller::Poller), hears.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, retry_on_intr, write};

use crate::{Error, Result};

/// A descriptor that can be read from the first ring on until it is drained.
///
/// It counts nothing that its users see: many rings are as good as one.
#[derive(Debug)]
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`
    ///
    /// Creates a silent bell.
    pub fn new() -> Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(Error::of("eventfd"))?;
        Ok(Self { fd })
    }

    /// `write(fd, &one, 8)`
    ///
    /// Makes the descriptor readable. Never blocks and never fails: where the counter is full, it
    /// has rung already.
    pub fn ring(&self) {
        let rung = retry_on_intr(|| write(&self.fd, &1_u64.to_ne_bytes()));
        debug_assert!(matches!(rung, Ok(8) | Err(Errno::AGAIN)), "ringing a bell: {rung:?}");
    }

    /// `read(fd, &count, 8)`
    ///
    /// Makes the descriptor silent; does nothing if it is. Drain first and look for work
    /// afterwards, so that a ring in between is heard again.
    pub fn drain(&self) {
        let mut count = [0_u8; 8];
        let drained = retry_on_intr(|| read(&self.fd, &mut count));
        debug_assert!(matches!(drained, Ok(8) | Err(Errno::AGAIN)), "draining: {drained:?}");
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
