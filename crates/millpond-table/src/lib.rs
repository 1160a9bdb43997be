//! The structures that Millpond keeps in shared memory, as pure data structures.
//!
//! This crate starts no thread and no process, makes no system call and holds no lock. All that two
//! processes share is a [`Table`]: a control block, the slots through which tasks go out and results
//! come back, the ready ring that keeps them in order, one seat for each worker, and the directory
//! of the object store. `README.md` beside the sources has the protocol: words, steps, races and a
//! proof sketch.
//!
//! Beside it lies [`Arena`]: the allocator of payload memory, whose metadata never enters the shared
//! memory.

#[macro_use]
pub mod kill_points;

mod arena;
mod audit;
mod control;
mod done;
mod error;
mod layout;
mod lease;
mod recover;
mod ring;
mod seat;
mod slot;
mod state;
mod store;
pub mod sync;
mod table;
mod wait;

pub use arena::{Arena, Block};
pub use audit::{Audit, Known, Outstanding};
pub use control::Control;
pub use done::Completions;
pub use error::{Error, Result};
pub use layout::{Layout, SEAT_COUNT_MAX, SLOT_COUNT, STORE_COUNT};
pub use lease::LEASE_COUNT;
pub use recover::Recovered;
pub use ring::{Claim, Head};
pub use seat::{Seat, SeatState};
pub use slot::{INLINE_LEN, Payload, Slot};
pub use state::{Owner, Phase, SlotWord};
pub use store::{PART_COUNTS, StoreEntry, StoreId, StoredAt};
pub use table::{HeapTable, Table};
