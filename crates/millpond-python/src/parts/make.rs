//! The plan of a dispatch: parts are verified, or made of what is new or has changed.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::kept::{Engine, Parts, graph_evidence};
use super::memo::memo_numbers;
use super::part::{Evidence, Part};
use super::plan::{Plan, Planned};
use super::record::{Record, count};
use super::search::{Candidate, Candidates};
use crate::errors;
use crate::graph::{NoCollection, Proof, Side};
use crate::items::Items;
use crate::pack::Packer;
use crate::packed::{PartKind, Stored};

/// What came of an attempt to make a part.
pub(super) enum Made {
    Part(Arc<Part>),
    /// It is pickled with the task; parts of it may still be found.
    Opaque,
    /// It is pickled with the task.
    InStream,
}

impl Parts {
    /// Verifies the candidates, or stores what is new or has changed. What cannot be proved, or
    /// cannot be stored, is left to the pickler. `callable` names the task's function; `is_simple`
    /// tells whether nothing of the user's runs when the task is pickled, given what is not.
    pub(crate) fn plan<'py>(
        &self,
        py: Python<'py>,
        engine: &Engine,
        mut candidates: Candidates<'py>,
        packer: &mut Packer<'py>,
        callable: impl Fn() -> String,
        is_simple: impl Fn(&[Bound<'py, PyAny>]) -> bool,
    ) -> PyResult<Plan> {
        let mut plan = Plan { parts: Vec::new(), is_simple: false };
        let made =
            self.make_all(py, engine, &mut candidates, packer, &callable, &is_simple, &mut plan);
        if let Err(error) = made {
            plan.let_go(engine);
            return Err(error);
        }
        if plan.is_empty() {
            return Ok(plan);
        }
        let roots = plan.parts.iter().flat_map(|planned| &planned.roots);
        let roots: Vec<_> = roots.map(|root| root.bind(py).clone()).collect();
        plan.is_simple = is_simple(&roots);
        if !plan.is_simple {
            plan.parts.retain(|planned| {
                let is_kept = stands_alone(py, planned);
                if !is_kept {
                    engine.let_go(planned.part.id);
                }
                is_kept
            });
        }
        Ok(plan)
    }

    #[allow(clippy::too_many_arguments, reason = "each is a part of one dispatch")]
    fn make_all<'py>(
        &self,
        py: Python<'py>,
        engine: &Engine,
        candidates: &mut Candidates<'py>,
        packer: &mut Packer<'py>,
        callable: &impl Fn() -> String,
        is_simple: &impl Fn(&[Bound<'py, PyAny>]) -> bool,
        plan: &mut Plan,
    ) -> PyResult<()> {
        let roots: Vec<_> = candidates.found.iter().map(|found| found.root.clone()).collect();
        // What makes the task not simple even if all of these are parts, makes it so in any case.
        let may_be_simple = OnceCell::new();
        let may_be_simple = || *may_be_simple.get_or_init(|| is_simple(&roots));
        let mut at = 0;
        while at < candidates.found.len() {
            let candidate = candidates.found[at].clone();
            at += 1;
            let is_planned =
                |planned: &Planned| planned.roots.iter().any(|root| root.is(&candidate.root));
            if plan.parts.iter().any(is_planned) {
                continue;
            }
            let others: Vec<_> = candidates.found.iter().map(|other| &other.root).collect();
            let verified = self.verify(engine, &candidate.root, &others).map(|(part, roots)| {
                (part, roots.into_iter().map(|r| r.clone().unbind()).collect())
            });
            if let Some((part, roots)) = verified {
                // What is planned next may push this one out of those that are kept.
                engine.hold(part.id);
                self.add(py, engine, plan, part, roots, packer)?;
                continue;
            }
            match self.make(engine, &candidate, packer, callable, &may_be_simple)? {
                Made::Part(part) => {
                    let roots = vec![candidate.root.clone().unbind()];
                    self.add(py, engine, plan, part, roots, packer)?;
                }
                Made::Opaque => candidates.open(&candidate, &|address| self.seen(address))?,
                Made::InStream => {}
            }
        }
        Ok(())
    }

    /// Adds a part, which is held for the plan. Parts that have an object in common are made one:
    /// stored apart they would arrive with one of it each.
    fn add<'py>(
        &self,
        py: Python<'py>,
        engine: &Engine,
        plan: &mut Plan,
        part: Arc<Part>,
        roots: Vec<Py<PyAny>>,
        packer: &mut Packer<'py>,
    ) -> PyResult<()> {
        // A list of numbers has nothing in it to share, but may itself be in another part's graph.
        let shares = |known: &Planned| {
            known.roots.iter().any(|root| part.contains(root.as_ptr().addr()))
                || roots.iter().any(|root| known.part.contains(root.as_ptr().addr()))
                || (part.has_inner() && known.part.shares_with(&part))
        };
        if let Some(at) = plan.parts.iter().position(shares) {
            let known = plan.parts.swap_remove(at);
            let mut all: Vec<_> = known.roots.iter().map(|root| root.bind(py).clone()).collect();
            all.extend(roots.iter().map(|root| root.bind(py).clone()));
            let record = Arc::clone(&part.record);
            engine.let_go(part.id);
            engine.let_go(known.part.id);
            if let Made::Part(joint) = self.make_graph(engine, &all, packer, &record)? {
                let roots = all.into_iter().map(Bound::unbind).collect();
                return self.add(py, engine, plan, joint, roots, packer);
            }
            return Ok(());
        }
        let equals = plan.parts.iter().filter(|known| known.part.id == part.id);
        let copy = equals.count() as u32;
        plan.parts.push(Planned { part, roots, copy });
        Ok(())
    }

    /// Makes a part of a candidate, which is then held once for the caller.
    fn make<'py>(
        &self,
        engine: &Engine,
        candidate: &Candidate<'py>,
        packer: &mut Packer<'py>,
        callable: &impl Fn() -> String,
        may_be_simple: &impl Fn() -> bool,
    ) -> PyResult<Made> {
        let root = &candidate.root;
        let kind = kind_of(root);
        let record = self.records.of(&callable(), &candidate.place(), kind);
        let changes_often = self.changes_often(root);
        let is_kept = !changes_often && (candidate.is_bound || self.was_seen(root));
        // In a task that is not simple, what comes once cannot be named: see `PartHook::meet`.
        if (is_kept || may_be_simple())
            && let Some(items) = Items::of(root)
            && let Some(made) = self.make_flat(engine, root, &items, is_kept, packer, &record)?
        {
            return Ok(made);
        }
        if !is_kept {
            let often = "it had changed each time that it came";
            let once = "an argument that came once";
            record.set_rung("pickled", if changes_often { often } else { once });
            return Ok(Made::InStream);
        }
        self.make_graph(engine, std::slice::from_ref(root), packer, &record)
    }

