//! Waiting for many descriptors at once.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::{Error, Result};

/// The most tokens of one wait. Those beyond come with the next one, since it is level triggered.
const TOKEN_COUNT_MAX: usize = 64;

/// The longest wait in milliseconds that every kernel knows, 24 days.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// A set of descriptors, each with a token, that tells which of them can be read.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// `epoll_create1(EPOLL_CLOEXEC)`
    ///
    /// Creates an empty set.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(Error::of("epoll_create1"))?;
        Ok(Self { epoll })
    }

    /// `epoll_ctl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN)`
    ///
    /// Adds a descriptor; [`wait`](Self::wait) gives `token` as long as it can be read, or its
    /// other end is closed.
    ///
    /// [Remove](Self::remove) it before it is closed. A forked child may hold a copy, and then
    /// closing alone would leave it in the set, readable forever.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN)
            .map_err(Error::of("epoll_ctl(EPOLL_CTL_ADD)"))
    }

    /// `epoll_ctl(epoll, EPOLL_CTL_DEL, fd)`
    ///
    /// Removes a descriptor; its token is not given again.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<()> {
        epoll::delete(&self.epoll, fd).map_err(Error::of("epoll_ctl(EPOLL_CTL_DEL)"))
    }

    /// `epoll_wait(epoll, events, 64, timeout)`
    ///
    /// Waits until a descriptor can be read, and puts the tokens of those that can into `tokens`,
    /// which is cleared first. No tokens: the timeout passed, or a signal handler ran. Without a
    /// timeout, it waits for as long as it takes; one longer than 24 days ends early.
    pub fn wait(&self, timeout: Option<Duration>, tokens: &mut Vec<u64>) -> Result<()> {
        tokens.clear();
        let timeout = timeout.and_then(|it| Timespec::try_from(it.min(TIMEOUT_MAX)).ok());
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); TOKEN_COUNT_MAX];
        match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => tokens.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("epoll_wait", errno)),
        }
        Ok(())
    }
}
