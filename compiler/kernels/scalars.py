"""Functions of the graph IR as scalar code: an array of one sample becomes an array of kernel values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.splice import dotted, part_of
from ndl.compiler.kernels import tensors, vectors, windows
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.linear import Factors, factorised
from ndl.compiler.kernels.matrices import MATRICES
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.ops.families.contraction import matmul_equation
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Dim, Tensor

Values = Any
"""A NumPy array of `Value`s, of the shape of one sample, or what stays whole (see `vectors`)."""

Weights = Callable[[str, tuple[int, ...]], Values]
"""A weight by its dotted name and shape."""

UNCHANGED = ("stop_gradient", "conj", "real")


class Scalars:
    """Evaluates functions in the open block of `code`; `dims` are the extents of named dimensions."""

    def __init__(self, code: Code, weights: Weights, dims: Mapping[str, int] | None = None) -> None:
        self.code, self.weights = code, weights
        self.dims = {name: Dim.of(n) for name, n in (dims or {}).items()}

    def extents(self, shape: Any) -> tuple[int, ...]:
        """A shape of an attribute as numbers."""
        found = [Dim.of(n).substitute(self.dims).constant for n in shape]
        if any(n is None for n in found):
            raise Unsupported(f"the extents {', '.join(map(str, shape))} are not known")
        return tuple(n for n in found if n is not None)

    def call(self, function: Function, given: Mapping[str, Values], prefix: str = "") -> dict[str, Values]:
        """The outputs of a function by name, for its inputs by name."""
        if function.memory:
            raise Unsupported(f"`{function.name}` remembers between training steps")
        found: dict[int, Values] = {}
        made: dict[Any, dict[str, Values]] = {}
        origin = self.code.origin
        for node in function.graph.needed([n for _, n in function.outputs]):
            operands = [found[i] for i in node.inputs]
            self.code.origin = line_of(node) or origin
            found[node.id] = self._node(function, node, operands, given, prefix, made)
        self.code.origin = origin
        return {name: found[n.id] for name, n in function.outputs}

    def _node(
        self, function: Function, node: Node, operands: list[Values], given: Mapping[str, Values],
        prefix: str, made: dict[Any, dict[str, Values]],
    ) -> Values:  # fmt: skip
        op = node.op
        if op == "input":
            name = node.attr("name")
            if name not in given:
                raise Unsupported(f"it reads `{name}`, which kernels do not know")
            return given[name]
        if op == "param":
            return self.weights(dotted(prefix, node.attr("name")), shape_of(node))
        if op == "const":
            return self._constant(node.attr("value"))
        if op == "call":
            key = (node.attr("instance"), node.inputs)
            if key not in made:
                part = part_of(function, node.attr("instance"))
                inner = dict(zip((n.attr("name") for n in part.inputs), operands))
                made[key] = self.call(part, inner, dotted(prefix, node.attr("instance")))
            results = [v for k, v in made[key].items() if not k.startswith("memory:")]
            return results[node.attr("index", 0)]
        if op in UNCHANGED:
            return operands[0]
        name = lookup(op).scalar
        if name is not None and name in TABLE:
            return self._elementwise(name, operands)
        if any(isinstance(o, vectors.WHOLE) for o in operands):
            found = self._whole(node, operands)
            if found is not None:
                return found
        handler = ARRAYS.get(op)
        if handler is None:
            return self.other(node, self.spread(operands))
        return handler(self, node, self.spread(operands))

    def _whole(self, node: Node, operands: list[Values]) -> Values:
        """An operation on tensors that stay whole, or None."""
        op, x = node.op, operands[0]
        if op == "matmul":
            ranks = [len(o.shape) for o in operands]
            return tensors.product(self.code, matmul_equation(*ranks), operands)
        if op == "einsum":
            return tensors.product(self.code, node.attr("equation"), operands)
        if op in ("sum", "mean") and not isinstance(x, vectors.Deferred):
            return tensors.summed(self.code, x, axes_of(node, len(x.shape)), op == "mean")
        if op in MOVES and not isinstance(x, vectors.Deferred):
            return self._moved(node, x, self.spread(operands[1:]))
        if op in JOINS:
            return self._joined(node, operands)
        if op in ("convolve", "convolve_back"):
            return windows.whole(self, node, operands)
        return None

    def _moved(self, node: Node, x: Values, more: list[Values]) -> Values:
        """What takes elements tells by their numbers where it takes them."""
        numbers = np.arange(x.size).reshape(x.shape)
        places = MOVES[node.op](self, node, [numbers, *more])
        if np.array_equal(places, numbers):
            return x
        if node.op == "reshape" and isinstance(x, vectors.Vector):
            return vectors.Vector(x.value, places.shape)
        return tensors.moved(self.code, x, places)

    def _joined(self, node: Node, operands: list[Values]) -> Values:
        """Likewise what puts several together: entry k of the result is that of number `made[k]`."""
        sizes = [math.prod(o.shape) for o in operands]
        numbers = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        made = JOINS[node.op](self, node, [k.reshape(o.shape) for k, o in zip(numbers, operands)])
        where = np.empty(made.size, dtype=np.int64)
        where[made.reshape(-1)] = np.arange(made.size)
        places = [where[k].reshape(o.shape) for k, o in zip(numbers, operands)]
        return tensors.joined(self.code, operands, places, made.shape)

    def spread(self, operands: Sequence[Values]) -> list[Values]:
        """Values with their elements apart."""
        return [vectors.spread(self.code, o) for o in operands]

    def other(self, node: Node, operands: list[Values]) -> Values:
        """An op that only some functions have."""
        raise Unsupported(f"`{node.op}` has no scalar form")

    def _constant(self, value: Any) -> Values:
        array = np.asarray(value, dtype=object)
        kind = "bool" if array.size and isinstance(array.flat[0], bool) else "real"
        if any(isinstance(v, complex) for v in array.flat):
            raise Unsupported("it has complex numbers")
        return each(lambda v: self.code.const(v, kind), array)

    def _elementwise(self, name: str, operands: Sequence[Values]) -> Values:
        found = vectors.elementwise(self.code, name, operands)
        if found is not None:
            return found
        return each(lambda *args: self.code.op(name, *args), *self.spread(operands))

    def factors(self, a: Values) -> Factors:
        """A square matrix as factors."""
        return factorised(self.code, [list(row) for row in a])

    # ------------------------------------------------------------ sums of products

    def total(self, terms: Sequence[Value]) -> Value:
        """The sum of values, 0 for none."""
        if not terms:
            return self.code.const(0.0)
        found = terms[0]
        for term in terms[1:]:
            found = self.code.op("add", found, term)
        return found

    def dot(self, pairs: Sequence[tuple[Value | float, Value]]) -> Value:
        """The sum of products, by fused multiply–add."""
        if not pairs:
            return self.code.const(0.0)
        found = self.code.op("mul", *pairs[0])
        for a, b in pairs[1:]:
            found = self.code.op("fma", a, b, found)
        return found

    def einsum(self, equation: str, operands: Sequence[Values]) -> Values:
        left, _, right = equation.replace(" ", "").partition("->")
        terms = left.split(",")
        extent = {c: n for term, x in zip(terms, operands) for c, n in zip(term, x.shape)}
        summed = [c for c in extent if c not in right]
        out = np.empty([extent[c] for c in right], dtype=object)
        for place in itertools.product(*(range(extent[c]) for c in right)):
            at = dict(zip(right, place))
            pairs = []
            for inner in itertools.product(*(range(extent[c]) for c in summed)):
                at |= dict(zip(summed, inner))
                factors = [x[tuple(at[c] for c in term)] for term, x in zip(terms, operands)]
                first = factors[0]
                for f in factors[1:-1]:
                    first = self.code.op("mul", first, f)
                pairs.append((first, factors[-1] if len(factors) > 1 else self.code.const(1.0)))
            out[place] = self.dot(pairs)
        return out


def shape_of(node: Node) -> tuple[int, ...]:
    """The extents of a node's value. Raises `Unsupported` where one is not known."""
    if not isinstance(node.type, Tensor) or node.type.kind == "C":
        raise Unsupported(f"it has a value of type {node.type}")
    if node.type.on is not None or any(d.constant is None for d in node.type.shape):
        raise Unsupported(f"the extent of a value of type {node.type} is not known")
    return node.type.extents


