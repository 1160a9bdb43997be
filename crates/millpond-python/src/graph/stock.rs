//! Classes of `collections` that are written in Python, and yet known: named tuples and `Counter`.
//!
//! What pickling and unpickling run of theirs is the standard library's own, as long as nobody has
//! put something else in its place. A named tuple's `__new__` is made by `eval` for each class, so it
//! is told by its code: the same instructions over the same names, as in a lambda of as many fields
//! that is made here.
#![allow(unsafe_code, reason = "a type's own structure is read")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyTuple, PyType};

use super::numpy;
use crate::once::Once;

/// The most fields of a named tuple that is known.
const FIELD_COUNT_MAX: usize = 32;

/// Methods of `Counter` that pickling and unpickling run.
const COUNTER_METHODS: [&str; 3] = ["__reduce__", "__init__", "update"];

/// What the standard library's own look like.
pub(super) struct Stock {
    /// The code of `__new__` of named tuples, by their number of fields.
    new: Vec<Py<PyAny>>,
    /// The code of all named tuples' `__getnewargs__`.
    getnewargs: Py<PyAny>,
    /// `tuple.__new__`.
    tuple_new: Py<PyAny>,
    /// `tp_new` of classes whose `__new__` is written in Python.
    new_slot: Option<usize>,
    counter: Py<PyType>,
    /// `Counter`'s methods, and the code of each.
    counter_methods: Vec<(Py<PyAny>, Py<PyAny>)>,
}

static STOCK: Once<Option<Stock>> = Once::new();

/// Finds out what the known classes of `collections` and numpy look like, once in a process. This runs
/// Python, so it is called before a walk: one in a process that has not called it takes them for
/// unknown classes. Returns whether it has run Python now.
pub(crate) fn prepare(py: Python<'_>) -> bool {
    let has_run = numpy::prepare(py);
    let is_first = STOCK.get(py).is_none();
    STOCK.get_or_make(py, || Stock::find(py).ok());
    has_run || is_first
}

