"""Products, sums and moves along axes of tensors that stay whole (`vectors`).

Each function gives None where the elements have to do it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ndl.compiler.kernels.arrays import dense, dense_t, element, extent, mapped, total
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.vectors import WIDE, Deferred, Held, Vector, elementwise, is_wide, whole
from ndl.compiler.kernels.views import View, collect, view
from numpy.typing import NDArray

LARGE = 256
"""Entries of a matrix beyond which its product stays whole, however few results it has."""

MOST = 4096
"""Places of a product that is neither of a weight's matrix nor elementwise."""


def moved(code: Code, x: Any, places: NDArray[Any]) -> Any:
    """The tensor whose entries are elements of `x` at these places."""
    if not _array(x):
        return None
    array, seen = whole(code, x), View.matching(places)
    if seen is not None and places.size >= WIDE:
        return Vector(view(code, array, seen), places.shape)
    out = np.empty(places.size, dtype=object)
    out[:] = [element(code, array, int(k)) for k in places.flat]
    return out.reshape(places.shape)


def joined(code: Code, parts: Sequence[Any], places: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> Any:
    """The tensor of this shape that has the parts at these places."""
    views = [View.matching(p) for p in places]
    size = math.prod(shape)
    if size < WIDE or any(isinstance(p, Deferred) for p in parts):
        return None
    known = [v for v in views if v is not None]
    if len(known) < len(views):
        return None
    return Vector(collect(code, [whole(code, p) for p in parts], known, size), shape)


def summed(code: Code, x: Any, axes: Sequence[int], mean: bool) -> Any:
    """The sum, or the mean, over axes."""
    if not _array(x):
        return None
    kept = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    size = math.prod(kept)
    array = whole(code, x)
    if size == 1:
        found = total(code, array)
        return _one(code.op("div", found, float(x.size)) if mean else found)
    places = np.broadcast_to(np.arange(size).reshape(kept), x.shape)
    made = Vector(
        collect(code, [array], [View.of(places)], size),
        tuple(n for k, n in enumerate(x.shape) if k not in axes),
    )
    share = np.array(code.const(size / x.size), dtype=object)
    return elementwise(code, "mul", [made, share]) if mean else made


def product(code: Code, equation: str, operands: Sequence[Any]) -> Any:
    """What `einsum` gives."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if any(isinstance(o, Deferred) for o in operands):
        return None
    if len(terms) == 2:
        for k in (0, 1):
            found = _by_matrix(code, (terms[k], terms[1 - k]), (operands[k], operands[1 - k]), right)
            if found is not None:
                return found
    return _everywhere(code, terms, operands, right)


def _by_matrix(code: Code, terms: Sequence[str], operands: Sequence[Any], right: str) -> Any:
    """A weight's matrix times each column of a tensor."""
    (first, second), (a, x) = terms, operands
    if not isinstance(a, Held) or len(first) != 2 or len(set(second)) < len(second):
        return None
    met = [c for c in first if c in second and c not in right]
    free = [c for c in first if c not in second and c in right]
    beside = [c for c in second if c not in met]
    if len(met) != 1 or len(free) != 1 or not set(beside) <= set(right):
        return None
    n = _extents(terms, operands)
    if not isinstance(x, Vector) and a.size <= LARGE and math.prod(n[c] for c in right) < WIDE:
        return None
    times = dense if first.index(met[0]) == 1 else dense_t
    places = np.arange(math.prod(n[c] for c in right)).reshape([n[c] for c in right])
    ordered = np.transpose(places, [right.index(c) for c in (*beside, free[0])]).reshape(-1, n[free[0]])
    columns = _columns(code, x, [second.index(c) for c in (*beside, met[0])])
    made = [times(code, a.matrix, column) for column in columns]
    shape = tuple(n[c] for c in right)
    if len(made) == 1:
        return Vector(made[0], shape)
    return Vector(collect(code, made, [View.of(p) for p in ordered], places.size), shape)


def _columns(code: Code, x: Any, order: Sequence[int]) -> list[Value]:
    """Arrays along the last of the axes in this order."""
    if _array(x):
        array = whole(code, x)
        places = np.transpose(np.arange(x.size).reshape(x.shape), order).reshape(-1, x.shape[order[-1]])
        return [view(code, array, View.of(p)) for p in places]
    x = _spread(x)
    rows = np.transpose(x, order).reshape(-1, x.shape[order[-1]])
    return [whole(code, r) for r in rows]


def _everywhere(code: Code, terms: Sequence[str], operands: Sequence[Any], right: str) -> Any:
    """The factors in each place of all axes, multiplied there and summed."""
    n = _extents(terms, operands)
    axes = [*right, *(c for c in n if c not in right)]
    size = math.prod(n.values())
    if (
        size > MOST
        or not any(_array(o) for o in operands)
        or any(isinstance(o, Held) and not is_wide(o) for o in operands)
    ):
        return None
    found = [_seen(code, o, _strides(term, n), axes, n) for term, o in zip(terms, operands)]

    def place(*factors: Value) -> list[Value]:
        first, *more = factors
        for f in more:
            first = code.op("mul", first, f)
        return [first]

    made = found[0] if len(found) == 1 else mapped(code, found, size, place)[0]
    shape = tuple(n[c] for c in right)
    whole_size = math.prod(shape)
    if whole_size == 1:
        value = total(code, made) if extent(made) > 1 else None
        return None if value is None else _one(value).reshape(shape)
    places = np.arange(whole_size).reshape(shape + (1,) * (len(axes) - len(right)))
    seen = View.of(np.broadcast_to(places, [n[c] for c in axes]))
    return Vector(collect(code, [made], [seen], whole_size), shape)


def _extents(terms: Sequence[str], operands: Sequence[Any]) -> dict[str, int]:
    return {c: k for term, o in zip(terms, operands) for c, k in zip(term, o.shape)}


def _strides(term: str, n: Mapping[str, int]) -> dict[str, int]:
    """How far apart the entries of a tensor are along each of its axes; of a diagonal, along all at once."""
    found, across = dict.fromkeys(term, 0), 1
    for c in reversed(term):
        found[c] += across
        across *= n[c]
    return found


def _seen(code: Code, x: Any, strides: Mapping[str, int], axes: Sequence[str], n: Mapping[str, int]) -> Value:
    if not isinstance(x, (Vector, Held)) and x.size == 1:
        return x.item()  # type: ignore[no-any-return]
    seen = View(tuple(n[c] for c in axes), tuple(strides.get(c, 0) for c in axes))
    return view(code, whole(code, x), seen)


def _array(x: Any) -> bool:
    return isinstance(x, Vector) or is_wide(x)


def _spread(x: Any) -> Any:
    return x.load() if isinstance(x, Held) else x


def _one(value: Value) -> Any:
    return np.array(value, dtype=object)