def line_of(node: Node) -> str:
    """The words of the program that a node was made from, on one line."""
    text = " ".join(node.span.text.split()) if node.span.source is not None else ""
    return text[:80]


def each(compute: Callable[..., Value], *arrays: Values) -> Values:
    """Elementwise over arrays of values of equal shapes, kept as an array even for one value."""
    arrays = tuple(np.asarray(a, dtype=object) for a in arrays)
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    spread = [np.broadcast_to(a, shape) for a in arrays]
    out = np.empty(shape, dtype=object)
    for place in np.ndindex(*shape):
        out[place] = compute(*(a[place] for a in spread))
    return out


def fold(code: Code, name: str, x: Values, axes: Sequence[int]) -> Values:
    """A reduction by an associative operation."""

    def reduce(values: list[Value]) -> Value:
        found = values[0]
        for v in values[1:]:
            found = code.op(name, found, v)
        return found

    return along(x, axes, reduce)


def along(x: Values, axes: Sequence[int], reduce: Callable[[list[Value]], Value]) -> Values:
    """A reduction over axes, given as a function of the values reduced."""
    kept = [i for i in range(x.ndim) if i not in axes]
    moved = np.transpose(x, [*kept, *axes])
    out = np.empty([x.shape[i] for i in kept], dtype=object)
    for place in np.ndindex(*out.shape):
        out[place] = reduce(list(np.asarray(moved[place], dtype=object).flat))
    return out


