//! The walk that writes the tape.
#![allow(unsafe_code, reason = "CPython's own structures are read, and references counted")]

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyType};

use super::atoms::{self, Known, KnownAtoms};
use super::classes::{self, Base, Class};
use super::layout;
use super::standard::StandardTypes;
use super::tape::{HEAD_LEN, KIND_BITS, Kind, Opaque, Proof, Side};
use super::values;
use super::weigh::instance_dict;
use crate::by_name;
use crate::names::Names;

/// No collection runs while this lives: it could run finalizers, which could change the graph in the
/// middle of a walk.
pub(crate) struct NoCollection(bool);

impl NoCollection {
    pub(crate) fn begin(_: Python<'_>) -> Self {
        // SAFETY: the GIL is held.
        Self(unsafe { ffi::PyGC_Disable() } != 0)
    }
}

impl Drop for NoCollection {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: this lives in a scope that holds the GIL.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Addresses are distinct already; a multiplication spreads them.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

pub(super) type Addresses = HashSet<usize, BuildHasherDefault<AddressHasher>>;

pub(super) struct Walk<'py> {
    pub(super) py: Python<'py>,
    atoms: KnownAtoms,
    pub(super) standard: StandardTypes,
    pub(super) names: &'static Names,
    pub(super) proof: Proof,
    visited: Addresses,
    /// Nodes that were met and are not written down yet.
    queue: VecDeque<*mut ffi::PyObject>,
}

impl Proof {
    /// Walks the graph of `roots`, in which the caller holds references.
    pub(crate) fn take(
        py: Python<'_>,
        roots: &[&Bound<'_, PyAny>],
        side: Side,
    ) -> Result<Self, Opaque> {
        let _still = NoCollection::begin(py);
        let names = Names::get(py).map_err(|error| Opaque(error.to_string()))?;
        if !layout::is_known(py) {
            return Err(Opaque("this interpreter's dicts are not known".to_owned()));
        }
        let addresses = roots.iter().map(|root| root.as_ptr().addr()).collect();
        let proof = Self::new(side, addresses);
        let mut walk = Walk {
            py,
            atoms: KnownAtoms::of(py, names),
            standard: StandardTypes::of(py, names),
            names,
            proof,
            visited: Addresses::default(),
            queue: VecDeque::new(),
        };
        for root in roots {
            // SAFETY: the roots are alive as long as the borrow, and the GIL is held.
            unsafe { walk.child(root.as_ptr())? };
        }
        while let Some(node) = walk.queue.pop_front() {
            // SAFETY: a node that was met is held by the one in which it was met, which nothing
            // changes: the GIL is held, no Python runs, and no collection.
            unsafe { walk.node(node)? };
        }
        if side == Side::Worker {
            walk.proof.atom_roots = super::check::atom_roots(roots);
        }
        walk.proof.known_atoms = walk.atoms;
        walk.proof.standard = walk.standard;
        Ok(walk.proof)
    }
}

impl<'py> Walk<'py> {
    /// Takes note of a child: a reference for an atom, a place in the queue for a node.
    pub(super) unsafe fn child(&mut self, child: *mut ffi::PyObject) -> Result<(), Opaque> {
        // SAFETY: the caller gives a live object.
        unsafe {
            if is_atom(child) || self.is_known_atom(child) {
                ffi::Py_INCREF(child);
                self.proof.atoms.push(child);
            } else if self.visited.insert(child.addr()) {
                self.queue.push_back(child);
            }
        }
        Ok(())
    }

    /// Tells whether an object is an atom of the standard library's or of numpy's.
    ///
    /// # Safety
    /// `object` is alive.
    unsafe fn is_known_atom(&mut self, object: *mut ffi::PyObject) -> bool {
        // SAFETY: the caller's duty.
        unsafe {
            match self.atoms.look_at(self.py, object) {
                Known::Atom => true,
                Known::WithZone(zone) => self.is_zone_known(zone),
                Known::Not => self.proof.numpy.is_scalar(self.py, self.names, object),
            }
        }
    }

    /// Tells whether a time zone that has a name is an atom, and keeps it if so.
    ///
    /// # Safety
    /// `zone` is alive, and of the type of such zones.
    unsafe fn is_zone_known(&mut self, zone: *mut ffi::PyObject) -> bool {
        if self.proof.zones.iter().any(|known| known.as_ptr() == zone) {
            return true;
        }
        // SAFETY: the caller's duty.
        let zone = unsafe { Bound::from_borrowed_ptr(self.py, zone) };
        let is_known = atoms::is_found_by_name(&zone);
        if is_known {
            self.proof.zones.push(zone.unbind());
        }
        is_known
    }

