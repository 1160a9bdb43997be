"""Proofs of random graphs, against a comparison by identity written in Python."""

from __future__ import annotations

import pickle
from types import MethodType
from typing import Any

import numpy as np
from exactness.graph_material import (
    Child,
    MySet,
    MyText,
    Pair,
    Plain,
    Point,
    Proof,
    Slots,
    assert_changed,
    assert_holds,
)
from hypothesis import given, settings
from hypothesis import strategies as st

atoms = st.one_of(st.integers(), st.text(max_size=3), st.none(), st.floats(), st.binary(max_size=3))
graphs = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=4),
        st.builds(lambda a, b: Plain(a=a, b=b), inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Slots, inner, inner),
        st.sets(st.integers(), max_size=4),
        st.sets(st.integers(), max_size=4).map(MySet),
        st.text(max_size=4).map(MyText),
        st.builds(Pair, inner, inner),
        st.builds(lambda a: Child(a=a).method, inner),
        st.binary(max_size=4).map(bytearray),
        st.binary(max_size=4).map(lambda raw: np.frombuffer(bytearray(raw), "u1")),
    ),
    max_leaves=25,
)


def picture(root: Any) -> tuple[list[Any], list[Any]]:
    """What a graph is made of, by identity; and the objects, so that no id is used twice."""
    seen: dict[int, None] = {}
    queue, held = [root], []
    rows: list[Any] = []
    for node in queue:
        if id(node) in seen:
            continue
        seen[id(node)] = None
        held.append(node)
        children: list[Any] = []
        if type(node) in (list, tuple, Pair):
            children = list(node)
        elif type(node) is dict:
            children = [part for item in node.items() for part in item]
        elif type(node) in (set, MySet):
            children = [*node, *([vars(node)] if type(node) is MySet else [])]
        elif type(node) is MethodType:
            children = [node.__self__]
        elif type(node) in (bytearray, np.ndarray):
            rows.append(bytes(node))
        elif isinstance(node, Slots):
            children = [node.x, node.y]
        elif isinstance(node, Plain | Point):
            children = [vars(node)]
        rows.append((id(node), type(node), [id(child) for child in children]))
        held.extend(children)
        queue.extend(children)
    return rows, held


def containers(root: Any) -> list[Any]:
    _, held = picture(root)
    kinds = (list, dict, set, bytearray, np.ndarray, Plain, Point, Slots)
    unique = {id(one): one for one in [root, *held] if isinstance(one, kinds)}
    return list(unique.values())


def mutate(node: Any, value: Any, others: list[Any]) -> None:
    if isinstance(node, list):
        node.insert(len(node) // 2, value) if len(node) % 2 else node.append(others[0])
    elif isinstance(node, dict):
        node["changed"] = value
    elif isinstance(node, set):
        node.symmetric_difference_update({7})
    elif isinstance(node, bytearray):
        node.append(1)
    elif isinstance(node, np.ndarray):
        node += 1
    elif isinstance(node, Slots | Point):
        node.x = value
    else:
        node.a = others[-1]


@settings(max_examples=300, deadline=None)
@given(root=graphs, extra=graphs, is_worker=st.booleans(), data=st.data())
def test_a_proof_holds_just_when_nothing_has_changed(
    root: Any, extra: Any, is_worker: bool, data: st.DataObject
) -> None:
    root = [[pickle.loads(pickle.dumps(root))]]
    nodes = containers(root[0])
    if len(nodes) > 1 and data.draw(st.booleans()):
        # An edge more: sharing, or a cycle.
        root[0].append(nodes[data.draw(st.integers(0, len(nodes) - 1))])
    del nodes
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    before, held = picture(root[0])
    # By number: what is drawn itself gets a weak reference.
    all_nodes = containers(root[0])
    chosen = all_nodes[data.draw(st.integers(0, len(all_nodes) - 1))]
    mutate(chosen, extra, all_nodes)
    del all_nodes
    after, _ = picture(root[0])
    del chosen
    if before != after:
        assert_changed(proof, root)
    elif not is_worker:
        assert_holds(proof, root)
    del held
    root[0].clear()
