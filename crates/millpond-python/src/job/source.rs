//! Where a job's tasks come from.

use std::collections::VecDeque;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyIterator;

/// Where the job's tasks come from.
pub(crate) enum Source {
    /// One call.
    Single { func: Py<PyAny>, args: Py<PyAny>, kwds: Py<PyAny> },
    /// The iterator of an exact list, tuple or range: drawing from it runs nothing of the user's.
    Items(Box<Items>),
    /// A feeder thread draws and offers.
    Offered(Box<Offered>),
    /// All tasks are published.
    Exhausted,
}

/// The items of a job, as they are drawn.
pub(crate) struct Items {
    pub(crate) func: Py<PyAny>,
    pub(crate) iterator: Py<PyIterator>,
    pub(crate) drawn: Option<Py<PyAny>>,
    pub(crate) chunk_len: usize,
}

/// The items of a job that were offered.
pub(crate) struct Offered {
    pub(crate) func: Py<PyAny>,
    pub(crate) offers: VecDeque<Offer>,
    pub(crate) is_closed: bool,
}

/// What a feeder has drawn: an item or a chunk, or the error that the iterable raised.
pub(crate) enum Offer {
    Item(Py<PyAny>),
    /// Items that were gathered and could not be published yet.
    Chunk(Py<PyAny>),
    Raise(Py<PyAny>),
}

impl Source {
    /// Ends the source, and returns what it held, to be dropped where Python may run.
    pub(crate) fn clear(&mut self) -> Vec<Py<PyAny>> {
        match std::mem::replace(self, Self::Exhausted) {
            Self::Single { func, args, kwds } => vec![func, args, kwds],
            Self::Items(items) => {
                let mut all = vec![items.func, items.iterator.into_any()];
                all.extend(items.drawn);
                all
            }
            Self::Offered(offered) => {
                let mut all = vec![offered.func];
                all.extend(offered.offers.into_iter().map(|offer| match offer {
                    Offer::Item(object) | Offer::Chunk(object) | Offer::Raise(object) => object,
                }));
                all
            }
            Self::Exhausted => Vec::new(),
        }
    }

    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Single { func, args, kwds } => {
                visit.call(func)?;
                visit.call(args)?;
                visit.call(kwds)?;
            }
            Self::Items(items) => {
                visit.call(&items.func)?;
                visit.call(&items.iterator)?;
                visit.call(&items.drawn)?;
            }
            Self::Offered(offered) => {
                visit.call(&offered.func)?;
                for Offer::Item(object) | Offer::Chunk(object) | Offer::Raise(object) in
                    &offered.offers
                {
                    visit.call(object)?;
                }
            }
            Self::Exhausted => {}
        }
        Ok(())
    }
}

/// What a job's source gives.
pub(crate) enum Draw {
    /// One call; it stays in the source until the job is exhausted.
    Call { func: Py<PyAny>, args: Py<PyAny>, kwds: Py<PyAny> },
    /// One item, or one chunk of them.
    Item { func: Py<PyAny>, item: Py<PyAny> },
    /// The error that the iterable raised.
    Raise { error: Py<PyAny> },
    /// The feeder has nothing yet.
    Empty,
    /// `buffersize` holds the job back.
    Full,
    /// There is nothing more.
    Exhausted,
}
