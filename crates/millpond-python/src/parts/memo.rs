//! Pickle's memo of a part: which number each of its nodes has.

use std::collections::HashMap;
use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::graph::NoCollection;
use crate::names::Names;
use crate::pack::Packer;

/// Returns the numbers of a part's nodes, which are made when they are first asked for.
pub(super) fn memo_numbers<'a>(
    py: Python<'_>,
    memo: &'a OnceLock<HashMap<usize, u32>>,
    roots: &[Py<PyAny>],
) -> PyResult<&'a HashMap<usize, u32>> {
    if let Some(numbers) = memo.get() {
        return Ok(numbers);
    }
    let numbers = memo_of(py, roots)?;
    Ok(memo.get_or_init(|| numbers))
}

/// Returns address and number in the memo of all that is remembered when the roots of a part are
/// pickled. They are pickled once more, as they were when they were stored: the part has been proved
/// at this moment, and pickling it runs nothing of the user's.
fn memo_of(py: Python<'_>, roots: &[Py<PyAny>]) -> PyResult<HashMap<usize, u32>> {
    let _still = NoCollection::begin(py);
    let mut packer = Packer::new(py, &Names::get(py)?.connection)?;
    let memo = packer.memo_of(PyTuple::new(py, roots)?.as_any())?;
    let mut numbers = HashMap::with_capacity(memo.len());
    for (address, entry) in memo.iter() {
        let (number, _object): (u32, Bound<'_, PyAny>) = entry.extract()?;
        numbers.insert(address.extract()?, number);
    }
    Ok(numbers)
}
