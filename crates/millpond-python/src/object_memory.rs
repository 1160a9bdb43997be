//! Memory for millions of new objects at once, on large pages.
//!
//! To make ten million ints touches 320 MB for the first time. In pages of 4 KiB that is 78 000
//! faults, which take longer than the making. CPython takes the memory of small objects in arenas,
//! from an allocator that can be exchanged; while a heavy list is unpacked it gives out pieces of
//! stretches on large pages. Arenas are given back by `munmap`, as CPython's own allocator does, so
//! nothing remains of the exchange but the arenas themselves.
#![allow(unsafe_code, reason = "CPython's arena allocator is exchanged")]

use std::ffi::c_void;

use millpond_sys::huge_pages::HugeStretch;
use pyo3::ffi;
use pyo3::prelude::*;

/// Objects from which on the exchange is worth it.
const OBJECT_COUNT_MIN: usize = 200_000;

/// The length in bytes of a stretch: what is not taken of the last one is given back.
const STRETCH_LEN: usize = 32 << 20;

/// The exchange, in force as long as it lives.
pub(crate) struct LargePages<'py> {
    context: Option<Box<Context>>,
    _py: Python<'py>,
}

struct Context {
    before: ffi::PyObjectArenaAllocator,
    stretch: Option<HugeStretch>,
}

impl<'py> LargePages<'py> {
    /// Makes the exchange if `object_count` objects are worth it.
    pub(crate) fn for_objects(py: Python<'py>, object_count: usize) -> Self {
        if object_count < OBJECT_COUNT_MIN {
            return Self { context: None, _py: py };
        }
        // SAFETY: the allocator is plain data; zero is a value of each of its fields, and the call
        // overwrites them. The GIL is held.
        let before = unsafe {
            let mut before: ffi::PyObjectArenaAllocator = std::mem::zeroed();
            ffi::PyObject_GetArenaAllocator(&raw mut before);
            before
        };
        let mut context = Box::new(Context { before, stretch: None });
        let mut during = ffi::PyObjectArenaAllocator {
            ctx: (&raw mut *context).cast(),
            alloc: Some(allocate),
            free: Some(free),
        };
        // SAFETY: the GIL is held; CPython copies the structure. The context lives in its box until
        // `drop` has put the old allocator back.
        unsafe { ffi::PyObject_SetArenaAllocator(&raw mut during) };
        Self { context: Some(context), _py: py }
    }
}

impl Drop for LargePages<'_> {
    fn drop(&mut self) {
        if let Some(context) = &mut self.context {
            // SAFETY: the GIL is held, as `_py` tells; the old allocator was valid before.
            unsafe { ffi::PyObject_SetArenaAllocator(&raw mut context.before) };
        }
    }
}

extern "C" fn allocate(context: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: CPython calls with the context that it was given, under the GIL, so that this is the
    // only reference; the box is alive as long as this function is the allocator.
    let context = unsafe { &mut *context.cast::<Context>() };
    for _ in 0..2 {
        if let Some(piece) = context.stretch.as_mut().and_then(|stretch| stretch.take(len)) {
            return piece.cast();
        }
        context.stretch = HugeStretch::new(STRETCH_LEN).ok();
    }
    match context.before.alloc {
        // The old allocator, with its own context.
        Some(alloc) => alloc(context.before.ctx, len),
        None => std::ptr::null_mut(),
    }
}

extern "C" fn free(context: *mut c_void, arena: *mut c_void, len: usize) {
    // SAFETY: as in `allocate`.
    let context = unsafe { &*context.cast::<Context>() };
    if let Some(free) = context.before.free {
        // The old allocator unmaps; each arena is a mapping, or a piece of one.
        free(context.before.ctx, arena, len);
    }
}
