//! The comparison with the tape.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyType};

use super::atoms::KnownAtoms;
use super::classes::{Base, Class};
use super::layout;
use super::methods::Method;
use super::numpy;
use super::standard::{self, StandardTypes};
use super::tape::{HEAD_LEN, KIND_BITS, Kind, Proof, Side};
use super::values;
use super::walk::{NoCollection, dict_of, items_of, slice_of, slot};
use crate::by_name;
use crate::names::Names;

impl Proof {
    /// Tells whether the graph of these roots is what it was, by the same roots' addresses.
    ///
    /// Every address that is followed is that of a live object: a root's is given by the caller, and
    /// every other one is read from the tape only after it was found in the node that holds it.
    pub(crate) fn holds(&self, py: Python<'_>, roots: &[&Bound<'_, PyAny>]) -> bool {
        let _still = NoCollection::begin(py);
        let Ok(names) = Names::get(py) else { return false };
        self.roots.len() == roots.len()
            && self.roots.iter().zip(roots).all(|(&known, root)| known == root.as_ptr().addr())
            && (self.side == Side::Parent || self.atom_roots == atom_roots(roots))
            && self.known_atoms.are_same(&KnownAtoms::of(py, names))
            && self.numpy.are_same(py, names)
            && {
                let standard = StandardTypes::of(py, names);
                self.standard.are_same(&standard) && self.nodes_hold(py, names, &standard)
            }
    }

    /// Tells whether all names still lead to the functions and classes of the graph, and whether these
    /// classes are what they were. The caller holds the graph, which has not changed since it was
    /// proved; what a program does to its modules changes no node of it.
    pub(crate) fn names_hold(&self, py: Python<'_>) -> bool {
        let Ok(names) = Names::get(py) else { return false };
        let standard = StandardTypes::of(py, names);
        let methods_hold = self.methods.iter().all(|&address| {
            let node = std::ptr::with_exposed_provenance_mut::<ffi::PyObject>(address);
            // SAFETY: the graph holds the node, and the caller the graph.
            Method::of(&unsafe { Bound::from_borrowed_ptr(py, node) }).is_some()
        });
        methods_hold
            && self.named.iter().zip(&self.names).all(|(&address, (module, name))| {
                let node = std::ptr::with_exposed_provenance_mut::<ffi::PyObject>(address);
                // SAFETY: the graph holds the node, and the caller the graph.
                let object = unsafe { Bound::from_borrowed_ptr(py, node) };
                let found = if standard.is_member(&object) {
                    standard.member(names, &object).map(|member| (member.module, member.name))
                } else {
                    by_name::name_of(names, &object)
                };
                let is_found = found
                    .is_some_and(|(now, called)| is_text(&now, module) && is_text(&called, name));
                let index = self.classes.iter().position(|class| class.address == address);
                is_found
                    && index.is_none_or(|index| {
                        object.cast::<PyType>().is_ok_and(|class| self.is_same_class(class, index))
                    })
            })
    }

    fn nodes_hold(&self, py: Python<'_>, names: &Names, standard: &StandardTypes) -> bool {
        let is_worker = self.side == Side::Worker;
        let mut is_class_checked = vec![false; self.classes.len()];
        let mut rest = self.tape.as_slice();
        while let [word, address, class, refcount, first, second, after @ ..] = rest {
            let len = word >> KIND_BITS;
            let (children, next) = after.split_at(len);
            rest = next;
            let node = std::ptr::with_exposed_provenance_mut::<ffi::PyObject>(*address);
            // SAFETY: the node is alive, see `holds`, and the GIL is held; after its type was
            // compared, what is read is that type's own structure.
            let is_same = unsafe {
                if ffi::Py_TYPE(node).addr() != *class {
                    return false;
                }
                let kind = Kind::from_word(*word);
                if is_worker
                    && !matches!(kind, Kind::Named | Kind::Member)
                    && (ffi::Py_REFCNT(node) as usize != *refcount || layout::has_weakref(node))
                {
                    return false;
                }
                match kind {
                    Kind::List => {
                        let list = node.cast::<ffi::PyListObject>();
                        ffi::Py_SIZE(node) as usize == len
                            && (!is_worker || (*list).allocated as usize == *first)
                            && are_same(slice_of((*list).ob_item, len), children)
                    }
                    Kind::Tuple => {
                        let tuple = node.cast::<ffi::PyTupleObject>();
                        ffi::Py_SIZE(node) as usize == len
                            && are_same(slice_of((&raw mut (*tuple).ob_item).cast(), len), children)
                    }
                    Kind::Dict => {
                        (!is_worker || layout::dict_table(node) == (*first, *second))
                            && is_same_dict(node, children)
                    }
                    Kind::DefaultDict => {
                        let (factory, entries) = children.split_last().unwrap_or((&0, &[]));
                        let object = Bound::from_borrowed_ptr(py, node);
                        (!is_worker || layout::dict_table(node) == (*first, *second))
                            && is_same_dict(node, entries)
                            && standard::factory_of(&object)
                                .is_some_and(|now| now.as_ptr().addr() == *factory)
                    }
                    Kind::OrderedDict | Kind::Deque => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        let mut rest = children.iter();
                        layout::ordered_state(node, kind, is_worker) == [*first, *second]
                            && (kind == Kind::Deque || !standard::has_attributes(&object))
                            && standard::for_each_held(&object, kind, |item| {
                                rest.next() == Some(&item.addr())
                            })
                            && rest.next().is_none()
                    }
                    Kind::Array => {
                        let array = layout::array(node);
                        array.description == children[1]
                            && (!is_worker || (array.exports == 0 && array.allocated == *second))
                            && array.bytes == &self.bytes[children[0]..children[0] + first]
                    }
                    Kind::Partial => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        standard::partial_parts(&object).is_some_and(|parts| {
                            parts.iter().zip(children).all(|(p, known)| p.as_ptr().addr() == *known)
                        })
                    }
                    Kind::Member => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        self.is_same_member(&object, names, standard, children)
                    }
                    Kind::Set => is_same_set(node, children, [*first, *second]),
                    Kind::Method => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        is_same_method(&object, children)
                    }
                    Kind::ByteArray => {
                        let array = node.cast::<ffi::PyByteArrayObject>();
                        let known = &self.bytes[children[0]..children[0] + first];
                        let start = (*array).ob_start.cast::<u8>().cast_const();
                        ffi::Py_SIZE(node) as usize == *first
                            && (!is_worker
                                || ((*array).ob_exports == 0
                                    && (*array).ob_alloc as usize == *second))
                            && (*first == 0 || std::slice::from_raw_parts(start, *first) == known)
                    }
                    Kind::Instance => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        (is_class_checked[*first] || {
                            is_class_checked[*first] = true;
                            self.is_same_class(&object.get_type(), *first)
                        }) && self.is_same_instance(&object, *first, children)
                    }
                    Kind::NumpyArray => {
                        let known = &self.bytes[*second..second + first];
                        numpy::is_same_array(node, self.side, children, known)
                    }
                    Kind::Named => {
                        let object = Bound::from_borrowed_ptr(py, node);
                        let (module, name) = &self.names[children[0]];
                        by_name::name_of(names, &object).is_some_and(|(now, called)| {
                            is_text(&now, module) && is_text(&called, name)
                        })
                    }
                }
            };
            if !is_same {
                return false;
            }
        }
        debug_assert!(rest.is_empty(), "a node has {HEAD_LEN} words and its children");
        true
    }

    fn is_same_member(
        &self,
        object: &Bound<'_, PyAny>,
        names: &Names,
        standard: &StandardTypes,
        children: &[usize],
    ) -> bool {
        let (module, name) = &self.names[children[0]];
        standard.member(names, object).is_some_and(|now| {
            is_text(&now.module, module)
                && is_text(&now.name, name)
                && now.value.as_ptr().addr() == children[1]
        })
    }

    /// A class may have been changed, or another may lie at its address by now.
    fn is_same_class(&self, class: &Bound<'_, PyType>, index: usize) -> bool {
        Class::of(class).is_ok_and(|now| now.is_same(&self.classes[index]))
    }

    unsafe fn is_same_instance(
        &self,
        object: &Bound<'_, PyAny>,
        index: usize,
        children: &[usize],
    ) -> bool {
        let class = &self.classes[index];
        let dict = if class.has_dict {
            match dict_of(object) {
                Ok(dict) => dict.as_ptr().addr(),
                Err(_) => return false,
            }
        } else {
            0
        };
        let (state, rest) = children.split_at(layout::BASE_STATE_LEN);
        let (own, items) = rest.split_at(2 + class.slots.len());
        // SAFETY: the object is alive, its class was found to be on this base and to have these slots,
        // and its number of items is compared before they are.
        unsafe {
            dict == own[0]
                && class
                    .slots
                    .iter()
                    .zip(&own[2..])
                    .all(|(&offset, &known)| slot(object.as_ptr(), offset).addr() == known)
                && layout::base_state(object.as_ptr(), class.base, self.side) == state
                && match class.base {
                    Base::Object => true,
                    Base::List | Base::Tuple | Base::NamedTuple => {
                        let now = items_of(object.as_ptr(), class.base);
                        now.len() == items.len() && are_same(now, items)
                    }
                    Base::Dict | Base::Counter => is_same_dict(object.as_ptr(), items),
                    Base::Set => are_same_places(layout::set_table(object.as_ptr()), items),
                    Base::Int
                    | Base::Float
                    | Base::Complex
                    | Base::Str
                    | Base::Bytes
                    | Base::ByteArray => {
                        // The proof holds the copy.
                        let copy = std::ptr::with_exposed_provenance_mut(items[0]);
                        values::is_same(object.py(), object.as_ptr(), class.base, copy)
                    }
                }
        }
    }
}

