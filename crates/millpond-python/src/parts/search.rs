//! The search for heavy parts in a task: in its callable and in its arguments.
#![allow(unsafe_code, reason = "PyObject_GenericGetDict has no safe wrapper")]

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use super::HEAVY_LEN_MIN;
use crate::items::Items;
use crate::job::TaskKind;
use crate::names::Names;
use crate::pack::is_plain;

/// How deep, and how wide, a task is searched for heavy parts.
const DEPTH_MAX: usize = 8;
const COUNT_MAX: usize = 256;

/// What a search through a task found. It need not be complete: what is not found is pickled with
/// the task.
pub(crate) struct Candidates<'py> {
    pub(super) found: Vec<Candidate<'py>>,
    /// Whether nothing of the user's can run while the task is pickled, so that what was verified
    /// before is what the pickler meets.
    pub(super) is_simple: bool,
    budget: usize,
    is_bound: bool,
    path: Vec<Step<'py>>,
}

/// An object that may be a heavy part.
pub(crate) struct Candidate<'py> {
    pub(super) root: Bound<'py, PyAny>,
    /// Whether the callable brings it along, and so will bring it again with its next task.
    pub(super) is_bound: bool,
    /// Where in the task it is, in words.
    pub(super) place: String,
}

/// How one object is reached from another.
#[derive(Clone)]
enum Step<'py> {
    Argument(usize),
    Item(usize),
    Key(Bound<'py, PyAny>),
    Attribute(Bound<'py, PyAny>),
}

impl<'py> Candidates<'py> {
    /// Searches a task: `second` is the argument tuple of a call, its only argument where `kwds` is
    /// None, or the chunk of a map.
    pub(crate) fn of(
        kind: TaskKind,
        func: &Bound<'py, PyAny>,
        second: &Bound<'py, PyAny>,
        kwds: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let mut search = Self {
            found: Vec::new(),
            is_simple: true,
            budget: COUNT_MAX,
            is_bound: true,
            path: Vec::new(),
        };
        search.visit(func, 0)?;
        search.is_bound = false;
        match (kind, second.cast_exact::<PyTuple>()) {
            // The pool's own tuple, or the user's, which is taken apart by the call.
            (TaskKind::Map | TaskKind::Starmap, Ok(items)) => search.each(items)?,
            (TaskKind::Call, Ok(items)) if kwds.is_some() => search.each(items)?,
            _ => search.step(Step::Argument(0), second, 0)?,
        }
        if let Some(kwds) = kwds {
            match kwds.cast_exact::<PyDict>() {
                Ok(kwds) => {
                    for (key, value) in kwds.iter() {
                        search.step(Step::Key(key), &value, 1)?;
                    }
                }
                Err(_) => search.is_simple = false,
            }
        }
        Ok(search)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn each(&mut self, items: &Bound<'py, PyTuple>) -> PyResult<()> {
        for (index, item) in items.iter().enumerate() {
            self.step(Step::Argument(index), &item, 1)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step<'py>, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        if is_plain(object, &mut 1) {
            return Ok(());
        }
        self.path.push(step);
        let visited = self.visit(object, depth);
        self.path.pop();
        visited
    }

    fn visit(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        if is_plain(object, &mut 1) {
            return Ok(());
        }
        if depth > DEPTH_MAX || self.budget == 0 {
            self.is_simple = false;
            return Ok(());
        }
        self.budget -= 1;
        let py = object.py();
        if let Some(items) = Items::of(object) {
            if items.len() >= HEAVY_LEN_MIN {
                let place = self.place();
                let (root, is_bound) = (object.clone(), self.is_bound);
                self.found.push(Candidate { root, is_bound, place });
                return Ok(());
            }
            for (index, item) in object.try_iter()?.enumerate() {
                self.step(Step::Item(index), &item?, depth + 1)?;
            }
            return Ok(());
        }
        if let Ok(dict) = object.cast_exact::<PyDict>() {
            if dict.len() > self.budget {
                self.is_simple = false;
                return Ok(());
            }
            for (key, value) in dict.iter() {
                self.visit(&key, depth + 1)?;
                self.step(Step::Key(key), &value, depth + 1)?;
            }
            return Ok(());
        }
        if object.get_type().is(&Names::get(py)?.partial) {
            self.visit(&object.getattr(pyo3::intern!(py, "func"))?, depth + 1)?;
            self.visit(&object.getattr(pyo3::intern!(py, "args"))?, depth + 1)?;
            return self.visit(&object.getattr(pyo3::intern!(py, "keywords"))?, depth + 1);
        }
        // Pickling anything else may run code of the user's. Its attributes are looked at without
        // running any: a bound method's self, and an instance's own dict.
        self.is_simple = false;
        if object.get_type().is(&Names::get(py)?.method_type) {
            return self.visit(&object.getattr(pyo3::intern!(py, "__self__"))?, depth + 1);
        }
        if let Some(dict) = instance_dict(object) {
            for (name, value) in dict.iter() {
                self.step(Step::Attribute(name), &value, depth + 1)?;
            }
        }
        Ok(())
    }

    fn place(&self) -> String {
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
}

/// A key in words; only exact strings and ints are looked at, which runs nothing of the user's.
fn name_of(key: &Bound<'_, PyAny>) -> String {
    if let Ok(text) = key.cast_exact::<PyString>() {
        return format!("'{}'", text.to_string_lossy());
    }
    let number = key.cast_exact::<PyInt>().ok().and_then(|key| key.extract::<i64>().ok());
    number.map_or_else(|| String::from("..."), |number| number.to_string())
}

/// Returns an instance's own dict, without running code of the user's.
fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: the object is alive. The call returns a new reference or null with an error set; it
    // does not go through the type's own `__getattribute__`.
    let dict = unsafe {
        Bound::from_owned_ptr_or_opt(
            object.py(),
            pyo3::ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut()),
        )
    };
    if dict.is_none() {
        drop(PyErr::take(object.py()));
    }
    dict?.cast_into_exact::<PyDict>().ok()
}
