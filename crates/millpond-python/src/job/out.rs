//! What is still to go out of a job.

use std::collections::VecDeque;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyTuple};

use super::back::{Back, Chunks};
use super::source::{Draw, Items, Offer, Offered, Source};
use super::{Inner, Job, Told};

impl Job {
    pub(super) fn source(
        func: Py<PyAny>,
        iterator: Option<Py<PyIterator>>,
        chunk_len: usize,
    ) -> Source {
        match iterator {
            Some(iterator) => {
                Source::Items(Box::new(Items { func, iterator, drawn: None, chunk_len }))
            }
            None => {
                let offers = VecDeque::new();
                Source::Offered(Box::new(Offered { func, offers, is_closed: false }))
            }
        }
    }

    pub(super) fn push_offer(&self, offer: Offer) {
        let mut inner = self.lock();
        let refused = match &mut inner.source {
            Source::Offered(offered) => {
                offered.offers.push_back(offer);
                None
            }
            // The job was abandoned meanwhile.
            _ => Some(offer),
        };
        drop(inner);
        drop(refused);
    }

    /// All tasks are published, `count` of them: a stream has a length from now on, and a map that
    /// was promised more chunks than its iterable gave is not left waiting for them.
    /// `raised` tells that the last of them carries the error that the iterable raised.
    pub(crate) fn exhaust(&self, py: Python<'_>, count: u64, raised: bool) -> Told {
        // Made before the lock is taken: to make an exception can run a collection.
        let promised = self.promised();
        let given = self.lock().measured.as_ref().map_or(count, |sizes| sizes.drawn_count());
        let shortfall =
            promised.filter(|&(_, chunks)| chunks > given && !raised).map(|(len, _)| {
                let text = format!("the iterable gave fewer items than its len() of {len}");
                PyValueError::new_err(text).into_value(py).into_any()
            });
        let mut inner = self.lock();
        let dropped = inner.source.clear();
        if inner.is_abandoned {
            // It has told of its end.
            drop(inner);
            drop(dropped);
            return Told::Nothing;
        }
        let is_complete = match &mut inner.back {
            Back::Single { .. } => false,
            Back::Chunks(chunks) => {
                let Chunks { left, failure, .. } = &mut **chunks;
                let missing = promised.map_or(0, |(_, chunks)| chunks.saturating_sub(given));
                *left = left.saturating_sub(missing);
                if failure.is_none() {
                    *failure = shortfall;
                }
                missing > 0 && *left == 0
            }
            Back::Stream(stream) => {
                stream.length = Some(count);
                stream.index == count
            }
        };
        let told = if is_complete { inner.settle(true) } else { Told::Nothing };
        drop(inner);
        drop(dropped);
        told
    }

    /// Returns the length in items and in chunks that a map was promised.
    fn promised(&self) -> Option<(u64, u64)> {
        match &self.lock().back {
            Back::Chunks(chunks) => {
                let len = chunks.len as u64;
                Some((len, len.div_ceil(chunks.chunk_len.max(1))))
            }
            _ => None,
        }
    }

