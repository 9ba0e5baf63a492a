"""Vectors that stay whole: what functions of the graph IR compute on arrays instead of on each element.

A product of a weight and a vector stays one where its code would be long, and what follows from it stays an
array as long as it is elementwise. Everything else sees the elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.kernels.arrays import Matrix, dense, dense_t, elements, extent, mapped, pack, row, total
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value, extent_of
from ndl.compiler.kernels.ops import TABLE

LARGE, WIDE = 256, 16
"""Entries of a matrix, and results of a product, beyond which it stays whole."""


@dataclass(frozen=True)
class Vector:
    """An array of the kernel, whose elements stand in the order of a tensor of this shape."""

    value: Value
    shape: tuple[int, ...]

    @staticmethod
    def flat(value: Value) -> Vector:
        return Vector(value, (extent(value),))


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
    shape = next((o.shape for o in operands if isinstance(o, (Vector, Deferred))), None)
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
    flat = list(np.asarray(x, dtype=object).flat)
    return flat[0] if all(v == flat[0] for v in flat) else pack(code, flat)


def whole(code: Code, x: Any) -> Value:
    """A vector as an array of the kernel."""
    if isinstance(x, Held):
        return row(code, x.buffer, x.at, x.size)
    return x.value if isinstance(x, Vector) else pack(code, list(x.flat))  # type: ignore[no-any-return]


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


# ---------------------------------------------------------------- products and sums


def product(code: Code, equation: str, operands: Sequence[Any]) -> Any:
    """A product of a weight and a vector, or of two vectors; None where the elements have to do it."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2:
        return None
    if len(terms[0]) == 1:
        terms, operands = terms[::-1], operands[::-1]
    (first, second), (a, x) = terms, operands
    if isinstance(a, Vector) and isinstance(x, Vector) and first == second and not right:
        made = elementwise(code, "mul", [a, x])
        return _one(total(code, made.value))
    if not isinstance(a, Held) or len(first) != 2 or first[0] == first[1] or isinstance(x, Deferred):
        return None
    if right == first[0] and second == first[1]:
        return _worth(a, x, 0) and Vector.flat(dense(code, a.matrix, whole(code, x)))
    if right == first[1] and second == first[0]:
        return _worth(a, x, 1) and Vector.flat(dense_t(code, a.matrix, whole(code, x)))
    return None


def _worth(a: Held, x: Any, axis: int) -> bool | None:
    return True if isinstance(x, Vector) or a.size > LARGE or a.shape[axis] >= WIDE else None


def _one(value: Value) -> Any:
    return np.array(value, dtype=object)


def summed(code: Code, x: Any, mean: bool) -> Any:
    """The sum or the mean of a vector."""
    found = total(code, x.value)
    return _one(code.op("div", found, float(extent(x.value))) if mean else found)
