"""Shape ops, reductions and contractions on arrays of expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp
from ndl.compiler.symbolic.functions import Maximum, Minimum

Cells = npt.NDArray[Any]
Rule = Callable[[Sequence[Cells], Mapping[str, Any]], Cells | None]


def integers(shape: Sequence[Any]) -> tuple[int, ...]:
    """A shape whose entries may be constant `Dim`s."""
    return tuple(n if isinstance(n, int) else int(n.constant) for n in shape)


def boxed(value: Any) -> Cells:
    """An array of a scalar that numpy has taken out of its array."""
    if isinstance(value, np.ndarray):
        return value
    cells = np.empty((), dtype=object)
    cells[()] = value
    return cells


def expand(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    shape, axes = integers(attributes["shape"]), tuple(attributes["axes"])
    own = [shape[i] if i in axes else 1 for i in range(len(shape))]
    return np.broadcast_to(operands[0].reshape(own), shape)


def take(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    return boxed(operands[0].take(attributes["at"], axis=attributes["axis"]))


def cut(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    window = [slice(None)] * operands[0].ndim
    window[attributes["axis"]] = slice(attributes["start"], attributes["stop"])
    return operands[0][tuple(window)]


def gather(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells | None:
    """Only along known indices."""
    if not all(e.is_Integer for e in operands[1].flat):
        return None
    where = operands[1].astype(int)
    return operands[0].take(where, axis=attributes.get("axis", 0))


def diagonal(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    """A matrix with a vector on its diagonal."""
    n = len(operands[0])
    cells = np.full((n, n), sp.S.Zero, dtype=object)
    for i in range(n):
        cells[i, i] = operands[0][i]
    return cells


LAYOUTS: dict[str, Rule] = {
    "expand": expand,
    "reshape": lambda cells, a: cells[0].reshape(integers(a["shape"])),
    "permute": lambda cells, a: cells[0].transpose(tuple(a["axes"])),
    "slice": cut,
    "index": take,
    "gather": gather,
    "diag": diagonal,
    "stack": lambda cells, a: np.stack(list(cells), axis=a["axis"]),
    "concat": lambda cells, a: np.concatenate(list(cells), axis=a["axis"]),
}
"""Ops that only move components."""


def folded(combine: Callable[[Sequence[Any]], Any]) -> Rule:
    """A reduction over `axes` (all of them when absent) by a function of the list of components."""

    def rule(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
        (cells,) = operands
        chosen = attributes.get("axes")
        axes = range(cells.ndim) if chosen is None else [axis % cells.ndim for axis in chosen]
        kept = [axis for axis in range(cells.ndim) if axis not in axes]
        moved = cells.transpose([*kept, *axes])
        shape = moved.shape[: len(kept)]
        result = np.empty(shape, dtype=object)
        for place in np.ndindex(shape):
            result[place] = combine(list(boxed(moved[place]).flat))
        return result

    return rule


def mean(items: Sequence[Any]) -> Any:
    return sp.Add(*items) / len(items)


def chained(head: Any) -> Callable[[Sequence[Any]], Any]:
    """A binary head over several components, from the left."""

    def combine(items: Sequence[Any]) -> Any:
        result = items[0]
        for item in items[1:]:
            result = head(result, item)
        return result

    return combine


def contract(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    """The last axis of the first operand with the first of the second."""
    a, b = operands
    result = np.empty(a.shape[:-1] + b.shape[1:], dtype=object)
    for left in np.ndindex(a.shape[:-1]):
        for right in np.ndindex(b.shape[1:]):
            terms = [a[(*left, k)] * b[(k, *right)] for k in range(b.shape[0])]
            result[left + right] = sp.Add(*terms)
    return result


def einsum(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells | None:
    """Sum of products as `equation` says; small extents only."""
    left, _, right = attributes["equation"].replace(" ", "").partition("->")
    labels = left.split(",")
    if "." in left or len(labels) != len(operands):
        return None
    extent = {c: n for label, cells in zip(labels, operands) for c, n in zip(label, cells.shape)}
    summed = sorted(set(extent) - set(right))
    if np.prod([extent[c] for c in (*right, *summed)], dtype=int) > 4096:
        return None
    result = np.empty([extent[c] for c in right], dtype=object)
    for place in np.ndindex(result.shape):
        terms = []
        for inner in product(*(range(extent[c]) for c in summed)):
            at = dict(zip((*right, *summed), (*place, *inner)))
            factors = [cells[tuple(at[c] for c in label)] for label, cells in zip(labels, operands)]
            terms.append(sp.Mul(*factors))
        result[place] = sp.Add(*terms)
    return result


def running(operands: Sequence[Cells], attributes: Mapping[str, Any]) -> Cells:
    return np.cumsum(operands[0], axis=attributes["axis"])


REDUCTIONS: dict[str, Rule] = {
    "sum": folded(lambda items: sp.Add(*items)),
    "prod": folded(lambda items: sp.Mul(*items)),
    "mean": folded(mean),
    "amax": folded(chained(Maximum)),
    "amin": folded(chained(Minimum)),
    "cumsum": running,
    "matmul": contract,
    "einsum": einsum,
}
