//! What tasks did, written down by the tasks themselves in a file outside the product.
//!
//! A line is `task attempt pid event`, for example `17 0 4711 begin`, so that a task in any
//! language can write it with one `write` to a file opened for appending. Such writes of one system
//! call each neither mix nor overwrite each other, and what a killed process wrote stays.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The longest line in bytes: an append below this is one piece in every file system.
const LINE_BYTES_MAX: usize = 4096;

/// What happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The body of the task began to run.
    Begin,
    /// The body of the task is about to return.
    End,
}

impl Event {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "begin" => Some(Self::Begin),
            "end" => Some(Self::End),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begin => "begin",
            Self::End => "end",
        })
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The task, by a number that the test chose.
    pub task: u64,
    /// How often the task had been begun before, as far as it knows: 0 at first.
    pub attempt: u32,
    /// The process in which it ran.
    pub pid: u32,
    /// What happened.
    pub event: Event,
}

impl Record {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let record = Self {
            task: words.next()?.parse().ok()?,
            attempt: words.next()?.parse().ok()?,
            pid: words.next()?.parse().ok()?,
            event: Event::parse(words.next()?)?,
        };
        words.next().is_none().then_some(record)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, attempt, pid, event } = self;
        write!(f, "{task} {attempt} {pid} {event}")
    }
}

/// A file of records, which many processes append to.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
}

impl Ledger {
    /// Creates an empty ledger. A file that exists already is an error: it is of another run.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }

    /// Opens the ledger that another process created.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self { file, path })
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record of this process, by one system call.
    pub fn append(&self, task: u64, attempt: u32, event: Event) -> io::Result<()> {
        let line = format!("{}\n", Record { task, attempt, pid: std::process::id(), event });
        debug_assert!(line.len() < LINE_BYTES_MAX);
        let written = (&self.file).write(line.as_bytes())?;
        if written != line.len() {
            return Err(io::Error::new(ErrorKind::WriteZero, "the ledger took part of a record"));
        }
        Ok(())
    }

    /// Returns all records, in the order of their appending. A torn line is an error.
    pub fn read(&self) -> io::Result<Vec<Record>> {
        let text = fs::read_to_string(&self.path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(io::Error::new(ErrorKind::InvalidData, "the last record is torn"));
        }
        text.lines()
            .map(|line| {
                Record::parse(line).ok_or_else(|| {
                    io::Error::new(ErrorKind::InvalidData, format!("{line:?} is no record"))
                })
            })
            .collect()
    }

    /// Reads all records and compares them with the tasks that were submitted.
    pub fn judge(&self, submitted: &[u64]) -> io::Result<Verdict> {
        Ok(Verdict::new(submitted, &self.read()?))
    }
}

/// What the records say about the tasks submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many tasks were submitted.
    pub submitted: usize,
    /// How many begin records there are, strangers' included.
    pub begun: usize,
    /// How many end records there are, strangers' included.
    pub ended: usize,
    /// Submitted tasks that never began.
    pub never_begun: Vec<u64>,
    /// Submitted tasks that began and never ended.
    pub never_ended: Vec<u64>,
    /// Tasks that began more than once, with how often.
    pub begun_again: Vec<(u64, usize)>,
    /// Tasks that ended more than once, with how often.
    pub ended_again: Vec<(u64, usize)>,
    /// Tasks with an end of an attempt in a process where that attempt had not begun.
    pub ended_unbegun: Vec<u64>,
    /// Tasks with records that were never submitted.
    pub strangers: Vec<u64>,
    /// Tasks that were submitted twice: an error of the test.
    pub submitted_again: Vec<u64>,
}

/// What one task's records amount to.
#[derive(Debug, Default)]
struct Account {
    submitted: usize,
    begun: usize,
    ended: usize,
    /// Attempts that began and have not ended, with their processes.
    running: Vec<(u32, u32)>,
    ended_unbegun: bool,
}

impl Account {
    fn enter(&mut self, record: &Record) {
        let attempt = (record.attempt, record.pid);
        match record.event {
            Event::Begin => {
                self.begun += 1;
                self.running.push(attempt);
            }
            Event::End => {
                self.ended += 1;
                match self.running.iter().position(|&running| running == attempt) {
                    Some(index) => drop(self.running.swap_remove(index)),
                    None => self.ended_unbegun = true,
                }
            }
        }
    }
}

impl Verdict {
    fn new(submitted: &[u64], records: &[Record]) -> Self {
        let mut accounts = BTreeMap::<u64, Account>::new();
        for &task in submitted {
            accounts.entry(task).or_default().submitted += 1;
        }
        for record in records {
            accounts.entry(record.task).or_default().enter(record);
        }
        let mut verdict = Self { submitted: submitted.len(), ..Self::default() };
        for (&task, account) in &accounts {
            verdict.begun += account.begun;
            verdict.ended += account.ended;
            match (account.submitted, account.begun, account.ended) {
                (0, _, _) => verdict.strangers.push(task),
                (_, 0, _) => verdict.never_begun.push(task),
                (_, _, 0) => verdict.never_ended.push(task),
                _ => {}
            }
            if account.submitted > 1 {
                verdict.submitted_again.push(task);
            }
            if account.begun > 1 {
                verdict.begun_again.push((task, account.begun));
            }
            if account.ended > 1 {
                verdict.ended_again.push((task, account.ended));
            }
            if account.ended_unbegun {
                verdict.ended_unbegun.push(task);
            }
        }
        verdict
    }

    /// Tells whether each submitted task began once and ended once, and nothing else happened.
    pub fn is_exactly_once(&self) -> bool {
        let count = self.submitted;
        *self == Self { submitted: count, begun: count, ended: count, ..Self::default() }
    }

    /// Tells whether no task began more often than once and `retry_count` times again, nothing
    /// ended twice or without a begin, and there are no strangers. A task may have died.
    pub fn is_within_retries(&self, retry_count: usize) -> bool {
        self.begun_again.iter().all(|&(_, begun)| begun <= 1 + retry_count)
            && self.ended_again.is_empty()
            && self.ended_unbegun.is_empty()
            && self.strangers.is_empty()
            && self.submitted_again.is_empty()
    }
}