    pub(super) fn head(
        &mut self,
        node: *mut ffi::PyObject,
        kind: Kind,
        len: usize,
        state: [usize; 2],
    ) {
        // SAFETY: the callers give live objects.
        let (class, refcount) = unsafe { (ffi::Py_TYPE(node).addr(), ffi::Py_REFCNT(node)) };
        let refcount = if self.proof.side == Side::Worker { refcount as usize } else { 0 };
        let kind = kind as usize | (len << KIND_BITS);
        let head: [usize; HEAD_LEN] = [kind, node.addr(), class, refcount, state[0], state[1]];
        self.proof.tape.extend_from_slice(&head);
        self.proof.node_count += 1;
    }

    pub(super) unsafe fn each(&mut self, items: &[*mut ffi::PyObject]) -> Result<(), Opaque> {
        for &item in items {
            self.proof.tape.push(item.addr());
            // SAFETY: the items of a live container are alive.
            unsafe { self.child(item)? };
        }
        Ok(())
    }

    unsafe fn node(&mut self, node: *mut ffi::PyObject) -> Result<(), Opaque> {
        let is_worker = self.proof.side == Side::Worker;
        // SAFETY: the caller gives a live object; exact types are told by their type pointers, and
        // what is read then are those types' own structures.
        unsafe {
            // Borrowed: a reference of our own would be counted.
            let object = Borrowed::from_ptr(self.py, node);
            if object.is_exact_instance_of::<PyFunction>() || object.is_instance_of::<PyType>() {
                return self.named(&object);
            }
            if is_worker && layout::has_weakref(node) {
                return Err(Opaque("it has a weak reference".to_owned()));
            }
            if ffi::PyList_CheckExact(node) != 0 {
                let list = node.cast::<ffi::PyListObject>();
                let len = ffi::Py_SIZE(node) as usize;
                let allocated = if is_worker { (*list).allocated as usize } else { 0 };
                self.head(node, Kind::List, len, [allocated, 0]);
                return self.each(slice_of((*list).ob_item, len));
            }
            if ffi::PyTuple_CheckExact(node) != 0 {
                let tuple = node.cast::<ffi::PyTupleObject>();
                let len = ffi::Py_SIZE(node) as usize;
                self.head(node, Kind::Tuple, len, [0, 0]);
                return self.each(slice_of((&raw mut (*tuple).ob_item).cast(), len));
            }
            if ffi::PyDict_CheckExact(node) != 0 {
                return self.dict(node);
            }
            if ffi::PyAnySet_CheckExact(node) != 0 {
                return self.set(node);
            }
            if ffi::Py_TYPE(node) == &raw mut ffi::PyByteArray_Type {
                let array = node.cast::<ffi::PyByteArrayObject>();
                let len = ffi::Py_SIZE(node) as usize;
                if (*array).ob_exports != 0 && is_worker {
                    return Err(Opaque("a bytearray is exported".to_owned()));
                }
                let at = self.proof.bytes.len();
                let state = [len, if is_worker { (*array).ob_alloc as usize } else { 0 }];
                if len > 0 {
                    let start = (*array).ob_start.cast::<u8>().cast_const();
                    self.proof.bytes.extend_from_slice(std::slice::from_raw_parts(start, len));
                }
                self.head(node, Kind::ByteArray, 1, state);
                self.proof.tape.push(at);
                return Ok(());
            }
            if self.proof.numpy.is_array(self.py, self.names, node) {
                return self.numpy_array(node);
            }
            if let Some(kind) = self.standard.kind_of(&object) {
                return self.standard(&object, kind);
            }
            if self.standard.is_member(&object) {
                return self.member(&object);
            }
            if object.get_type().is(&self.names.method_type) {
                return self.method(&object);
            }
            self.instance(&object)
        }
    }

    unsafe fn dict(&mut self, dict: *mut ffi::PyObject) -> Result<(), Opaque> {
        // SAFETY: the caller's duty.
        unsafe { self.entries(dict, Kind::Dict, 0) }
    }

