"""Arrays and what holds them, for the tests of buffers, and what a task can see of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.sparse

LENGTH = 60_000
"""Items: with 8 bytes each just above what is a buffer."""

ARRAYS: dict[str, Callable[[], Any]] = {
    "float64": lambda: np.arange(float(LENGTH)),
    "float32": lambda: np.arange(2.0 * LENGTH, dtype="f4"),
    "int8": lambda: (np.arange(8 * LENGTH) % 100).astype("i1"),
    "bool": lambda: np.arange(8 * LENGTH) % 3 == 0,
    "complex": lambda: np.arange(LENGTH) * 1j,
    "long double": lambda: np.arange(LENGTH).astype(np.longdouble),
    "datetime": lambda: np.arange(LENGTH).astype("M8[s]"),
    "timedelta": lambda: np.arange(LENGTH).astype("m8[ns]"),
    "text": lambda: np.array([f"{x:06}" for x in range(LENGTH // 2)]),
    "bytes": lambda: np.array([b"%06d" % x for x in range(LENGTH)]),
    "void": lambda: np.zeros(LENGTH, "V7"),
    "structured": lambda: np.zeros(LENGTH, [("a", "<i4"), ("b", "<f8"), ("c", "S3")]),
    "aligned": lambda: np.zeros(LENGTH, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "two dimensions": lambda: np.arange(float(LENGTH)).reshape(300, 200),
    "Fortran": lambda: np.asfortranarray(np.arange(float(LENGTH)).reshape(300, 200)),
    "three dimensions": lambda: np.arange(float(LENGTH)).reshape(30, 20, 100),
    "one row": lambda: np.arange(float(LENGTH)).reshape(1, LENGTH),
    "transposed": lambda: np.arange(float(LENGTH)).reshape(300, 200).T,
    "a slice": lambda: np.arange(2.0 * LENGTH)[1000 : LENGTH + 1000],
    "every second": lambda: np.arange(2.0 * LENGTH)[::2],
    "backwards": lambda: np.arange(float(LENGTH))[::-1],
    "broadcast": lambda: np.broadcast_to(np.arange(200.0), (300, 200)),
    "read only": lambda: read_only(np.arange(float(LENGTH))),
    "unaligned": lambda: np.frombuffer(bytearray(8 * LENGTH + 1), "u1")[1:].view("f8"),
    "other order": lambda: np.arange(LENGTH, dtype=">i8"),
    "structured in another order": lambda: np.zeros(LENGTH, [("a", ">i4"), ("b", ">f8")]),
    "objects": lambda: np.array([[x] for x in range(300)] * 200, dtype=object),
    "with metadata": lambda: np.zeros(LENGTH, np.dtype("f8", metadata={"unit": "m"})),
    "scalar array": lambda: np.array(5.0),
    "empty": lambda: np.zeros((0, 5)),
    "small": lambda: np.arange(50.0),
    "masked": lambda: np.ma.masked_less(np.arange(float(LENGTH)), 10.0),
    "record array": lambda: np.rec.fromarrays([np.arange(LENGTH), np.arange(LENGTH) * 1.5]),
    "subclass": lambda: np.arange(float(LENGTH)).view(Labelled),
}


class Labelled(np.ndarray):
    """A class of the user's: it pickles itself."""


class Holder:
    """An object of the user's with arrays in it."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays
        self.name = "holder"


class Custom:
    """It has a pickler of its own, with arrays in what it gives."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        return Custom, (self.array,)


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def table() -> Any:
    numbers = np.arange(3.0 * LENGTH).reshape(LENGTH, 3)
    frame = pd.DataFrame(numbers, columns=["a", "b", "c"])
    frame["i"] = np.arange(LENGTH)
    frame["s"] = pd.Categorical([f"kind {x % 7}" for x in range(LENGTH)])
    return frame


