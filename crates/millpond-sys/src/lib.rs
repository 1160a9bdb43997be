//! Every system call of Millpond, and nothing else.
//!
//! One small file a concern; the first line of each function's documentation is the C call behind
//! it. Nothing here starts a thread or a process, and nothing is named in the file system.
//!
//! ```
//! use std::os::fd::AsFd;
//! use millpond_sys::mapping::{Access, Mapping, page_size};
//!
//! let file = millpond_sys::memfd::create("millpond-example", page_size() as u64)?;
//! millpond_sys::file_range::write_all_at(file.as_fd(), 0, b"hello")?;
//! let mapping = Mapping::new(file.as_fd(), 0, page_size(), Access::ReadOnly)?;
//! assert_eq!(mapping.len(), page_size());
//! # Ok::<(), millpond_sys::Error>(())
//! ```
//!
//! # Forks
//!
//! A forked child holds copies of all descriptors. Dropping an `OwnedFd` there closes the child's
//! copy and leaves the parent's alone, so it is harmless. A [`mapping::Mapping`] dropped there does
//! nothing. A [`poller::Poller`] or an [`eventfd::Bell`] is *one* kernel object on both sides: a
//! child that adds, removes, rings or drains does it to the parent too, and must not.

pub mod birthmark;
pub mod clock;
pub mod eventfd;
pub mod file_range;
pub mod futex;
pub mod limits;
pub mod mapping;
pub mod memfd;
pub mod pagemap;
pub mod pidfd;
pub mod poller;
pub mod private_copy;
pub mod private_pages;
pub mod probe;
pub mod process;
pub mod signals;
pub mod write_tracking;

mod error;

pub use error::Error;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;