    /// Writes down the entries of a dict; `more` children will follow.
    pub(super) unsafe fn entries(
        &mut self,
        dict: *mut ffi::PyObject,
        kind: Kind,
        more: usize,
    ) -> Result<(), Opaque> {
        // SAFETY: the caller gives a live dict, whose layout is known; PyDict_Next gives borrowed
        // references, and nothing changes the dict meanwhile.
        unsafe {
            let len = 2 * ffi::PyDict_Size(dict) as usize + more;
            let (keys, entries) =
                if self.proof.side == Side::Worker { layout::dict_table(dict) } else { (0, 0) };
            self.head(dict, kind, len, [keys, entries]);
            let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            while ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) != 0 {
                self.hashed(key)?;
                self.each(&[key, value])?;
            }
        }
        Ok(())
    }

    unsafe fn set(&mut self, set: *mut ffi::PyObject) -> Result<(), Opaque> {
        // SAFETY: the caller gives a live set or frozenset.
        unsafe {
            let places = layout::set_table(set);
            self.head(set, Kind::Set, places.len(), layout::set_state(set));
            self.members(places)
        }
    }

    /// Writes down the places of a set's table.
    unsafe fn members(&mut self, places: &[ffi::setentry]) -> Result<(), Opaque> {
        for place in places {
            self.proof.tape.push(place.key.addr());
            // A place whose member was removed has a key that is no member, and -1 for its hash.
            if !place.key.is_null() && place.hash != -1 {
                // SAFETY: the members of a live set are alive.
                unsafe {
                    self.hashed(place.key)?;
                    self.child(place.key)?;
                }
            }
        }
        Ok(())
    }

    /// Makes sure that nothing of the user's runs when a key or member is hashed and compared.
    pub(super) unsafe fn hashed(&mut self, key: *mut ffi::PyObject) -> Result<(), Opaque> {
        // SAFETY: the caller gives a live object, which holds its items.
        unsafe {
            if is_atom(key) || self.is_known_atom(key) {
                return Ok(());
            }
            if ffi::PyTuple_CheckExact(key) != 0 {
                let tuple = key.cast::<ffi::PyTupleObject>();
                let items = (&raw mut (*tuple).ob_item).cast();
                for &item in slice_of(items, ffi::Py_SIZE(key) as usize) {
                    if !is_atom(item) && !self.is_known_atom(item) {
                        return Err(Opaque("a key is no atom and no flat tuple".to_owned()));
                    }
                }
                return Ok(());
            }
            Err(Opaque("a key is no atom and no flat tuple".to_owned()))
        }
    }

