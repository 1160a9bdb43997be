//! The search for heavy parts in a task: in its callable and in its arguments.
//!
//! A part should be what comes again, and not what is wrapped around it anew for each task. So an
//! object that is heavy because of a few heavy objects in it is opened, and one that is heavy by its
//! own length, or by many light ones, is taken whole.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use super::HEAVY_LEN_MIN;
use crate::graph;
use crate::items::Items;
use crate::job::TaskKind;
use crate::names::Names;
use crate::pack::is_plain;

/// How deep a task is searched, and how many objects are opened.
const DEPTH_MAX: usize = 8;
const COUNT_MAX: usize = 256;

/// The most heavy objects in an object that is opened rather than taken whole.
const HEAVY_COUNT_MAX: usize = 4;

/// What a search through a task found. It need not be complete: what is not found is pickled with
/// the task.
pub(crate) struct Candidates<'py> {
    pub(super) found: Vec<Candidate<'py>>,
    budget: usize,
}

/// An object that may be a heavy part.
#[derive(Clone)]
pub(crate) struct Candidate<'py> {
    pub(super) root: Bound<'py, PyAny>,
    /// Whether the callable brings it along, and so will bring it again with its next task.
    pub(super) is_bound: bool,
    depth: usize,
    path: Vec<Step<'py>>,
}

/// How one object is reached from another.
#[derive(Clone)]
enum Step<'py> {
    Argument(usize),
    Item(usize),
    Key(Bound<'py, PyAny>),
    Attribute(Bound<'py, PyAny>),
}

impl<'py> Candidate<'py> {
    /// Where in the task it is, in words.
    pub(super) fn place(&self) -> String {
        let mut text = String::from(if self.is_bound { "bound" } else { "argument" });
        for step in &self.path {
            match step {
                Step::Argument(index) => text += &format!(" {index}"),
                Step::Item(index) => text += &format!("[{index}]"),
                Step::Key(key) => text += &format!("[{}]", name_of(key)),
                Step::Attribute(name) => text += &format!(".{}", name_of(name).trim_matches('\'')),
            }
        }
        text
    }

    fn child(&self, step: Option<Step<'py>>, root: Bound<'py, PyAny>) -> Self {
        let mut path = self.path.clone();
        path.extend(step);
        Self { root, is_bound: self.is_bound, depth: self.depth + 1, path }
    }
}

impl<'py> Candidates<'py> {
    /// Searches a task: `second` is the argument tuple of a call, its only argument where `kwds` is
    /// None, or the chunk of a map. `is_known` tells whether a part or an opaque object was seen at
    /// an address.
    pub(crate) fn of(
        kind: TaskKind,
        func: &Bound<'py, PyAny>,
        second: &Bound<'py, PyAny>,
        kwds: Option<&Bound<'py, PyAny>>,
        seen: &dyn Fn(usize) -> Seen,
    ) -> PyResult<Self> {
        let mut search = Self { found: Vec::new(), budget: COUNT_MAX };
        let task =
            |is_bound| Candidate { root: func.clone(), is_bound, depth: 0, path: Vec::new() };
        search.visit(task(true), seen)?;
        let arguments = task(false);
        match (kind, second.cast_exact::<PyTuple>()) {
            // The pool's own tuple, or the user's, which is taken apart by the call.
            (TaskKind::Map | TaskKind::Starmap, Ok(items)) => {
                search.each(&arguments, items, seen)?;
            }
            (TaskKind::Call, Ok(items)) if kwds.is_some() => {
                search.each(&arguments, items, seen)?;
            }
            _ => search.visit(arguments.child(Some(Step::Argument(0)), second.clone()), seen)?,
        }
        if let Some(kwds) = kwds.and_then(|kwds| kwds.cast_exact::<PyDict>().ok()) {
            for (key, value) in kwds.iter() {
                search.visit(arguments.child(Some(Step::Key(key)), value), seen)?;
            }
        }
        Ok(search)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn each(
        &mut self,
        from: &Candidate<'py>,
        items: &Bound<'py, PyTuple>,
        seen: &dyn Fn(usize) -> Seen,
    ) -> PyResult<()> {
        for (index, item) in items.iter().enumerate() {
            if !is_light(&item) {
                self.visit(from.child(Some(Step::Argument(index)), item), seen)?;
            }
        }
        Ok(())
    }

    fn visit(&mut self, here: Candidate<'py>, seen: &dyn Fn(usize) -> Seen) -> PyResult<()> {
        let object = &here.root;
        if is_light(object) || here.depth > DEPTH_MAX || self.budget == 0 {
            return Ok(());
        }
        self.budget -= 1;
        match seen(object.as_ptr().addr()) {
            Seen::Part => {
                self.found.push(here);
                return Ok(());
            }
            Seen::Opaque => return self.open(&here, seen),
            Seen::Never => {}
        }
        if is_wrapper(object)? {
            return self.open(&here, seen);
        }
        if !graph::is_heavy(object, HEAVY_LEN_MIN) {
            return Ok(());
        }
        if own_len(object) < HEAVY_LEN_MIN {
            let inner = children(&here, HEAVY_LEN_MIN)?;
            let is_heavy = |child: &&Candidate<'py>| graph::is_heavy(&child.root, HEAVY_LEN_MIN);
            let heavy: Vec<_> =
                inner.iter().filter(is_heavy).take(HEAVY_COUNT_MAX + 1).cloned().collect();
            if (1..=HEAVY_COUNT_MAX).contains(&heavy.len()) {
                for child in heavy {
                    self.visit(child, seen)?;
                }
                return Ok(());
            }
        }
        self.found.push(here);
        Ok(())
    }

    /// Looks at what is in an object that is no part as a whole.
    pub(super) fn open(
        &mut self,
        here: &Candidate<'py>,
        seen: &dyn Fn(usize) -> Seen,
    ) -> PyResult<()> {
        for child in children(here, self.budget)? {
            if self.budget == 0 {
                break;
            }
            self.visit(child, seen)?;
        }
        Ok(())
    }
}

/// Tells at one glance that there is nothing heavy in an object: it is a small text or another atom,
/// it travels by name, or it is empty.
fn is_light(object: &Bound<'_, PyAny>) -> bool {
    is_plain(object, &mut 1) && !graph::is_heavy(object, HEAVY_LEN_MIN)
}

/// What is remembered of an address. It saves a look, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Never,
    Part,
    Opaque,
}

/// Tells whether an object only binds others to a callable.
fn is_wrapper(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let names = Names::get(object.py())?;
    let class = object.get_type();
    Ok(class.is(&names.partial) || class.is(&names.method_type))
}

/// The number of references that an object holds by itself.
fn own_len(object: &Bound<'_, PyAny>) -> usize {
    if let Some(items) = Items::of(object) {
        return items.len();
    }
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        return dict.len();
    }
    graph::set_len(object).unwrap_or(0)
}

