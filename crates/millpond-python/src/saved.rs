//! References to atoms, which prove by pointer that a list or tuple is what it was.
//!
//! An atom is an exact `int`, `float`, `bool`, `None`, `str` or `bytes`: immutable, and nothing of
//! the user's runs when it is pickled, loaded, compared or freed. A saved pointer proves something
//! only while a reference keeps its object alive, so what is saved are references; and because atoms
//! cannot change, equal pointers are equal content.
#![allow(unsafe_code, reason = "references to atoms are counted by hand")]

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::graph::AddressHasher;
use crate::items::{Items, is_atom, is_memoized};

/// Positions by address.
pub(crate) type Positions = HashMap<usize, u32, BuildHasherDefault<AddressHasher>>;

/// Returns the addresses of the first item and the last, or 0.
pub(crate) fn ends(items: &[*mut ffi::PyObject]) -> [usize; 2] {
    [items.first(), items.last()].map(|item| item.map_or(0, |item| item.addr()))
}

/// References to the atoms of a list or tuple, in order.
pub(crate) struct SavedAtoms(Vec<*mut ffi::PyObject>);

// SAFETY: the pointers are owned references to immutable objects; they are followed and given up
// only by code that holds the GIL.
unsafe impl Send for SavedAtoms {}
// SAFETY: as above.
unsafe impl Sync for SavedAtoms {}

impl SavedAtoms {
    fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// Adds a reference to one more atom. `atom` is a live object, and the GIL is held.
    fn push(&mut self, atom: *mut ffi::PyObject) {
        // SAFETY: the caller holds the GIL and a live object.
        unsafe { ffi::Py_INCREF(atom) };
        self.0.push(atom);
    }

    /// Tells whether these are just the saved atoms, by their pointers.
    pub(crate) fn equals(&self, items: &[*mut ffi::PyObject]) -> bool {
        self.0.as_slice() == items
    }

    /// Returns an atom.
    pub(crate) fn get<'py>(&self, py: Python<'py>, index: usize) -> Option<Bound<'py, PyAny>> {
        // SAFETY: a saved atom is a live object.
        self.0.get(index).map(|&atom| unsafe { Bound::from_borrowed_ptr(py, atom) })
    }

    /// Returns the addresses of the first atom and the last, or 0.
    pub(crate) fn ends(&self) -> [usize; 2] {
        ends(&self.0)
    }

    /// Returns the number of atoms.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Saves a slice of a list's or tuple's items, or returns `None` if one is not an atom.
    pub(crate) fn of(items: &[*mut ffi::PyObject]) -> Option<Self> {
        let mut saved = Self::with_capacity(items.len());
        for &item in items {
            // SAFETY: the items are live objects, and the GIL is held.
            if !unsafe { is_atom(item) } {
                return None;
            }
            saved.push(item);
        }
        Some(saved)
    }

    /// Returns the address and position of the first occurrence of each str and bytes: the atoms
    /// that pickle memoizes, so that two references to one arrive as one.
    pub(crate) fn memoized(&self) -> Positions {
        let mut found = Positions::default();
        for (index, &atom) in self.0.iter().enumerate() {
            // SAFETY: a saved atom is a live object.
            if unsafe { is_memoized(atom) } {
                found.entry(atom.addr()).or_insert(index as u32);
            }
        }
        found
    }
}

impl Drop for SavedAtoms {
    fn drop(&mut self) {
        // Freeing an atom runs nothing of the user's. Where the interpreter is already gone the
        // references are leaked with it.
        let _ = Python::try_attach(|_| {
            for &atom in &self.0 {
                // SAFETY: the reference is ours, and the GIL is held.
                unsafe { ffi::Py_DECREF(atom) };
            }
        });
    }
}

/// Saves references to the items of a list or tuple, or returns `None` if one is not an atom.
pub(crate) fn save(items: &Items<'_>) -> Option<SavedAtoms> {
    SavedAtoms::of(items.as_slice())
}
