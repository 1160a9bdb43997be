//! The walk over containers of the standard library, members of enums, and methods.
#![allow(unsafe_code, reason = "CPython's own structures are read")]

use pyo3::prelude::*;

use super::methods::Method;
use super::tape::{HEAD_LEN, KIND_BITS, Kind, Opaque, Side};
use super::walk::Walk;
use super::{classes, layout, standard};

impl<'py> Walk<'py> {
    /// Writes down a container of the standard library.
    pub(super) unsafe fn standard(
        &mut self,
        object: &Bound<'py, PyAny>,
        kind: Kind,
    ) -> Result<(), Opaque> {
        let is_worker = self.proof.side == Side::Worker;
        let node = object.as_ptr();
        // SAFETY: the caller gives a live object, of a type whose layout is known.
        unsafe {
            match kind {
                Kind::DefaultDict => {
                    let factory = standard::factory_of(object);
                    let factory =
                        factory.ok_or_else(|| Opaque("a defaultdict has no factory".to_owned()))?;
                    self.entries(node, Kind::DefaultDict, 1)?;
                    self.each(&[factory.as_ptr()])
                }
                Kind::OrderedDict | Kind::Deque => {
                    if kind == Kind::OrderedDict && standard::has_attributes(object) {
                        return Err(Opaque("an OrderedDict has attributes".to_owned()));
                    }
                    let state = layout::ordered_state(node, kind, is_worker);
                    // The reference count is read before the iterator has one of its own.
                    self.head(node, kind, 0, state);
                    let at = self.proof.tape.len() - HEAD_LEN;
                    let mut outcome = Ok(());
                    let mut is_key = kind == Kind::OrderedDict;
                    let is_whole = standard::for_each_held(object, kind, |item| {
                        outcome = if is_key { self.hashed(item) } else { Ok(()) }
                            .and_then(|()| self.each(&[item]));
                        is_key = kind == Kind::OrderedDict && !is_key;
                        outcome.is_ok()
                    });
                    outcome?;
                    if !is_whole {
                        return Err(Opaque("a container could not be read".to_owned()));
                    }
                    let len = self.proof.tape.len() - at - HEAD_LEN;
                    self.proof.tape[at] = kind as usize | (len << KIND_BITS);
                    Ok(())
                }
                Kind::Array => {
                    let array = layout::array(node);
                    if array.exports != 0 && is_worker {
                        return Err(Opaque("an array is exported".to_owned()));
                    }
                    let at = self.proof.bytes.len();
                    let allocated = if is_worker { array.allocated } else { 0 };
                    self.proof.bytes.extend_from_slice(array.bytes);
                    self.head(node, kind, 2, [array.bytes.len(), allocated]);
                    self.proof.tape.extend_from_slice(&[at, array.description]);
                    Ok(())
                }
                _ => {
                    let parts = standard::partial_parts(object)
                        .ok_or_else(|| Opaque("a partial has attributes".to_owned()))?;
                    let parts = parts.map(|part| part.as_ptr());
                    self.head(node, Kind::Partial, parts.len(), [0, 0]);
                    self.each(&parts)
                }
            }
        }
    }

    pub(super) fn member(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Opaque> {
        let member = self.standard.member(self.names, object).ok_or_else(|| {
            let class = classes::name_of(&object.get_type());
            Opaque(format!("{class}: a member is not found by its value"))
        })?;
        self.head(object.as_ptr(), Kind::Member, 2, [0, 0]);
        let at = self.proof.tape.len() - HEAD_LEN;
        // A member has references from all over the program.
        self.proof.tape[at + 3] = 0;
        self.proof.tape.push(self.proof.names.len());
        self.proof.names.push((member.module.unbind(), member.name.unbind()));
        self.proof.named.push(object.as_ptr().addr());
        self.proof.tape.push(member.value.as_ptr().addr());
        // SAFETY: the value is alive.
        unsafe { self.child(member.value.as_ptr()) }
    }

    pub(super) fn method(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Opaque> {
        let method = Method::of(object)
            .ok_or_else(|| Opaque("a method is not found by its name".to_owned()))?;
        self.head(object.as_ptr(), Kind::Method, 3, [0, 0]);
        self.proof.methods.push(object.as_ptr().addr());
        // SAFETY: the method holds its instance, and the function its name.
        unsafe { self.each(&[method.instance.as_ptr(), method.name.as_ptr()])? };
        // The function is found by its name in the class, and is not looked into.
        self.proof.tape.push(method.function.as_ptr().addr());
        Ok(())
    }
}