/// Returns the roots that are texts, by their index, with their reference counts.
pub(super) fn atom_roots(roots: &[&Bound<'_, PyAny>]) -> Vec<(usize, usize)> {
    let texts = roots.iter().enumerate().filter(|(_, root)| {
        root.is_exact_instance_of::<PyString>() || root.is_exact_instance_of::<PyBytes>()
    });
    // SAFETY: the roots are alive as long as the borrow.
    let count = |root: &Bound<'_, PyAny>| unsafe { ffi::Py_REFCNT(root.as_ptr()) as usize };
    texts.map(|(index, root)| (index, count(root))).collect()
}

/// Tells whether two exact strings are equal.
fn is_text(now: &Bound<'_, PyString>, known: &Py<PyString>) -> bool {
    let known = known.bind(now.py());
    now.is(known) || matches!((now.to_str(), known.to_str()), (Ok(now), Ok(known)) if now == known)
}

fn are_same(now: &[*mut ffi::PyObject], known: &[usize]) -> bool {
    // SAFETY: a pointer and a number of its width have the same size and alignment, and any pointer's
    // bits are a number. As numbers both are compared by memcmp.
    let now = unsafe { std::slice::from_raw_parts(now.as_ptr().cast::<usize>(), now.len()) };
    now == known
}

/// # Safety
/// `dict` is a live dict.
unsafe fn is_same_dict(dict: *mut ffi::PyObject, children: &[usize]) -> bool {
    // SAFETY: the caller's duty; the references are borrowed, and only their addresses are looked at.
    unsafe {
        if 2 * ffi::PyDict_Size(dict) as usize != children.len() {
            return false;
        }
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        for known in children.as_chunks::<2>().0 {
            if ffi::PyDict_Next(dict, &raw mut at, &raw mut key, &raw mut value) == 0
                || [key.addr(), value.addr()] != *known
            {
                return false;
            }
        }
    }
    true
}

/// # Safety
/// `set` is a live set or frozenset, or of a subclass of theirs.
unsafe fn is_same_set(set: *mut ffi::PyObject, children: &[usize], state: [usize; 2]) -> bool {
    // SAFETY: the caller's duty.
    unsafe { layout::set_state(set) == state && are_same_places(layout::set_table(set), children) }
}

fn are_same_places(places: &[ffi::setentry], known: &[usize]) -> bool {
    places.len() == known.len()
        && places.iter().zip(known).all(|(place, &known)| place.key.addr() == known)
}

fn is_same_method(object: &Bound<'_, PyAny>, children: &[usize]) -> bool {
    Method::of(object).is_some_and(|now| {
        [now.instance.as_ptr(), now.name.as_ptr(), now.function.as_ptr()].map(|part| part.addr())
            == *children
    })
}
