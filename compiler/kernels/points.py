"""A field's equations at one point of a grid: graph functions as scalar code over neighbours.

A value of the graph has axes; where it is wanted, each of them is a coordinate (a grid axis and an offset
from the point) or a fixed index. Differences become weighted sums of neighbours, and sums of sums with
numbers as weights one such sum, so that each neighbour is read and weighed once. What depends neither on
the fields nor on time is computed outside: a number fills a slot, an array a table on the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.scalars import UNCHANGED, Unsupported, line_of, shape_of
from ndl.compiler.kernels.sweeps import FIRST, TIME, Place, Read, Slot
from ndl.compiler.ops.families.contraction import matmul_equation
from ndl.compiler.ops.table import lookup

MOST_COMPONENTS = 16
"""Entries over which a sum at a point goes."""


@dataclass(frozen=True)
class Coord:
    """A grid axis and the offset from the point along it."""

    axis: int
    offset: int = 0


Position = tuple[Coord | int, ...]


@dataclass(frozen=True)
class Form:
    """A sum of values with numbers as weights, and a number."""

    terms: Mapping[Value, float] = field(default_factory=dict)
    constant: float = 0.0

    def plus(self, other: Form, factor: float = 1.0) -> Form:
        terms = dict(self.terms)
        for value, weight in other.terms.items():
            terms[value] = terms.get(value, 0.0) + factor * weight
        kept = {v: w for v, w in terms.items() if w != 0}
        return Form(kept, self.constant + factor * other.constant)

    def times(self, factor: float) -> Form:
        return Form().plus(self, factor)


@dataclass
class Statics:
    """What is computed outside, by node: numbers in slots and arrays on the grid; shared by all bodies."""

    slots: dict[int, int] = field(default_factory=dict)
    tables: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """The name of a table, and the grid axes that its axes are."""

    def slot(self, node: Node) -> Slot:
        return Slot(self.slots.setdefault(node.id, FIRST + len(self.slots)))

    def table(self, node: Node, axes: tuple[int, ...]) -> str:
        name, found = self.tables.setdefault(node.id, (f"c.{len(self.tables)}", axes))
        if found != axes:
            raise Unsupported("a table is read along different axes of the grid")
        return name


@dataclass
class Edges:
    """How many places near each end of each axis have bodies of their own, as found so far."""

    widths: list[list[int]]

    def want(self, axis: int, low: int, high: int) -> None:
        ends = self.widths[axis]
        ends[0], ends[1] = max(ends[0], low), max(ends[1], high)


class Points:
    """Evaluates a function at a place, in the open block of `code`; `reads` are the block's parameters.

    `fields` maps the name of a state and the indices of a component to the number of the field; `shape` is
    the grid's, `edges` learns how far ends reach."""

    def __init__(
        self, code: Code, function: Function, fields: Mapping[tuple[str, tuple[int, ...]], int],
        shape: tuple[int, ...], edges: Edges, statics: Statics,
    ) -> None:  # fmt: skip
        if function.memory or function.parts:
            raise Unsupported("it calls nets")
        self.code, self.function, self.fields, self.shape = code, function, fields, shape
        self.edges, self.statics = edges, statics
        self.place: Place = (None,) * len(shape)
        self.stage = 0
        self.params: dict[Read | Slot, Value] = {}
        self.moving = self._moving()
        self._forms: dict[tuple[int, Position], Form] = {}
        self._values: dict[tuple[tuple[tuple[Value, float], ...], float], Value] = {}

    def _moving(self) -> set[int]:
        """The nodes that depend on the fields or on time."""
        names = {name for name, _ in self.fields} | {"t"}
        found: set[int] = set()
        for node in self.function.graph:
            own = node.op == "input" and node.attr("name") in names
            if own or not found.isdisjoint(node.inputs) or node.op == "path":
                found.add(node.id)
        return found

    # ------------------------------------------------------------ what is read

    def read(self, array: str, offset: tuple[int, ...]) -> Value:
        return self._param(Read(array, offset))

    def slot(self, slot: Slot) -> Value:
        return self._param(slot)

    def _param(self, what: Read | Slot) -> Value:
        if what not in self.params:
            self.params[what] = self.code.value("real")
        return self.params[what]

    # ------------------------------------------------------------ values

    def here(self, rank: int) -> Position:
        return tuple(Coord(k) for k in range(rank))

    def value(self, node: Node, position: Position) -> Value:
        return self.made(self.form(node, position))

    def made(self, form: Form) -> Value:
        """A sum as code: values of one weight are added first, then weighed."""
        if not form.terms:
            return self.code.const(form.constant)
        key = tuple(sorted(form.terms.items(), key=lambda item: item[0].id)), form.constant
        if key not in self._values:
            self._values[key] = self._sum(form)
        return self._values[key]

    def _sum(self, form: Form) -> Value:
        groups: dict[float, list[tuple[Value, bool]]] = {}
        for value, weight in form.terms.items():
            groups.setdefault(abs(weight), []).append((value, weight < 0))
        total = self.code.const(form.constant) if form.constant else None
        for weight, members in sorted(groups.items(), key=lambda item: (item[0] == 1, item[0])):
            part, negative = self._signed(members)
            factor = -weight if negative else weight
            if total is None:
                total = self.code.op("mul", part, factor)
            elif weight == 1:
                total = self.code.op("sub" if negative else "add", total, part)
            else:
                total = self.code.op("fma", part, factor, total)
        assert total is not None
        return total

    def _signed(self, members: Sequence[tuple[Value, bool]]) -> tuple[Value, bool]:
        """The sum of values of which some count negative, in pairs; and whether all of it does."""
        plus, minus = ([v for v, negative in members if negative == sign] for sign in (False, True))
        if not plus:
            return self._added(minus), True
        found = self._added(plus)
        return (self.code.op("sub", found, self._added(minus)) if minus else found), False

    def _added(self, values: Sequence[Value]) -> Value:
        row = list(values)
        while len(row) > 1:
            row = [self.code.op("add", *pair) if len(pair) == 2 else pair[0] for pair in _pairs(row)]
        return row[0]

    def form(self, node: Node, position: Position) -> Form:
        key = node.id, position
        if key not in self._forms:
            self.code.origin = line_of(node) or self.code.origin
            still = node.id not in self.moving
            self._forms[key] = self._static(node, position) if still else self._form(node, position)
        return self._forms[key]

    def _static(self, node: Node, position: Position) -> Form:
        while node.op == "expand" or node.op in UNCHANGED:
            if node.op == "expand":
                position = tuple(position[a] for a in node.attr("axes"))
            node = self.function.graph[node.inputs[0]]
        shape = shape_of(node)
        if node.op == "const":
            array = np.asarray(node.attr("value"))
            if array.ndim == 0 or (array == array.flat[0]).all():
                return Form(constant=float(array.flat[0]))
        if not shape:
            return Form({self.slot(self.statics.slot(node)): 1.0})
        offset = [0] * len(self.shape)
        if len({c.axis for c in position if isinstance(c, Coord)}) != len(position):
            raise Unsupported("it has a table with an axis that is not the grid's")
        for c in position:
            assert isinstance(c, Coord)
            offset[c.axis] = c.offset
        if sorted(c.axis for c in position) != [c.axis for c in position]:  # type: ignore[union-attr]
            raise Unsupported("a table's axes stand in another order than the grid's")
        axes = tuple(c.axis for c in position if isinstance(c, Coord))
        return Form({self.read(self.statics.table(node, axes), tuple(offset)): 1.0})

    def _form(self, node: Node, position: Position) -> Form:
        handler = HANDLERS.get(node.op)
        if handler is not None:
            return handler(self, node, self.function.graph.operands(node), position)
        name = lookup(node.op).scalar
        if name is None or name not in TABLE:
            raise Unsupported(f"`{node.op}` is not done point by point")
        operands = [
            self.value(x, position if shape_of(x) else ()) for x in self.function.graph.operands(node)
        ]
        return self._named(self.code.op(name, *operands))

    def _named(self, value: Value) -> Form:
        number = self.code.number(value)
        known = number is not None and value.type == "real"
        return Form(constant=float(number)) if known else Form({value: 1.0})

    # ------------------------------------------------------------ ends

    def coord(self, at: Coord | int, axis: int) -> Coord:
        """A fixed index along a grid axis, seen from the point: near an end the distance is known."""
        if isinstance(at, Coord):
            return at
        place, n = self.place[axis], self.shape[axis]
        if place is None:
            raise Unsupported("a field is read far from the point")
        return Coord(axis, at - place % n)

    def index(self, coord: Coord, low: int, high: int) -> int | None:
        """Where a coordinate stands if that is one of the first `low` places or (counted from -1 down) of the
        last `high` ones; None where it is inside."""
        place = self.place[coord.axis]
        if place is None:
            self.edges.want(coord.axis, low - coord.offset, high + coord.offset)
            return None
        n = self.shape[coord.axis]
        at = place % n + coord.offset
        if not 0 <= at < n:
            raise Unsupported("a difference reaches beyond the grid")
        return at if at < low else at - n if at >= n - high else None