impl Stock {
    pub(super) fn get(py: Python<'_>) -> Option<&'static Self> {
        STOCK.get(py)?.as_ref()
    }

    fn find(py: Python<'_>) -> PyResult<Self> {
        let collections = py.import("collections")?;
        let tuple_new = py.get_type::<PyTuple>().getattr("__new__")?;
        let globals = PyDict::new(py);
        globals.set_item("_tuple_new", &tuple_new)?;
        globals.set_item("__builtins__", PyDict::new(py))?;
        let builtins = py.import("builtins")?;
        let (compile, eval) = (builtins.getattr("compile")?, builtins.getattr("eval")?);
        let mut new = Vec::with_capacity(FIELD_COUNT_MAX + 1);
        for count in 0..=FIELD_COUNT_MAX {
            let fields: Vec<String> = (0..count).map(|index| format!("a{index}")).collect();
            let mut fields = fields.join(", ");
            if count == 1 {
                fields.push(',');
            }
            // As in `namedtuple` (Lib/collections/__init__.py). One that is made in another way there
            // is not recognized.
            let text = format!("lambda _cls, {fields}: _tuple_new(_cls, ({fields}))");
            // Without the caller's own future statements, whose flags the code would bear.
            let code = compile.call1((text, "<string>", "eval", 0, true))?;
            new.push(eval.call1((code, &globals))?.getattr("__code__")?.unbind());
        }
        let maker = collections.getattr("namedtuple")?;
        let row = maker.call1(("Row", "a"))?.cast_into::<PyType>()?;
        let filename = maker.getattr("__code__")?.getattr("co_filename")?;
        let counter = collections.getattr("Counter")?.cast_into::<PyType>()?;
        let mut counter_methods = Vec::new();
        for name in COUNTER_METHODS {
            let method = counter.getattr(name)?;
            let code = method.getattr("__code__")?;
            let name_there = code.getattr("co_qualname")?;
            if code.getattr("co_filename")?.eq(&filename)?
                && name_there.eq(format!("Counter.{name}"))?
            {
                counter_methods.push((method.unbind(), code.unbind()));
            }
        }
        Ok(Self {
            new,
            getnewargs: row.getattr("__getnewargs__")?.getattr("__code__")?.unbind(),
            tuple_new: tuple_new.unbind(),
            // SAFETY: the type is alive as long as the borrow.
            new_slot: unsafe { (*row.as_type_ptr()).tp_new }.map(|slot| slot as usize),
            counter: counter.unbind(),
            counter_methods,
        })
    }

    /// Tells whether a class is `Counter`, and pickles and loads as the standard library has it.
    pub(super) fn is_counter(&self, class: &Bound<'_, PyType>, body: &Bound<'_, PyDict>) -> bool {
        let py = class.py();
        class.is(&self.counter)
            && self.counter_methods.len() == COUNTER_METHODS.len()
            && COUNTER_METHODS.iter().zip(&self.counter_methods).all(|(name, (method, code))| {
                body.get_item(name).ok().flatten().is_some_and(|found| {
                    found.is(method)
                        && attribute(&found, crate::intern!(py, "__code__"))
                            .is_some_and(|now| now.is(code))
                })
            })
    }

    /// Tells whether what a class's body has as `name` is what `namedtuple` puts there.
    pub(super) fn is_of_named_tuples(&self, name: &str, found: &Bound<'_, PyAny>) -> bool {
        match name {
            "__new__" => self.is_new(found),
            "__getnewargs__" => self.is_getnewargs(found),
            _ => false,
        }
    }

    /// Tells whether `tp_new` of a type is that of classes with a `__new__` in Python.
    pub(super) fn is_new_slot(&self, slot: Option<usize>) -> bool {
        slot.is_some() && slot == self.new_slot
    }

    fn is_new(&self, found: &Bound<'_, PyAny>) -> bool {
        let py = found.py();
        // `type.__new__` has wrapped it into a staticmethod.
        let found = if found.is_exact_instance_of::<PyFunction>() {
            found.clone()
        } else {
            let class = found.get_type();
            let is_static = std::ptr::eq(class.as_type_ptr(), &raw const ffi::PyStaticMethod_Type);
            match attribute(found, crate::intern!(py, "__func__")) {
                Some(inner) if is_static && inner.is_exact_instance_of::<PyFunction>() => inner,
                _ => return false,
            }
        };
        let Some(code) = attribute(&found, crate::intern!(py, "__code__")) else { return false };
        let Some(globals) = attribute(&found, crate::intern!(py, "__globals__"))
            .and_then(|globals| globals.cast_into_exact::<PyDict>().ok())
        else {
            return false;
        };
        let is_tuples = globals
            .get_item(crate::intern!(py, "_tuple_new"))
            .ok()
            .flatten()
            .is_some_and(|found| found.is(&self.tuple_new));
        let count = attribute(&code, crate::intern!(py, "co_argcount"))
            .and_then(|count| count.extract::<usize>().ok());
        let Some(like) = count.and_then(|count| self.new.get(count.checked_sub(1)?)) else {
            return false;
        };
        // All are atoms, or tuples of texts and None: comparing runs nothing of the user's.
        let like = like.bind(py);
        is_tuples
            && [
                "co_code",
                "co_names",
                "co_consts",
                "co_flags",
                "co_freevars",
                "co_cellvars",
                "co_nlocals",
                "co_kwonlyargcount",
                "co_exceptiontable",
            ]
            .iter()
            .all(|&name| match (code.getattr(name), like.getattr(name)) {
                (Ok(now), Ok(known)) => now.eq(known).unwrap_or(false),
                _ => false,
            })
    }

    fn is_getnewargs(&self, found: &Bound<'_, PyAny>) -> bool {
        let py = found.py();
        found.is_exact_instance_of::<PyFunction>()
            && attribute(found, crate::intern!(py, "__code__"))
                .is_some_and(|code| code.is(&self.getnewargs))
            // It calls `tuple`, by a cell of its own.
            && attribute(found, crate::intern!(py, "__closure__"))
                .and_then(|cells| cells.cast_into_exact::<PyTuple>().ok())
                .is_some_and(|cells| {
                    cells.len() == 1
                        && cells.get_item(0).is_ok_and(|cell| {
                            attribute(&cell, crate::intern!(py, "cell_contents"))
                                .is_some_and(|found| found.is(py.get_type::<PyTuple>()))
                        })
                })
    }
}

/// Returns an attribute of an exact type of CPython's own, which runs nothing of the user's.
fn attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
) -> Option<Bound<'py, PyAny>> {
    object.getattr(name).ok()
}