    /// Takes the next task out of the job's source, without counting it as published. Only the
    /// thread with the dispatcher's role calls this.
    pub(crate) fn draw(&self, py: Python<'_>) -> PyResult<Draw> {
        let (func, iterator, chunk_len) = {
            let mut inner = self.lock();
            if inner.is_full() {
                return Ok(Draw::Full);
            }
            let measured_len = inner.measured.as_ref().map(|sizes| sizes.next_len());
            match &mut inner.source {
                Source::Exhausted => return Ok(Draw::Exhausted),
                Source::Single { func, args, kwds } => {
                    return Ok(Draw::Call {
                        func: func.clone_ref(py),
                        args: args.clone_ref(py),
                        kwds: kwds.clone_ref(py),
                    });
                }
                Source::Offered(offered) => {
                    let Offered { func, offers, is_closed } = &mut **offered;
                    let func = func.clone_ref(py);
                    if let Some(len) = measured_len
                        && let gathered = gather(offers, len)
                        && !gathered.is_empty()
                    {
                        drop(inner);
                        let item = PyTuple::new(py, gathered)?.into_any().unbind();
                        return Ok(Draw::Item { func, item });
                    }
                    return Ok(match offers.pop_front() {
                        Some(Offer::Item(item) | Offer::Chunk(item)) => Draw::Item { func, item },
                        Some(Offer::Raise(error)) => Draw::Raise { error },
                        None if *is_closed => Draw::Exhausted,
                        None => Draw::Empty,
                    });
                }
                Source::Items(items) => {
                    let Items { func, iterator, drawn, chunk_len } = &mut **items;
                    if let Some(item) = drawn.take() {
                        return Ok(Draw::Item { func: func.clone_ref(py), item });
                    }
                    let chunk_len = measured_len.unwrap_or(*chunk_len);
                    (func.clone_ref(py), iterator.clone_ref(py), chunk_len)
                }
            }
        };
        // The lock is not held: a collection may run when a tuple is made.
        let mut items = iterator.into_bound(py);
        if chunk_len == 0 {
            return Ok(match items.next() {
                Some(item) => Draw::Item { func, item: item?.unbind() },
                None => Draw::Exhausted,
            });
        }
        let chunk = items.take(chunk_len).collect::<PyResult<Vec<_>>>()?;
        if chunk.is_empty() {
            return Ok(Draw::Exhausted);
        }
        Ok(Draw::Item { func, item: PyTuple::new(py, chunk)?.into_any().unbind() })
    }

    /// Puts a task back that was drawn and could not be published yet.
    pub(crate) fn put_back(&self, item: Py<PyAny>, is_error: bool) {
        let mut inner = self.lock();
        let is_measured = inner.measured.is_some();
        let refused = match &mut inner.source {
            Source::Items(items) => items.drawn.replace(item),
            Source::Offered(offered) => {
                offered.offers.push_front(match (is_error, is_measured) {
                    (true, _) => Offer::Raise(item),
                    (false, true) => Offer::Chunk(item),
                    (false, false) => Offer::Item(item),
                });
                None
            }
            _ => Some(item),
        };
        drop(inner);
        drop(refused);
    }

    /// Counts a task as published and returns its index; `None` if the job was ended by hand, perhaps by
    /// code that ran while the task was pickled, and nothing more of it may go out. `item_count` is that
    /// of its chunk.
    pub(crate) fn count_published(&self, item_count: usize) -> Option<u64> {
        let mut inner = self.lock();
        if inner.is_abandoned {
            return None;
        }
        if let Some(measured) = &mut inner.measured {
            measured.published(item_count as u64);
        }
        inner.next_index += 1;
        Some(inner.next_index - 1)
    }

    /// Tells whether the sizes of its chunks are measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.lock().measured.is_some()
    }

    /// Notes for how long a task ran.
    pub(crate) fn ran(&self, index: u64, time: Duration) {
        if let Some(measured) = &mut self.lock().measured {
            measured.ran(index, time);
        }
    }

    /// Returns how many tasks are published.
    pub(crate) fn published(&self) -> u64 {
        self.lock().next_index
    }
}

/// Takes the items that were offered so far, at most so many.
fn gather(offers: &mut VecDeque<Offer>, len_max: usize) -> Vec<Py<PyAny>> {
    let is_item = |offer: &Offer| matches!(offer, Offer::Item(_));
    let len = offers.iter().take(len_max).take_while(|offer| is_item(offer)).count();
    let taken = offers.drain(..len);
    taken
        .filter_map(|offer| if let Offer::Item(item) = offer { Some(item) } else { None })
        .collect()
}

impl Inner {
    pub(crate) fn is_full(&self) -> bool {
        let Back::Stream(stream) = &self.back else { return false };
        stream.buffer_len.is_some_and(|most| self.next_index - stream.taken >= most)
    }
}