def _pairs(row: Sequence[Value]) -> list[Sequence[Value]]:
    return [row[k : k + 2] for k in range(0, len(row), 2)]


# ---------------------------------------------------------------- ops

Handler = Callable[[Points, Node, Sequence[Node], Position], Form]


def _input(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    name = node.attr("name")
    if name == "t":
        return Form({p.slot(TIME): 1.0})
    rank = len(p.shape)
    rest = position[rank:]
    grid = [p.coord(c, k) for k, c in enumerate(position[:rank])]
    if any(c.axis != k for k, c in enumerate(grid)):
        raise Unsupported(f"`{name}` is read with its axes turned")
    offset = tuple(c.offset for c in grid)
    component = tuple(c for c in rest if isinstance(c, int))
    return Form({p.read(f"y{p.stage}.{p.fields[name, component]}", offset): 1.0})


def _add(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    a, b = (p.form(x, position if shape_of(x) else ()) for x in operands)
    return a.plus(b, -1.0 if node.op == "sub" else 1.0)


def _neg(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], position).times(-1.0)


def _mul(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    a, b = (p.form(x, position if shape_of(x) else ()) for x in operands)
    for x, y in ((a, b), (b, a)):
        if not x.terms:
            return y.times(x.constant)
    return p._named(p.code.op("mul", p.made(a), p.made(b)))


def _div(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    a, b = (p.form(x, position if shape_of(x) else ()) for x in operands)
    if not b.terms and b.constant:
        return a.times(1 / b.constant)
    below = p.made(b)
    if operands[1].id not in p.moving and not shape_of(operands[1]):
        return p._named(p.code.op("mul", p.made(a), p.code.op("div", 1.0, below)))
    return p._named(p.code.op("div", p.made(a), below))


def _stencil(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    if node.attr("transposed"):
        raise Unsupported("it has the transpose of a difference")
    axis, scale = node.attr("axis"), node.attr("scale")
    coord = p.coord(position[axis], axis)
    low, high = ((), ()) if node.attr("periodic") else (node.attr("low"), node.attr("high"))
    at = p.index(coord, len(low), len(high)) if low or high else None
    if at is None:
        weights = [(node.attr("offset") + k, w) for k, w in enumerate(node.attr("center"))]
    elif at >= 0:
        weights = [(k - at, w) for k, w in enumerate(low[at])]
    else:
        row = high[at + len(high)]
        weights = [(k - len(row) - at, w) for k, w in enumerate(row)]
    found = Form()
    for offset, w in weights:
        if w:
            moved = Coord(coord.axis, coord.offset + offset)
            near = p.form(operands[0], (*position[:axis], moved, *position[axis + 1 :]))
            found = found.plus(near, w * scale)
    return found


def _lift(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis, weights = node.attr("axis"), node.attr("weights")
    coord = p.coord(position[axis], axis)
    upper = node.attr("side") == "high"
    at = p.index(coord, 0 if upper else len(weights), len(weights) if upper else 0)
    if at is None:
        return Form()
    weight = weights[-1 - at] if upper else weights[at]
    return p.form(operands[0], (*position[:axis], *position[axis + 1 :])).times(weight * node.attr("scale"))


def _mask(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis")
    coord = p.coord(position[axis], axis)
    at = p.index(coord, int(node.attr("low")), int(node.attr("high")))
    return p.form(operands[0], position) if at is None else Form()


def _expand(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], tuple(position[a] for a in node.attr("axes")))


def _permute(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    found: list[Coord | int] = [0] * len(position)
    for at, axis in zip(position, node.attr("axes")):
        found[axis] = at
    return p.form(operands[0], tuple(found))


def _reshape(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    """Axes of one entry that come or go."""
    old, new = shape_of(operands[0]), shape_of(node)
    kept = [c for c, n in zip(position, new) if n != 1]
    if [n for n in old if n != 1] != [n for n in new if n != 1]:
        raise Unsupported("its axes are taken together or apart")
    rest = iter(kept)
    return p.form(operands[0], tuple(0 if n == 1 else next(rest) for n in old))


def _index(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    axis = node.attr("axis") % len(shape)
    return p.form(operands[0], (*position[:axis], node.attr("at") % shape[axis], *position[axis:]))


def _slice(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    axis, start = node.attr("axis") % len(shape), node.attr("start") or 0
    at = position[axis]
    if not isinstance(at, int):
        raise Unsupported("it takes a part of the grid")
    at += start if start >= 0 else start + shape[axis]
    return p.form(operands[0], (*position[:axis], at, *position[axis + 1 :]))


def _stack(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis") % len(position)
    at = position[axis]
    if not isinstance(at, int):
        raise Unsupported("it puts grids together")
    return p.form(operands[at], (*position[:axis], *position[axis + 1 :]))


def _concat(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    axis = node.attr("axis") % len(position)
    at = position[axis]
    if not isinstance(at, int):
        raise Unsupported("it puts grids together")
    for x in operands:
        n = shape_of(x)[axis]
        if at < n:
            return p.form(x, (*position[:axis], at, *position[axis + 1 :]))
        at -= n
    raise AssertionError(position)


def _total(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    shape = shape_of(operands[0])
    given = node.attr("axes")
    axes = range(len(shape)) if given is None else sorted(a % len(shape) for a in given)
    count = int(np.prod([shape[a] for a in axes]))
    if count > MOST_COMPONENTS:
        raise Unsupported("it sums over the grid")
    found = Form()
    for at in itertools.product(*(range(shape[a]) for a in axes)):
        whole = list(position)
        for a, k in zip(axes, at):
            whole.insert(a, k)
        found = found.plus(p.form(operands[0], tuple(whole)))
    return found.times(1 / count) if node.op == "mean" else found


def _einsum(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    ranks = [len(shape_of(x)) for x in operands]
    equation = matmul_equation(*ranks) if node.op == "matmul" else node.attr("equation")
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    extent = {c: n for term, x in zip(terms, operands) for c, n in zip(term, shape_of(x))}
    summed = [c for c in extent if c not in right]
    if np.prod([extent[c] for c in summed]) > MOST_COMPONENTS:
        raise Unsupported("it sums over the grid")
    known: dict[str, Coord | int] = dict(zip(right, position))
    found = Form()
    for at in itertools.product(*(range(extent[c]) for c in summed)):
        known |= dict(zip(summed, at))
        product = Form(constant=1.0)
        for term, x in zip(terms, operands):
            factor = p.form(x, tuple(known[c] for c in term))
            if not factor.terms:
                product = product.times(factor.constant)
            elif not product.terms:
                product = factor.times(product.constant)
            else:
                product = p._named(p.code.op("mul", p.made(product), p.made(factor)))
        found = found.plus(product)
    return found


def _same(p: Points, node: Node, operands: Sequence[Node], position: Position) -> Form:
    return p.form(operands[0], position)


HANDLERS: dict[str, Handler] = {
    "input": _input, "add": _add, "sub": _add, "neg": _neg, "mul": _mul, "div": _div,
    "stencil": _stencil, "lift": _lift, "mask": _mask,
    "expand": _expand, "permute": _permute, "reshape": _reshape, "index": _index, "slice": _slice,
    "stack": _stack, "concat": _concat, "sum": _total, "mean": _total, "einsum": _einsum, "matmul": _einsum,
    **{name: _same for name in UNCHANGED},
}  # fmt: skip
