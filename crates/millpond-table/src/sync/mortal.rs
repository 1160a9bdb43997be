//! Atomics of a model checker, and death between any two of their steps.
//!
//! A model checker knows threads, and threads do not die. So each atomic step counts, and a thread
//! that [`live_for`] has given a number of steps unwinds before the first step beyond: to all others
//! it looks like a process that was killed there.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(loom)]
use loom::{sync::atomic as model, thread};
#[cfg(all(shuttle, not(loom)))]
use shuttle::{sync::atomic as model, thread};

use super::Ordering;

/// A thread of a model that will die.
struct Mortal {
    thread: thread::ThreadId,
    steps_left: u64,
}

/// What a dying thread unwinds with.
struct Death;

thread_local! {
    // All threads of a model are coroutines of one thread of the system, so they share this.
    static MORTALS: RefCell<Vec<Mortal>> = const { RefCell::new(Vec::new()) };
}

/// Runs `life` for at most `steps` atomic steps of this crate; `None` if it would have made more.
pub fn live_for<R>(steps: u64, life: impl FnOnce() -> R) -> Option<R> {
    let me = thread::current().id();
    MORTALS.with_borrow_mut(|all| all.push(Mortal { thread: me, steps_left: steps }));
    let outcome = catch_unwind(AssertUnwindSafe(life));
    become_immortal(me);
    match outcome {
        Ok(result) => Some(result),
        Err(cause) if cause.is::<Death>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

fn become_immortal(thread: thread::ThreadId) {
    MORTALS.with_borrow_mut(|all| all.retain(|mortal| mortal.thread != thread));
}

fn step() {
    if MORTALS.with_borrow(Vec::is_empty) {
        return;
    }
    let me = thread::current().id();
    let is_dead = MORTALS.with_borrow_mut(|all| {
        let Some(mortal) = all.iter_mut().find(|mortal| mortal.thread == me) else { return false };
        let is_dead = mortal.steps_left == 0;
        mortal.steps_left = mortal.steps_left.saturating_sub(1);
        is_dead
    });
    if is_dead {
        // What is dropped on the way out may make steps, of which none is the last.
        become_immortal(me);
        resume_unwind(Box::new(Death));
    }
}

/// The model's fence, as one step.
pub fn fence(order: Ordering) {
    step();
    model::fence(order);
}

macro_rules! mortal_atomic {
    ($name:ident, $value:ty) => {
        /// The model's atomic, with the part of its face that this crate uses.
        #[derive(Debug)]
        pub struct $name(model::$name);

        #[allow(missing_docs, reason = "the names are those of the standard library")]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self(model::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                step();
                self.0.load(order)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                step();
                self.0.store(value, order);
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.swap(value, order)
            }

            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_add(value, order)
            }

            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_and(value, order)
            }

            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                step();
                self.0.fetch_or(value, order)
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.0.compare_exchange(old, new, success, failure)
            }

            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.0.compare_exchange_weak(old, new, success, failure)
            }
        }
    };
}

mortal_atomic!(AtomicU32, u32);
mortal_atomic!(AtomicU64, u64);
