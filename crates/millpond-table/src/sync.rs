//! The facade through which the whole crate reaches atomics, so that `--cfg loom` and
//! `--cfg shuttle` put a model checker in the place of the hardware.

#[cfg(any(loom, shuttle))]
mod mortal;

#[cfg(any(loom, shuttle))]
pub use mortal::{AtomicU32, AtomicU64, fence, live_for};

#[cfg(not(any(loom, shuttle)))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};

pub use std::sync::atomic::Ordering;
