//! The pool's engine. It knows tasks as bytes, and no language.
//!
//! The parent's side is [`Engine`]: it [publishes](Engine::publish) tasks, [collects](Engine::collect)
//! results, keeps the [object store](Engine::store) and watches over the workers' lives by a
//! supervisor thread. A worker's side is [`Worker`]: it claims tasks, reads payloads and stored parts,
//! and completes. Who starts the processes, and what the bytes mean, is the front's business.

#[macro_use]
extern crate millpond_table;

mod audit;
mod buffers;
mod chunk_sizes;
mod collect;
mod config;
mod error;
mod handover;
mod lives;
mod object_store;
mod pace;
mod parent;
mod publish;
mod ranges;
mod reader;
mod retry;
mod run_ahead;
mod seats;
mod shared_table;
mod space;
mod staff;
mod state;
mod stops;
mod supervisor;
mod waiting;
mod worker;

pub use buffers::{BUFFER_LEN_MIN, Borrowed, Leased, Lent};
pub use chunk_sizes::ChunkSizes;
pub use collect::{Collected, Outcome};
pub use config::{Config, RUN_AHEAD_BYTES, WARM_LEN_MAX};
pub use error::{Error, Result};
pub use handover::HandOver;
pub use lives::{Ending, Incarnation, Vacancy};
pub use millpond_table::{Seat, StoreId};
pub use object_store::{COUNTED_TAGS_MAX, PartCounts};
pub use parent::{Counts, Engine};
pub use publish::Task;
pub use reader::View;
pub use staff::Staffing;
pub use stops::Reason;
pub use waiting::{KeeperNews, Rest};
pub use worker::{Next, TaskRef, Worker};