    /// Makes one part of graphs.
    fn make_graph<'py>(
        &self,
        engine: &Engine,
        roots: &[Bound<'py, PyAny>],
        packer: &mut Packer<'py>,
        record: &Arc<Record>,
    ) -> PyResult<Made> {
        let Some(first) = roots.first() else { return Ok(Made::InStream) };
        let py = first.py();
        let begin = Instant::now();
        // No collection runs between the walk and the end of the pickling: it could run finalizers.
        let _still = NoCollection::begin(py);
        let all: Vec<_> = roots.iter().collect();
        let proof = match Proof::take(py, &all, Side::Parent) {
            Ok(proof) => proof,
            Err(opaque) => {
                self.note_opaque(first);
                record.set_rung("pickled", opaque.0);
                return Ok(Made::Opaque);
            }
        };
        let packed = match packer.pack(PyTuple::new(py, roots)?.as_any(), true) {
            Ok(packed) => packed,
            Err(error) => {
                // The task meets the same error, or finds that it is nested too deep.
                record.set_rung("pickled", error.to_string());
                return Ok(Made::InStream);
            }
        };
        let len = packed.as_bytes().len() as u64;
        let id = engine.store(packed.as_bytes(), PartKind::Graph.bits(), record.tag);
        drop(packed);
        let Some(id) = stored_or_out_of_memory(id, record)? else { return Ok(Made::InStream) };
        record.set_rung("verified", format!("{} objects walked", proof.node_count()));
        let stored = Stored { id, stored_len: len, counted_len: len };
        let roots = roots.iter().map(|root| root.as_ptr().addr()).collect();
        let evidence = graph_evidence(proof);
        Ok(Made::Part(self.stored(engine, roots, evidence, &stored, record, begin)))
    }

    /// Notes a part that was stored, and keeps it unless it serves one task.
    pub(super) fn stored(
        &self,
        engine: &Engine,
        roots: Vec<usize>,
        evidence: Evidence,
        stored: &Stored,
        record: &Arc<Record>,
        begin: Instant,
    ) -> Arc<Part> {
        record.counts.bytes.store(stored.stored_len, Ordering::Relaxed);
        count(&record.counts.pickled, &record.counts.pickled_ns, begin);
        self.note_pickled(stored.stored_len);
        let is_kept = !matches!(evidence, Evidence::Once);
        let (id, counted_len) = (stored.id, stored.counted_len);
        let record = Arc::clone(record);
        let part = Arc::new(Part::new(roots, evidence, id, counted_len, stored.stored_len, record));
        if is_kept {
            engine.hold(id);
            self.keep(engine, Arc::clone(&part));
        }
        part
    }
}

/// Tells whether a part can be named in a task that is not simple, where code of the user's runs while
/// it is pickled.
fn stands_alone(py: Python<'_>, planned: &Planned) -> bool {
    let Evidence::Graph { memo, .. } = &planned.part.evidence else { return true };
    if planned.roots.len() > 1 {
        // Code that runs after the first root was met may change what only the second one leads to.
        let reason = "it shares objects with another, and the task runs code when it is pickled";
        planned.part.record.set_rung("pickled", reason);
        return false;
    }
    // Later the graph may no longer be what was stored, and its memo could not be made.
    memo_numbers(py, memo, &planned.roots).is_ok()
}

/// Returns what was stored, None if there was no memory for it, or the error.
pub(super) fn stored_or_out_of_memory<T>(
    stored: millpond_engine::Result<T>,
    record: &Record,
) -> PyResult<Option<T>> {
    match stored {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is_out_of_memory() => {
            record.set_rung("pickled", "there is no memory for it in the store");
            Ok(None)
        }
        Err(error) => Err(errors::to_python(&error)),
    }
}

/// Type and length, for people.
fn kind_of(root: &Bound<'_, PyAny>) -> String {
    let class = root.get_type();
    let name = class.name().map_or_else(|_| String::new(), |name| name.to_string_lossy().into());
    match Items::of(root) {
        Some(items) => format!("{name} of {}", items.len()),
        None => match root.cast_exact::<pyo3::types::PyDict>() {
            Ok(dict) => format!("{name} of {}", dict.len()),
            Err(_) => name,
        },
    }
}
