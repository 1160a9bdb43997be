#![allow(unsafe_code, reason = "maps, writes and unmaps memory, and forks")]
#![allow(clippy::print_stdout, reason = "it says what is not here")]
//! Memory of a test's own, and forked children.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use millpond_sys::mapping::page_size;
use millpond_sys::write_tracking::{Drops, Tracked, WriteTracker};
use millpond_sys::{file_range, memfd, process};

/// Memory of its own mapping, so that nothing else lies on its pages.
pub(crate) struct Memory {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Memory {
    /// Pages that nobody has touched.
    pub(crate) fn new(pages: usize) -> Self {
        let len = pages * page_size();
        Self { start: map(0, len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1), len }
    }

    /// Pages that hold something.
    pub(crate) fn filled(pages: usize) -> Self {
        let memory = Self::new(pages);
        memory.fill();
        memory
    }

    /// A private mapping of a file that holds 5 everywhere, and the file.
    pub(crate) fn of_a_file(pages: usize) -> (Self, OwnedFd) {
        let len = pages * page_size();
        let file = memfd::create("millpond-test", len as u64).unwrap();
        file_range::write_all_at(file.as_fd(), 0, &vec![5; len]).unwrap();
        (Self { start: map(0, len, libc::MAP_PRIVATE, file.as_raw_fd()), len }, file)
    }

    /// Puts untouched pages in the place of what is, or was, here.
    pub(crate) fn replace(&self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        assert_eq!(map(self.start, self.len, flags, -1), self.start);
    }

    /// Writes the first byte of each page.
    pub(crate) fn fill(&self) {
        for page in 0..self.len / page_size() {
            self.write(page * page_size(), 1);
        }
    }

    pub(crate) fn write(&self, at: usize, value: u8) {
        // SAFETY: the byte lies in the mapping, to which no reference exists.
        unsafe { self.at::<u8>(at).write_volatile(value) };
    }

    pub(crate) fn read(&self, at: usize) -> u8 {
        // SAFETY: the byte lies in the mapping, to which no reference exists.
        unsafe { self.at::<u8>(at).read_volatile() }
    }

    /// The address of the byte `at`.
    pub(crate) fn at<T>(&self, at: usize) -> *mut T {
        assert!(at < self.len);
        std::ptr::with_exposed_provenance_mut(self.start + at)
    }

    /// `madvise`
    pub(crate) fn advise(&self, page: usize, pages: usize, advice: i32) -> i32 {
        let at = self.at(page * page_size());
        // SAFETY: the pages lie in the mapping, to which no reference exists.
        unsafe { libc::madvise(at, pages * page_size(), advice) }
    }

    pub(crate) fn track(&self, tracker: &Arc<WriteTracker>) -> Tracked {
        tracker.track(self.start, self.len, Drops::Possible).unwrap()
    }

    pub(crate) fn track_as_block(&self, tracker: &Arc<WriteTracker>) -> Tracked {
        tracker.track(self.start, self.len, Drops::Never).unwrap()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, or is gone already.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.start), self.len) };
    }
}

/// Maps memory that can be read and written, and returns its address.
fn map(at: usize, len: usize, flags: i32, fd: i32) -> usize {
    let at = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: the place is free or, with MAP_FIXED, taken by a mapping of the test's own.
    let start = unsafe { libc::mmap(at, len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.expose_provenance()
}

/// The tracker; None where the kernel has none, which is then said.
pub(crate) fn tracker() -> Option<Arc<WriteTracker>> {
    match WriteTracker::new() {
        Ok(tracker) => Some(tracker),
        Err(error) => {
            assert!(error.is_not_supported(), "{error}");
            println!("write tracking is not available here: {error}");
            None
        }
    }
}

/// Runs `check` in a forked child, and returns its exit code, which `check` gives; a child that died
/// by a signal fails the test.
pub(crate) fn exit_code_of_child(check: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls only `check` and `_exit`; the checks take no lock but the allocator's,
    // which glibc keeps usable in a child.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        process::exit_now(check());
    }
    let mut status = 0;
    // SAFETY: the status is a local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child died: status {status:#x}");
    libc::WEXITSTATUS(status)
}

/// Runs `check` in a forked child; tells whether it was true there.
pub(crate) fn in_child(check: impl FnOnce() -> bool) -> bool {
    exit_code_of_child(|| i32::from(!check())) == 0
}

/// Runs `check` in a child of a child that has, in a PID namespace of its own, the very process id
/// that its parent has in the one above. `make` runs in that parent and gives `check` its argument.
/// None where no namespace may be made, which is then said.
pub(crate) fn in_child_of_equal_id<T>(
    make: impl FnOnce() -> T,
    check: impl FnOnce(&T) -> bool,
) -> Option<bool> {
    const DENIED: i32 = 77;
    // SAFETY: changes the namespace of children to come, of the calling child alone.
    let unshare = || unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    let code = exit_code_of_child(|| {
        if !unshare() {
            return DENIED;
        }
        exit_code_of_child(|| {
            let made = make();
            let own = process::id();
            if !unshare() {
                return DENIED;
            }
            exit_code_of_child(|| {
                assert_eq!((process::id(), own), (1, 1));
                i32::from(!check(&made))
            })
        })
    });
    if code == DENIED {
        println!("no PID namespace may be made here");
        return None;
    }
    Some(code == 0)
}

/// The number of the ioctl.
pub(crate) const PAGEMAP_SCAN: u32 = 0xc060_6610;

/// What opens a file, by its path.
#[cfg(target_arch = "x86_64")]
pub(crate) const OPEN: &[i64] = &[libc::SYS_open, libc::SYS_openat];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const OPEN: &[i64] = &[libc::SYS_openat];

/// Denies one system call to this process, for good: it fails with `errno`, but only if its second
/// argument is `second`, where one is given.
pub(crate) fn deny(call: i64, second: Option<u32>, errno: i32) -> bool {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const END: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Offsets into `struct seccomp_data`: the number of the call, the low half of the second argument.
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(JUMP, 0, 3, u32::try_from(call).unwrap()),
        step(LOAD, 0, 0, 24),
        step(JUMP, 0, 1, second.unwrap_or_default()),
        step(END, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        step(END, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    if second.is_none() {
        // Whatever the argument is, the next step is the denial.
        filter[3].jf = 0;
    }
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call; only this process, a forked child, is restricted.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}
