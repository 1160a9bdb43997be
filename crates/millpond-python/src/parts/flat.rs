//! Parts made of flat lists and tuples of atoms.

use std::sync::Arc;
use std::time::Instant;

use millpond_engine::Result;
use pyo3::prelude::*;

use super::kept::{Engine, Parts};
use super::make::{Made, stored_or_out_of_memory};
use super::part::Evidence;
use super::record::Record;
use crate::items::Items;
use crate::pack::Packer;
use crate::packed::{PartKind, Referrers, Stored, are_texts, pack_texts, store_numbers};
use crate::saved::{self, Positions};
use crate::witness::Witness;

impl Parts {
    /// Makes a part of a list or tuple of atoms; None if it holds anything else, or if it comes once
    /// and cannot be packed.
    pub(super) fn make_flat<'py>(
        &self,
        engine: &Engine,
        root: &Bound<'py, PyAny>,
        items: &Items<'_>,
        is_kept: bool,
        packer: &mut Packer<'py>,
        record: &Arc<Record>,
    ) -> PyResult<Option<Made>> {
        let begin = Instant::now();
        // The GIL is kept: were it let go, the root could change before its task is pickled.
        let packed = if are_texts(items) {
            flat_texts(engine, items, is_kept, record.tag)
        } else {
            self.flat_numbers(engine, items, is_kept, record.tag)
        };
        let stored = match packed {
            Ok(None) if !is_kept => return Ok(None),
            Ok(None) => {
                // Atoms that have an identity are known by their addresses, also after the list has
                // changed, so they are saved.
                let Some(saved) = saved::save(items) else { return Ok(None) };
                let packed = packer.pack(root, true)?;
                let len = packed.as_bytes().len() as u64;
                let id = engine.store(packed.as_bytes(), PartKind::Pickle.bits(), record.tag);
                let memoized = saved.memoized();
                let is_list = items.is_list;
                let evidence = Evidence::Flat { is_list, witness: Witness::Saved(saved), memoized };
                id.map(|id| (evidence, Stored { id, stored_len: len, counted_len: len }))
            }
            Ok(Some(stored)) => Ok(stored),
            Err(error) => Err(error),
        };
        let Some((evidence, stored)) = stored_or_out_of_memory(stored, record)? else {
            return Ok(Some(Made::InStream));
        };
        match &evidence {
            Evidence::Flat { witness, .. } if witness.is_tracked() => {
                self.note_tracked();
                record.set_rung("verified", "write tracking");
            }
            Evidence::Flat { .. } => record.set_rung("verified", "comparison"),
            _ => record.set_rung("packed", "an argument that came once"),
        }
        let roots = vec![root.as_ptr().addr()];
        Ok(Some(Made::Part(self.stored(engine, roots, evidence, &stored, record, begin))))
    }

    /// Packs and stores numbers; None if there is anything else.
    fn flat_numbers(
        &self,
        engine: &Engine,
        items: &Items<'_>,
        is_kept: bool,
        tag: u64,
    ) -> Result<Option<(Evidence, Stored)>> {
        // What is tracked is proved from here on, so it is read after.
        let tracking = if is_kept { Witness::track(&self.tracking, items) } else { None };
        let Some(stored) = store_numbers(engine, items, tag)? else { return Ok(None) };
        let witness = if is_kept { tracking.or_else(|| Witness::save(items)) } else { None };
        Ok(Some((evidence(items, witness, Positions::default()), stored)))
    }
}

/// Packs and stores short texts; None if there is anything else, or a text of what comes once to which
/// the task could refer elsewhere: nothing would tell that it is in the part.
fn flat_texts(
    engine: &Engine,
    items: &Items<'_>,
    is_kept: bool,
    tag: u64,
) -> Result<Option<(Evidence, Stored)>> {
    let mut bytes = Vec::new();
    let referrers = if is_kept { Referrers::Any } else { Referrers::NotAllowed };
    let Some(packed) = pack_texts(items, referrers, &mut bytes) else { return Ok(None) };
    let id = engine.store(&bytes, packed.kind.bits(), tag)?;
    let stored = Stored { id, stored_len: bytes.len() as u64, counted_len: packed.counted_len };
    // Saved once they are packed: until then few of them have another reference.
    let witness = if is_kept { Witness::save(items) } else { None };
    Ok(Some((evidence(items, witness, packed.positions), stored)))
}

fn evidence(items: &Items<'_>, witness: Option<Witness>, memoized: Positions) -> Evidence {
    let is_list = items.is_list;
    witness.map_or(Evidence::Once, |witness| Evidence::Flat { is_list, witness, memoized })
}