def axes_of(node: Node, rank: int) -> list[int]:
    chosen = node.attr("axes")
    return list(range(rank)) if chosen is None else [a % rank for a in chosen]


def _expand(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (x,), shape, axes = operands, s.extents(node.attr("shape")), node.attr("axes")
    slots = [1] * len(shape)
    for axis, n in zip(axes, x.shape):
        slots[axis] = n
    return np.broadcast_to(x.reshape(slots), shape)


def _gather(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """Elements by numbers that are known beforehand."""
    x, at = operands
    numbers = each(lambda v: s.code.number(v), at)
    if any(n is None for n in numbers.flat):
        raise Unsupported("an index is computed while it runs")
    return np.take(x, numbers.astype(np.int64), axis=node.attr("axis"))


def _softmax(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (x,), axis = operands, node.attr("axis") % operands[0].ndim
    top = np.expand_dims(fold(s.code, "maximum", x, [axis]), axis)
    e = each(lambda a, b: s.code.op("exp", s.code.op("sub", a, b)), x, np.broadcast_to(top, x.shape))
    whole = np.expand_dims(fold(s.code, "add", e, [axis]), axis)
    return each(lambda a, b: s.code.op("div", a, b), e, np.broadcast_to(whole, x.shape))


def _cumsum(s: Scalars, node: Node, operands: list[Values]) -> Values:
    add = np.frompyfunc(lambda a, b: s.code.op("add", a, b), 2, 1)
    return add.accumulate(operands[0], axis=node.attr("axis"), dtype=object)


def _mean(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (x,), axes = operands, axes_of(node, operands[0].ndim)
    count = int(np.prod([x.shape[a] for a in axes]))
    return each(lambda v: s.code.op("div", v, float(count)), fold(s.code, "add", x, axes))


def _diag(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (x,) = operands
    out = np.full((len(x), len(x)), s.code.const(0.0), dtype=object)
    out[np.arange(len(x)), np.arange(len(x))] = x
    return out


def _slice(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (x,), axis = operands, node.attr("axis") % operands[0].ndim
    return x[(slice(None),) * axis + (slice(node.attr("start"), node.attr("stop")),)]


def _reduction(name: str) -> Callable[[Scalars, Node, list[Values]], Values]:
    return lambda s, node, operands: fold(s.code, name, operands[0], axes_of(node, operands[0].ndim))


Handler = Callable[[Scalars, Node, list[Values]], Values]

MOVES: dict[str, Handler] = {
    "expand": _expand,
    "reshape": lambda s, node, x: x[0].reshape(s.extents(node.attr("shape"))),
    "permute": lambda s, node, x: np.transpose(x[0], node.attr("axes")),
    "slice": _slice,
    "index": lambda s, node, x: np.asarray(np.take(x[0], node.attr("at"), axis=node.attr("axis"))),
    "gather": _gather,
}
"""What takes elements from their places, whatever they are."""

JOINS: dict[str, Handler] = {
    "stack": lambda s, node, x: np.stack(x, axis=node.attr("axis")),
    "concat": lambda s, node, x: np.concatenate(x, axis=node.attr("axis")),
}
"""What puts several together."""

ARRAYS: dict[str, Handler] = {
    **MOVES,
    **JOINS,
    **MATRICES,
    "matmul": lambda s, node, x: s.einsum(matmul_equation(x[0].ndim, x[1].ndim), x),
    "einsum": lambda s, node, x: s.einsum(node.attr("equation"), x),
    "sum": _reduction("add"),
    "prod": _reduction("mul"),
    "amax": _reduction("maximum"),
    "amin": _reduction("minimum"),
    "all": _reduction("and"),
    "any": _reduction("or"),
    "mean": _mean,
    "softmax": _softmax,
    "cumsum": _cumsum,
    "diag": _diag,
    "unfold": windows.unfold,
    "fold": windows.fold,
    "convolve": windows.convolve,
    "convolve_back": windows.convolve_back,
}
