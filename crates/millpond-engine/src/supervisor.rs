//! The one thread that owns workers' lives: it sees deaths by pidfd and settles them, and stops workers
//! whose tasks must not go on.
//!
//! It runs no language front and takes no lock that a front holds while user code runs, so a death
//! is seen and attributed within milliseconds whatever the parent's other threads do. It starts no
//! process: it tells the keeper.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::lives::Incarnation;
use crate::parent::Shared;

/// The poller's token of the control bell; incarnations count from 1.
pub(crate) const CONTROL: u64 = 0;

pub(crate) fn start<T: Send + 'static>(shared: Arc<Shared<T>>) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name("millpond-lives".into()).spawn(move || {
        millpond_sys::signals::block_all();
        let mut tokens = Vec::new();
        while !shared.is_ending() {
            tokens.clear();
            let next_look = shared.enforce();
            if shared.poller.wait(next_look, &mut tokens).is_err() {
                break;
            }
            for &token in &tokens {
                if token == CONTROL {
                    shared.control.drain();
                } else {
                    shared.ended(Incarnation(token));
                }
            }
        }
    })
}