HOLDERS: dict[str, Callable[[], Any]] = {
    "frame": table,
    "series": lambda: pd.Series(np.arange(float(LENGTH)), name="x"),
    "strings": lambda: pd.Series([f"word {x}" for x in range(LENGTH)]),
    "sparse": lambda: scipy.sparse.csr_matrix(
        (np.arange(float(LENGTH)), (np.arange(LENGTH), np.arange(LENGTH) % 50))
    ),
    "arrow": lambda: pa.table({"a": np.arange(LENGTH), "b": np.arange(float(LENGTH))}),
    "arrow array": lambda: pa.array([f"word {x}" for x in range(LENGTH)]),
    "arrow buffer": lambda: pa.py_buffer(b"x" * 8 * LENGTH),
    "arrow slice": lambda: pa.array(np.arange(2 * LENGTH))[10:-10],
    "holder": lambda: Holder(np.arange(float(LENGTH)), np.arange(LENGTH)),
    "custom": lambda: Custom(np.arange(float(LENGTH))),
    "dict": lambda: {"a": np.arange(float(LENGTH)), "b": [np.arange(LENGTH), list(range(5000))]},
}

EVERYTHING = {**ARRAYS, **HOLDERS}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def look(value: Any) -> Any:
    """What can be seen of an array, or of what holds arrays, as plain values."""
    if isinstance(value, np.ndarray):
        flags = value.flags
        body = digest(content(value))
        base = value.base
        return (
            type(value).__name__,
            str(value.dtype),
            str(value.dtype.metadata),
            value.dtype.isnative,
            value.shape,
            value.strides,
            [bool(flags[name]) for name in ("C", "F", "O", "W", "A", "X")],
            type(base).__name__,
            len(base) if isinstance(base, bytes) else None,
            body,
        )
    if isinstance(value, pd.DataFrame):
        blocks = [look(block.values) for block in value._mgr.blocks]
        return (
            "frame",
            list(value.columns),
            str(value.dtypes.to_dict()),
            digest(text(value)),
            blocks,
        )
    if isinstance(value, pd.Series):
        inner = look(value.array._ndarray) if hasattr(value.array, "_ndarray") else None
        return "series", value.name, str(value.dtype), digest(text(value)), inner
    if scipy.sparse.issparse(value):
        return "sparse", value.shape, look(value.data), look(value.indices), look(value.indptr)
    if isinstance(value, pa.Table):
        return "table", str(value.schema), [look(column.chunk(0)) for column in value.columns]
    if isinstance(value, pa.Array):
        return "array", str(value.type), len(value), [look(b) for b in value.buffers()]
    if isinstance(value, pa.Buffer):
        return "buffer", value.size, value.is_mutable, digest(value.to_pybytes())
    if isinstance(value, Holder):
        return "holder", value.name, [look(array) for array in value.arrays]
    if isinstance(value, Custom):
        return "custom", look(value.array)
    if isinstance(value, dict):
        return {key: look(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [look(inner) for inner in value]
    return value


def content(array: Any) -> bytes:
    if array.dtype == object:
        return repr(array.ravel()[:3].tolist()).encode()
    # A long double has bytes that mean nothing.
    return bytes((array.astype(float) if array.dtype == np.longdouble else array).tobytes())


def text(frame: Any) -> bytes:
    return str(frame.iloc[::500].to_csv()).encode()


def spoil(value: Any) -> None:
    """Write into each array that can be written, its base included."""
    if isinstance(value, np.ndarray):
        if value.size and value.flags.writeable and value.dtype.kind in "fiub":
            value.ravel("K")[:1] = 1
            flat = value.reshape(-1)
            flat[-1] = 1
            flat[flat.size // 2] = 1
    elif isinstance(value, Holder):
        for array in value.arrays:
            spoil(array)
    elif isinstance(value, Custom):
        spoil(value.array)
    elif isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
    elif isinstance(value, list):
        for inner in value:
            spoil(inner)
    elif isinstance(value, pd.DataFrame):
        value.iloc[0, 0] = 1
        value.iloc[-1, 1] = 1
    elif scipy.sparse.issparse(value):
        spoil(value.data)
