"""A field's equations at one point of a grid: graph functions as scalar code over neighbours.

A value of the graph has axes; where it is wanted, each of them is a coordinate (a grid axis and an offset
from the point) or a fixed index. Differences become weighted sums of neighbours, and sums of sums with
numbers as weights one such sum, so that each neighbour is read and weighed once. What depends neither on
the fields nor on time is computed outside: a number fills a slot, an array a table on the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.forms import Coord, Form, Position
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.point_ops import HANDLERS
from ndl.compiler.kernels.scalars import UNCHANGED, line_of, shape_of
from ndl.compiler.kernels.sweeps import FIRST, Place, Read, Slot
from ndl.compiler.ops.table import lookup

Inputs = Callable[["Points", str, tuple[int, ...], tuple[int, ...]], Form]
"""A component of an input that moves, at an offset from the point."""


@dataclass
class Statics:
    """What is computed outside, by node: numbers in slots and arrays on the grid; shared by all bodies."""

    slots: dict[int, int] = field(default_factory=dict)
    reserved: int = 0
    """Slots after the driver's that a step has for numbers of its own."""
    tables: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """The name of a table, and the grid axes that its axes are."""

    def slot(self, node: Node) -> Slot:
        return Slot(self.slots.setdefault(node.id, FIRST + self.reserved + len(self.slots)))

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

    `inputs` reads those named in `moving`; `shape` is the grid's, `edges` learns how far ends reach;
    what is made is linear in the inputs `linear`. Where `densities` are wanted a sum over the grid is its
    term at the point: what is linear in such sums, as cotangents of numbers are, is then its share."""

    def __init__(
        self, code: Code, function: Function, moving: Collection[str], inputs: Inputs, shape: tuple[int, ...],
        edges: Edges, statics: Statics, place: Place, linear: Collection[str] = (),
    ) -> None:  # fmt: skip
        if function.memory or function.parts:
            raise Unsupported("it calls nets")
        self.code, self.function, self.inputs, self.shape = code, function, inputs, shape
        self.edges, self.statics, self.place, self.densities = edges, statics, place, False
        self.params: dict[Read | Slot, Value] = {}
        self.moving, self.linear = self._reached({*moving, "t"}), self._reached(linear)
        self._forms: dict[tuple[int, Position, bool], Form] = {}
        self._values: dict[tuple[tuple[tuple[Value, float], ...], float], Value] = {}

    def _reached(self, names: Collection[str]) -> set[int]:
        """The nodes that depend on some inputs."""
        found: set[int] = set()
        for node in self.function.graph:
            own = node.op == "input" and node.attr("name") in names
            if own or not found.isdisjoint(node.inputs) or (node.op == "path" and "t" in names):
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

    def onto(self, start: Value, form: Form, factor: Value) -> Value:
        """A value plus a sum times a factor that all points share: it goes into the sum's weights."""
        total = self.code.op("fma", factor, form.constant, start) if form.constant else start
        for weight, part in self._parts(form):
            total = self.code.op("fma", part, self.code.op("mul", factor, weight), total)
        return total

    def _parts(self, form: Form) -> Iterator[tuple[float, Value]]:
        """The terms of a sum, those of one weight added up; the weight 1 comes last."""
        groups: dict[float, list[tuple[Value, bool]]] = {}
        for value, weight in form.terms.items():
            groups.setdefault(abs(weight), []).append((value, weight < 0))
        for weight, members in sorted(groups.items(), key=lambda item: (item[0] == 1, item[0])):
            part, negative = self._signed(members)
            yield (-weight if negative else weight), part

    def _sum(self, form: Form) -> Value:
        total = self.code.const(form.constant) if form.constant else None
        for factor, part in self._parts(form):
            if total is None:
                total = (
                    part if factor == 1 else self.code.op("mul", part, factor)
                )  # a truth value has no other
            elif abs(factor) == 1:
                total = self.code.op("sub" if factor < 0 else "add", total, part)
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
        key = node.id, position, self.densities
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
        return self.named(self.code.op(name, *operands))

    def named(self, value: Value) -> Form:
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

    def grid_axis(self, shape: Sequence[int], axis: int) -> int | None:
        """Which axis of the grid an axis of an array is; None for one of components."""
        rank = len(self.shape)
        if tuple(shape[:rank]) == self.shape:
            return axis if axis < rank else None
        found = [k for k, n in enumerate(self.shape) if n == shape[axis]]
        if len(found) > 1:
            raise Unsupported("an array has an axis that may be several of the grid's")
        return found[0] if found else None

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
