//! Proofs of object graphs: that a graph is what it was when it was pickled or loaded.
//!
//! [`Proof::take`] walks a graph once and writes down what it saw; [`Proof::holds`] runs along what
//! was written and compares. How it works, why it is sound, and what is opaque, stands in
//! `graph/README.md`.

mod atoms;
mod check;
mod classes;
mod containers;
mod layout;
mod methods;
mod numpy;
mod standard;
mod stock;
mod tape;
mod values;
mod walk;
mod weigh;

pub(crate) use atoms::{attribute, zones_hold};
pub(crate) use stock::prepare;
pub(crate) use tape::{Proof, Side};
pub(crate) use walk::{AddressHasher, NoCollection};
pub(crate) use weigh::{TEXT_LEN, instance_dict, is_heavy, is_simple, set_len, text_len};
