//! What has come back of a job.

use std::collections::{HashMap, VecDeque};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyList;

/// What has come back.
pub(crate) enum Back {
    Single { outcome: Option<Outcome> },
    Chunks(Box<Chunks>),
    Stream(Box<Stream>),
}

/// Results of a map.
pub(crate) struct Chunks {
    pub(crate) chunk_len: u64,
    pub(crate) values: Py<PyList>,
    /// How many items were promised.
    pub(crate) len: usize,
    /// Chunks that are not back; items, if the sizes of chunks are measured.
    pub(crate) left: u64,
    pub(crate) failure: Option<Py<PyAny>>,
}

/// Success, and the value or the error.
pub(crate) type Outcome = (bool, Py<PyAny>);

/// Results of an `imap`, as far as they were not taken.
pub(crate) struct Stream {
    pub(crate) is_ordered: bool,
    /// The most tasks out whose results were not taken.
    pub(crate) buffer_len: Option<u64>,
    pub(crate) items: VecDeque<Outcome>,
    pub(crate) unsorted: HashMap<u64, Outcome>,
    pub(crate) index: u64,
    pub(crate) taken: u64,
    pub(crate) length: Option<u64>,
    pub(crate) broken: Option<Py<PyAny>>,
}

impl Back {
    /// Moves what the collector may take into `dropped`. A map's list goes with the job itself.
    pub(crate) fn clear(&mut self, dropped: &mut Vec<Py<PyAny>>) {
        match self {
            Self::Single { outcome } => dropped.extend(outcome.take().map(|(_, value)| value)),
            Self::Chunks(chunks) => dropped.extend(chunks.failure.take()),
            Self::Stream(stream) => {
                dropped.extend(std::mem::take(&mut stream.items).into_iter().map(|(_, it)| it));
                let unsorted = std::mem::take(&mut stream.unsorted);
                dropped.extend(unsorted.into_values().map(|(_, it)| it));
                dropped.extend(stream.broken.take());
            }
        }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Single { outcome } => {
                if let Some((_, value)) = outcome {
                    visit.call(value)?;
                }
            }
            Self::Chunks(chunks) => {
                visit.call(&chunks.values)?;
                visit.call(&chunks.failure)?;
            }
            Self::Stream(stream) => {
                for (_, value) in stream.items.iter().chain(stream.unsorted.values()) {
                    visit.call(value)?;
                }
                visit.call(&stream.broken)?;
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Puts one task's end where it belongs.
    pub(crate) fn put(&mut self, index: u64, outcome: Outcome) {
        if !self.is_ordered {
            self.items.push_back(outcome);
            self.index += 1;
            return;
        }
        if index != self.index {
            self.unsorted.insert(index, outcome);
            return;
        }
        self.items.push_back(outcome);
        self.index += 1;
        while let Some(outcome) = self.unsorted.remove(&self.index) {
            self.items.push_back(outcome);
            self.index += 1;
        }
    }
}
