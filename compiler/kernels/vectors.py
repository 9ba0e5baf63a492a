"""Tensors that stay whole: what functions of the graph IR compute on arrays instead of on each element.

A product of a weight and a vector stays one where its code would be long, as does what is computed place by
place with a weight of some size. What follows from them stays an array as long as it is elementwise, or moves
along axes (`tensors`). Everything else sees the elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.kernels.arrays import Matrix, elements, extent, mapped, pack, row
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value, extent_of
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.views import View, view

WIDE = 16
"""Entries of a weight from which on it stays whole."""


@dataclass(frozen=True)
class Vector:
    """An array of the kernel, whose elements stand in the order of a tensor of this shape."""

    value: Value
    shape: tuple[int, ...]

    @staticmethod
    def flat(value: Value) -> Vector:
        return Vector(value, (extent(value),))

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Deferred:
    """An elementwise operation that no array holds, such as a comparison: computed where it is used."""

    name: str
    operands: tuple[Any, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Held:
    """A weight that nobody has loaded yet; `load` gives its entries."""

    shape: tuple[int, ...]
    buffer: str
    at: int
    load: Callable[[], Any]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def matrix(self) -> Matrix:
        return Matrix(self.buffer, self.at, *self.shape)


WHOLE = (Vector, Deferred, Held)


def is_wide(x: Any) -> bool:
    """Whether this is a weight that is better read as a whole than entry by entry."""
    return isinstance(x, Held) and x.size >= WIDE


def spread(code: Code, x: Any) -> Any:
    """The elements of a value, each on its own."""
    if isinstance(x, Held):
        return x.load()
    if isinstance(x, Deferred):
        operands = [_places(code, o, x.shape) for o in x.operands]
        return _objects([code.op(x.name, *at) for at in zip(*(o.flat for o in operands))], x.shape)
    return _objects(elements(code, x.value), x.shape) if isinstance(x, Vector) else x


def _places(code: Code, x: Any, shape: tuple[int, ...]) -> Any:
    """What an operand of something deferred is at each place."""
    if isinstance(x, Value) and extent_of(x.type) is not None:
        return _objects(elements(code, x), shape)
    return np.broadcast_to(np.asarray(spread(code, x), dtype=object), shape)


def _objects(values: Sequence[Value], shape: tuple[int, ...]) -> Any:
    out = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out.reshape(shape)


# ---------------------------------------------------------------- elementwise


def elementwise(code: Code, name: str, operands: Sequence[Any]) -> Any:
    """An elementwise operation where an operand is an array; None where the elements have to do it."""
    shape = next((o.shape for o in operands if isinstance(o, (Vector, Deferred)) or is_wide(o)), None)
    if shape is None or any(isinstance(o, Held) and o.shape != shape for o in operands):
        return None
    given = tuple(_operand(code, o) for o in operands)
    types = ["bool" if isinstance(g, Deferred) else "bool" if _is_bool(g) else "real" for g in given]
    if any(_is_bool(g) for g in given):
        return None
    deferred = Deferred(name, given, shape)
    if TABLE[name].type(types) == "bool":
        return deferred
    return Vector(evaluated(code, deferred), shape)


def _is_bool(given: Any) -> bool:
    return isinstance(given, Value) and given.type == "bool"


def _operand(code: Code, x: Any) -> Any:
    """An array, a real for every place, or what is deferred."""
    if isinstance(x, Deferred):
        return x
    if isinstance(x, WHOLE):
        return whole(code, x)
    x = np.asarray(x, dtype=object)
    return x.flat[0] if len(set(x.flat)) == 1 else whole(code, x)


def whole(code: Code, x: Any) -> Value:
    """A tensor as an array of the kernel."""
    if isinstance(x, Held):
        return row(code, x.buffer, x.at, x.size)
    if isinstance(x, Vector):
        return x.value
    number = {v: k for k, v in enumerate(dict.fromkeys(x.flat))}
    seen = View.matching(np.array([number[v] for v in x.flat]).reshape(x.shape))
    if seen is None or 2 * len(number) > x.size:
        return pack(code, list(x.flat))
    return view(code, pack(code, list(number)), seen)


def evaluated(code: Code, x: Deferred) -> Value:
    """The map of an operation with all that was deferred in it."""
    args = list(dict.fromkeys(_leaves(x)))

    def place(*given: Value) -> list[Value]:
        return [_at(code, x, dict(zip(args, given)))]

    return mapped(code, args, math.prod(x.shape), place)[0]


def _leaves(x: Any) -> list[Value]:
    return [leaf for o in x.operands for leaf in _leaves(o)] if isinstance(x, Deferred) else [x]


def _at(code: Code, x: Any, given: Mapping[Value, Value]) -> Value:
    if isinstance(x, Deferred):
        return code.op(x.name, *(_at(code, o, given) for o in x.operands))
    return given[x]
