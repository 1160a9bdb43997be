//! Named places at which a process can be told to die: between two writes of which recovery, or the
//! workers' watch over their parent, must heal the missing second one.
//!
//! A normal build has none of them. Under `--cfg kill_points` the process that reaches a point for the
//! given time is killed there, by SIGKILL, as `tests/reliability/test_kill_points.py` asks for by two
//! environment variables:
//!
//! * `MILLPOND_KILL_POINTS`: points and times, as in `worker.claim.taken:2,parent.ended.settled:1`;
//!   `*5` in place of a number is each fifth time, and `~5` lets who comes there wait for 5 ms, so that a
//!   race is met that is rare otherwise. Times count for all processes together.
//! * `MILLPOND_KILL_COUNTS`: a file of one 64-bit word for each of them, in which the times are counted.
//!
//! A point whose name begins with `worker.` counts in workers only, one with `parent.` in their parent
//! only: some lines are reached by both.

/// Marks a place between two writes, by a name that is used once.
#[cfg(not(kill_points))]
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {};
}

/// Marks a place between two writes, by a name that is used once.
#[cfg(kill_points)]
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        $crate::kill_points::reach($name)
    };
}

#[cfg(kill_points)]
pub use armed::reach;

#[cfg(kill_points)]
mod armed {
    #![allow(unsafe_code, reason = "the counts lie in a mapping of a file")]

    use std::fs::OpenOptions;
    use std::os::fd::AsFd;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use millpond_sys::mapping::{Access, Mapping};
    use millpond_sys::process;

    /// The first point of a worker's life: from there on the process is a worker.
    const BIRTH: &str = "worker.join.begun";

    static IS_WORKER: AtomicBool = AtomicBool::new(false);
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    struct Plan {
        counts: Mapping,
        entries: Vec<Entry>,
    }

    struct Entry {
        point: String,
        fate: Fate,
    }

    enum Fate {
        /// Death at this time.
        At(u64),
        /// Death at each of so many times.
        Each(u64),
        /// A pause of so many milliseconds, each time.
        Pause(u64),
    }

    /// The process is at the point of this name.
    pub fn reach(name: &str) {
        let Some(plan) = PLAN.get_or_init(Plan::of_environment) else { return };
        if name == BIRTH {
            IS_WORKER.store(true, Ordering::Relaxed);
        }
        if name.starts_with("worker.") != IS_WORKER.load(Ordering::Relaxed) {
            return;
        }
        for (index, entry) in plan.entries.iter().enumerate() {
            if entry.point != name {
                continue;
            }
            let time = plan.count(index);
            let is_due = match entry.fate {
                Fate::At(wanted) => time == wanted,
                Fate::Each(number) => time.is_multiple_of(number),
                Fate::Pause(ms) => {
                    std::thread::sleep(std::time::Duration::from_millis(ms));
                    false
                }
            };
            if is_due {
                let _ = process::send_signal(process::id(), process::Signal::KILL);
                loop {
                    std::thread::park();
                }
            }
        }
    }

    impl Plan {
        fn of_environment() -> Option<Self> {
            let entries: Vec<_> =
                std::env::var("MILLPOND_KILL_POINTS").ok()?.split(',').map(Entry::parse).collect();
            let path = std::env::var_os("MILLPOND_KILL_COUNTS").expect("the counts have a file");
            let file = OpenOptions::new().read(true).write(true).open(path).expect("it is there");
            let counts = Mapping::new(file.as_fd(), 0, entries.len() * 8, Access::ReadWrite)
                .expect("the counts can be mapped");
            Some(Self { counts, entries })
        }

        /// Counts one time more, and returns which it is.
        fn count(&self, index: usize) -> u64 {
            assert!((index + 1) * 8 <= self.counts.len(), "there is a count for each point");
            // SAFETY: the word lies in the mapping (asserted), which is aligned to a page, lives as long
            // as this process, and is used by atomics only.
            let word = unsafe { &*self.counts.as_ptr().cast::<AtomicU64>().add(index) };
            word.fetch_add(1, Ordering::SeqCst) + 1
        }
    }

    impl Entry {
        fn parse(text: &str) -> Self {
            let (point, fate) = text.split_once(':').expect("point:time");
            let number = |text: &str| text.parse().expect("the time is a number");
            let fate = match fate.split_at(1) {
                ("*", each) => Fate::Each(number(each)),
                ("~", ms) => Fate::Pause(number(ms)),
                _ => Fate::At(number(fate)),
            };
            Self { point: point.into(), fate }
        }
    }
}
