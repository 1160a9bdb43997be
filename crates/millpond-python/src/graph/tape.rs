//! The tape: what a walk saw, node after node.
#![allow(unsafe_code, reason = "references to atoms are given up by hand")]

use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::atoms::KnownAtoms;
use super::classes::Class;
use super::numpy::NumpyTypes;
use super::standard::StandardTypes;

/// Whose graph it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The user's own. It has changed if its pickle would.
    Parent,
    /// A copy that only the cache may hold after a task. It has changed if anything of it has, or if
    /// anybody else holds a part of it.
    Worker,
}

/// Why a graph cannot be proved: a type, and what about it.
#[derive(Debug)]
pub(crate) struct Opaque(pub(crate) String);

/// Kinds of nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Kind {
    List,
    Tuple,
    Dict,
    /// Sets and frozensets.
    Set,
    ByteArray,
    /// An instance of a class in Python.
    Instance,
    /// A function or class, which pickle names.
    Named,
    /// A `defaultdict`: its factory comes after its entries.
    DefaultDict,
    OrderedDict,
    Deque,
    /// An `array.array`.
    Array,
    Partial,
    /// A member of an enum, which pickle finds by its class's name and its value.
    Member,
    /// A bound method of an instance in the graph, which pickle finds by its name in the instance.
    Method,
    /// A small array of numpy's.
    NumpyArray,
}

impl Kind {
    pub(super) fn from_word(word: usize) -> Self {
        match word & KIND_MASK {
            0 => Self::List,
            1 => Self::Tuple,
            2 => Self::Dict,
            3 => Self::Set,
            4 => Self::ByteArray,
            5 => Self::Instance,
            7 => Self::DefaultDict,
            8 => Self::OrderedDict,
            9 => Self::Deque,
            10 => Self::Array,
            11 => Self::Partial,
            12 => Self::Member,
            13 => Self::Method,
            14 => Self::NumpyArray,
            _ => Self::Named,
        }
    }
}

pub(super) const KIND_BITS: usize = 4;
pub(super) const KIND_MASK: usize = (1 << KIND_BITS) - 1;

/// Words of a node before its children: kind and number of children, address, type, reference count,
/// and two words of state whose meaning is the kind's.
pub(super) const HEAD_LEN: usize = 6;

/// What a walk saw.
pub(crate) struct Proof {
    pub(super) side: Side,
    pub(super) roots: Vec<usize>,
    /// Nodes, each after the one in which it was met first.
    pub(super) tape: Vec<usize>,
    /// References to atoms, one for each place that holds one.
    pub(super) atoms: Vec<*mut ffi::PyObject>,
    /// Contents of byte arrays, arrays and numpy's arrays, one behind the other.
    pub(super) bytes: Vec<u8>,
    pub(super) classes: Vec<Class>,
    /// Module and name of each named node.
    pub(super) names: Vec<(Py<PyString>, Py<PyString>)>,
    /// Addresses of the named nodes, in the same order.
    pub(super) named: Vec<usize>,
    /// Addresses of the bound methods.
    pub(super) methods: Vec<usize>,
    /// On a worker's side, the reference counts of the roots that are atoms: a long text that a task has
    /// kept is not the next one's.
    pub(super) atom_roots: Vec<(usize, usize)>,
    pub(super) known_atoms: KnownAtoms,
    pub(super) standard: StandardTypes,
    pub(super) numpy: NumpyTypes,
    /// The time zones that have a name.
    pub(super) zones: Vec<Py<PyAny>>,
    pub(super) node_count: usize,
    addresses: OnceLock<Vec<usize>>,
}

// SAFETY: the pointers are owned references to immutable objects, or numbers that are only followed
// by code that holds the GIL.
unsafe impl Send for Proof {}
// SAFETY: as above.
unsafe impl Sync for Proof {}

impl Proof {
    pub(super) fn new(side: Side, roots: Vec<usize>) -> Self {
        Self {
            side,
            roots,
            tape: Vec::new(),
            atoms: Vec::new(),
            bytes: Vec::new(),
            classes: Vec::new(),
            names: Vec::new(),
            named: Vec::new(),
            methods: Vec::new(),
            atom_roots: Vec::new(),
            known_atoms: KnownAtoms::default(),
            standard: StandardTypes::default(),
            numpy: NumpyTypes::default(),
            zones: Vec::new(),
            node_count: 0,
            addresses: OnceLock::new(),
        }
    }

    /// Returns the number of nodes that are not atoms.
    pub(crate) fn node_count(&self) -> usize {
        self.node_count
    }

    /// Returns the number of words that the proof has written down.
    pub(crate) fn word_count(&self) -> usize {
        self.tape.len()
    }

    /// Returns the number of atoms that the proof keeps alive.
    pub(crate) fn atom_count(&self) -> usize {
        self.atoms.len()
    }

    /// Returns the time zones that have a name. In a worker they belong to the process, so they must be
    /// looked up again before a copy is used again: see [`zones_hold`](super::zones_hold).
    pub(crate) fn zones<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.zones.iter().map(|zone| zone.bind(py).clone()).collect()
    }

    /// Returns references to all nodes, for as long as they must not be freed. The proof holds at
    /// this moment.
    pub(crate) fn nodes(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let mut all = Vec::with_capacity(self.node_count);
        let mut at = 0;
        while at < self.tape.len() {
            let node = std::ptr::with_exposed_provenance_mut(self.tape[at + 1]);
            // SAFETY: the proof holds, so there is a live object at each address.
            all.push(unsafe { Bound::from_borrowed_ptr(py, node) }.unbind());
            at += HEAD_LEN + (self.tape[at] >> KIND_BITS);
        }
        all
    }

    /// Returns the addresses of all nodes and of all atoms that pickle remembers, sorted.
    pub(crate) fn addresses(&self) -> &[usize] {
        self.addresses.get_or_init(|| {
            let mut all = Vec::with_capacity(self.node_count + self.atoms.len());
            let mut at = 0;
            while at < self.tape.len() {
                all.push(self.tape[at + 1]);
                at += HEAD_LEN + (self.tape[at] >> KIND_BITS);
            }
            // SAFETY: the atoms are alive: these are references to them.
            let is_memoized = |atom: &&*mut ffi::PyObject| unsafe {
                ffi::PyLong_CheckExact(**atom) == 0 && ffi::PyFloat_CheckExact(**atom) == 0
            };
            all.extend(self.atoms.iter().filter(is_memoized).map(|atom| atom.addr()));
            all.sort_unstable();
            all.dedup();
            all
        })
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        // Freeing an atom runs nothing of the user's. Where the interpreter is already gone the
        // references are leaked with it.
        let _ = Python::try_attach(|_| {
            for &atom in &self.atoms {
                // SAFETY: the reference is ours, and the GIL is held.
                unsafe { ffi::Py_DECREF(atom) };
            }
        });
    }
}