    fn named(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Opaque> {
        let Some((module, name)) = by_name::name_of(self.names, object) else {
            return Err(Opaque("a function or class is not found by its name".to_owned()));
        };
        self.head(object.as_ptr(), Kind::Named, 1, [0, 0]);
        let at = self.proof.tape.len() - HEAD_LEN;
        // A class has references from all over the program.
        self.proof.tape[at + 3] = 0;
        self.proof.tape.push(self.proof.names.len());
        self.proof.names.push((module.unbind(), name.unbind()));
        self.proof.named.push(object.as_ptr().addr());
        Ok(())
    }

    fn instance(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Opaque> {
        let class = object.get_type();
        let address = class.as_ptr().addr();
        let known = self.proof.classes.iter().position(|known| known.address == address);
        let index = match known {
            Some(index) => index,
            None => {
                self.proof.classes.push(Class::of(&class).map_err(Opaque)?);
                self.proof.classes.len() - 1
            }
        };
        let has_dict = self.proof.classes[index].has_dict;
        let slots = self.proof.classes[index].slots.clone();
        let dict = if has_dict { Some(dict_of(object)?) } else { None };
        let base = self.proof.classes[index].base;
        if let Some(dict) = &dict
            && (classes::has_forbidden(dict) || classes::hides_items(base, dict))
        {
            return Err(Opaque(format!(
                "{}: an instance has a method of pickle's own",
                classes::name_of(&class)
            )));
        }
        // SAFETY: the object is alive, and of a class on this base.
        let state = unsafe { layout::base_state(object.as_ptr(), base, self.proof.side) };
        self.head(object.as_ptr(), Kind::Instance, 0, [index, 0]);
        let at = self.proof.tape.len() - HEAD_LEN;
        self.proof.tape.extend_from_slice(&state);
        let dict = dict.map_or(std::ptr::null_mut(), |dict| dict.as_ptr());
        self.proof.tape.push(dict.addr());
        self.proof.tape.push(address);
        // SAFETY: the instance holds its dict, its class and what its slots refer to; a slot that is
        // not set is null.
        unsafe {
            if !dict.is_null() {
                self.child(dict)?;
            }
            self.child(class.as_ptr())?;
            for offset in slots {
                let value = slot(object.as_ptr(), offset);
                self.proof.tape.push(value.addr());
                if !value.is_null() {
                    self.child(value)?;
                }
            }
            self.items_of_base(object.as_ptr(), base)?;
        }
        let len = self.proof.tape.len() - at - HEAD_LEN;
        self.proof.tape[at] = Kind::Instance as usize | (len << KIND_BITS);
        Ok(())
    }

    /// Writes down the items, or the value, that an instance has as one of a built-in type's subclass.
    unsafe fn items_of_base(&mut self, node: *mut ffi::PyObject, base: Base) -> Result<(), Opaque> {
        // SAFETY: the caller gives a live object of a class on this base.
        unsafe {
            match base {
                Base::Object => {}
                Base::List | Base::Tuple | Base::NamedTuple => self.each(items_of(node, base))?,
                Base::Set => self.members(layout::set_table(node))?,
                Base::Int
                | Base::Float
                | Base::Complex
                | Base::Str
                | Base::Bytes
                | Base::ByteArray => {
                    if base == Base::ByteArray
                        && self.proof.side == Side::Worker
                        && (*node.cast::<ffi::PyByteArrayObject>()).ob_exports != 0
                    {
                        return Err(Opaque("a bytearray is exported".to_owned()));
                    }
                    let value = values::copy_of(self.py, node, base)
                        .ok_or_else(|| Opaque("a value could not be copied".to_owned()))?;
                    // The proof takes a reference of its own.
                    self.each(&[value.as_ptr()])?;
                }
                Base::Dict | Base::Counter => {
                    let (mut at, mut key, mut value) =
                        (0, std::ptr::null_mut(), std::ptr::null_mut());
                    while ffi::PyDict_Next(node, &raw mut at, &raw mut key, &raw mut value) != 0 {
                        self.hashed(key)?;
                        self.each(&[key, value])?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the items of an instance of a list's or tuple's subclass.
///
/// # Safety
/// `node` is a live instance of such a class.
pub(super) unsafe fn items_of<'a>(
    node: *mut ffi::PyObject,
    base: Base,
) -> &'a [*mut ffi::PyObject] {
    // SAFETY: the caller's duty.
    unsafe {
        let len = ffi::Py_SIZE(node) as usize;
        if base == Base::List {
            slice_of((*node.cast::<ffi::PyListObject>()).ob_item, len)
        } else {
            slice_of((&raw mut (*node.cast::<ffi::PyTupleObject>()).ob_item).cast(), len)
        }
    }
}

/// Reads a slot.
///
/// # Safety
/// `object` is a live instance of a class that has a slot at this offset.
pub(super) unsafe fn slot(object: *mut ffi::PyObject, offset: isize) -> *mut ffi::PyObject {
    // SAFETY: the caller's duty.
    unsafe { object.cast::<u8>().offset(offset).cast::<*mut ffi::PyObject>().read() }
}

/// Returns an instance's own dict.
pub(super) fn dict_of<'py>(object: &Bound<'py, PyAny>) -> Result<Bound<'py, PyDict>, Opaque> {
    instance_dict(object).ok_or_else(|| Opaque("an instance has another kind of dict".to_owned()))
}

/// # Safety
/// `start` points at `len` references, or `len` is 0.
pub(super) unsafe fn slice_of<'a>(
    start: *mut *mut ffi::PyObject,
    len: usize,
) -> &'a [*mut ffi::PyObject] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's duty.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// Tells whether an object is an atom: immutable, never weakly referenced, and nothing of the user's
/// runs when it is pickled, loaded, compared or freed. So a reference to it is a proof of it.
///
/// # Safety
/// `object` is alive.
pub(super) unsafe fn is_atom(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller gives a live object; exact types are told by their type pointers.
    unsafe {
        let class = ffi::Py_TYPE(object);
        class == &raw mut ffi::PyLong_Type
            || class == &raw mut ffi::PyUnicode_Type
            || class == &raw mut ffi::PyFloat_Type
            || object == ffi::Py_None()
            || class == &raw mut ffi::PyBool_Type
            || class == &raw mut ffi::PyBytes_Type
            || class == &raw mut ffi::PyComplex_Type
            || object == ffi::Py_Ellipsis()
            // The empty tuple is one object, in use all over the program.
            || (class == &raw mut ffi::PyTuple_Type && ffi::Py_SIZE(object) == 0)
    }
}
