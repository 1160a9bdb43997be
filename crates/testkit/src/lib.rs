//! What Millpond's own tests judge it by. Dev-only, and independent of Millpond: the product never
//! judges itself.
//!
//! - [`ledger`]: what tasks did, written down by the tasks themselves.
//! - [`census`]: what a process holds, before and after.
//! - [`watchdog`]: what hangs, when a test does not end.

pub mod census;
pub mod ledger;
pub mod watchdog;

mod procfs;