/// What an object holds, `most` of it, as far as that can be told without running anything of the
/// user's.
fn children<'py>(here: &Candidate<'py>, most: usize) -> PyResult<Vec<Candidate<'py>>> {
    let object = &here.root;
    let py = object.py();
    let mut all = Vec::new();
    if Items::of(object).is_some() {
        for (index, item) in object.try_iter()?.enumerate() {
            let item = item?;
            if all.len() == most {
                break;
            }
            if !is_light(&item) {
                all.push(here.child(Some(Step::Item(index)), item));
            }
        }
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        for (key, value) in dict.iter() {
            if all.len() == most {
                break;
            }
            if !is_light(&value) {
                all.push(here.child(Some(Step::Key(key)), value));
            }
        }
    } else if is_wrapper(object)? {
        let names = if object.get_type().is(&Names::get(py)?.partial) {
            &["func", "args", "keywords"][..]
        } else {
            &["__self__"][..]
        };
        for name in names {
            all.push(here.child(None, object.getattr(*name)?));
        }
    } else if let Some(dict) = graph::instance_dict(object) {
        for (name, value) in dict.iter() {
            if !is_light(&value) {
                all.push(here.child(Some(Step::Attribute(name)), value));
            }
        }
    }
    Ok(all)
}

/// A key in words; only exact strings and ints are looked at, which runs nothing of the user's.
fn name_of(key: &Bound<'_, PyAny>) -> String {
    if let Ok(text) = key.cast_exact::<PyString>() {
        return format!("'{}'", text.to_string_lossy());
    }
    let number = key.cast_exact::<PyInt>().ok().and_then(|key| key.extract::<i64>().ok());
    number.map_or_else(|| String::from("..."), |number| number.to_string())
}
