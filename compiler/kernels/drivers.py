"""Paths in time that drive a model: piecewise cubics whose pieces stand in buffers.

On piece i of path p a channel is c0 + c1 u + c2 u^2 + c3 u^3 with u = t - knot i; the first and the last
piece go on outside of the knots. Buffers:

    pieces            table of i32; of path p: where its numbers begin in `knots`, how many pieces it has, the
                      first row of its coefficients
    knots             table; of each path its first knot, pieces per unit of time, the k times from which its
                      pieces count (the first -inf, the last +inf), its k knots
    drivers           member buffer: coefficients of paths of which each trajectory has its own
    shared_drivers    table: coefficients of paths that all share
    grad_drivers      member buffer: cotangents of `drivers`

Row (4 i + d) C + c of a path's coefficients is the coefficient c_d of channel c of C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import InputSpec
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.loaded import Loaded
from ndl.compiler.kernels.scalars import Scalars, Values, Weights, shape_of

DEGREE = 3


class Drivers:
    """The paths of a model, evaluated in the open block of `code`; `own` names those of which each trajectory
    has its own. `read` has the shapes of those that were asked for."""

    def __init__(self, code: Code, inputs: Sequence[InputSpec], own: frozenset[str]) -> None:
        self.code, self.own = code, own
        self.numbers = {spec.name: k for k, spec in enumerate(i for i in inputs if i.on_time)}
        self.read: dict[str, tuple[int, ...]] = {}
        self.loaded = Loaded(code, "grad_drivers")
        """Coefficients of `drivers`."""

    def prepare(self) -> None:
        """In the entry block: what all trajectories share."""
        for name in self.read:
            self._shared(name)

    def at(self, name: str, shape: tuple[int, ...], order: int, t: Value) -> Values:
        """The `order`-th derivative of a path at t, in its shape."""
        if name not in self.numbers:
            raise Unsupported(f"it reads the path `{name}`, which kernels do not know")
        self.read.setdefault(name, shape)
        code, count = self.code, math.prod(shape)
        out = np.empty(count, dtype=object)
        out[:] = code.const(0.0)
        if order <= DEGREE:
            start, pieces, _, _, first = self._shared(name)
            piece = self._piece(name, t)
            skipped = code.op("add", pieces, self._whole(3))
            knot = code.load("knots", self._sum(start, skipped, piece))
            u = code.op("sub", t, knot)
            row = code.op("add", first, code.op("mul", piece, self._whole((DEGREE + 1) * count)))
            for channel in range(count):
                out[channel] = self._horner(name, row, channel, count, order, u)
        return out.reshape(shape)

    # ------------------------------------------------------------ parts

    def _whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def _sum(self, *values: Value) -> Value:
        found = values[0]
        for v in values[1:]:
            found = self.code.op("add", found, v)
        return found

    def _shared(self, name: str) -> tuple[Value, Value, Value, Value, Value]:
        """Where a path's numbers begin, how many pieces it has, its first knot, pieces per unit of time, and
        the first row of its coefficients."""
        code, k = self.code, 3 * self.numbers[name]
        code.buffer("pieces", "table", "in", "i32")
        code.buffer("knots", "table", "in")
        if name in self.own:
            code.buffer("drivers", "member", "in")
        else:
            code.buffer("shared_drivers", "table", "in")
        start, pieces, first = (code.load("pieces", k + j) for j in range(3))
        low = code.load("knots", start)
        pace = code.load("knots", self._sum(start, self._whole(1)))
        return start, pieces, low, pace, first

    def _piece(self, name: str, t: Value) -> Value:
        """The piece on which t lies: the one it would be of equal pieces, else by bisection."""
        code = self.code
        key = f"piece of {name}"
        if (known := code.recall(key, (t,))) is not None:
            return known
        start, pieces, low, pace, _ = self._shared(name)
        last = code.op("sub", pieces, self._whole(1))
        place = code.op("mul", code.op("sub", t, low), pace)
        place = code.op("select", code.op("gt", place, 0.0), place, 0.0)
        most = code.op("to_real", last)
        guess = code.op("to_i32", code.op("select", code.op("lt", place, most), place, most))
        edges = code.op("add", start, self._whole(2))
        here = code.op("add", edges, guess)
        above = code.op("le", code.load("knots", here), t)
        below = code.op("lt", t, code.load("knots", code.op("add", here, self._whole(1))))
        right = code.op("and", above, below)
        low_piece = code.op("select", right, guess, self._whole(0))
        high_piece = code.op("select", right, code.op("add", guess, self._whole(1)), pieces)

        def wide(carried: tuple[Value, ...]) -> Value:
            return code.op("gt", code.op("sub", carried[1], carried[0]), self._whole(1))

        def halve(carried: tuple[Value, ...]) -> list[Value]:
            a, b = carried
            middle = code.op("shr", code.op("add", a, b), self._whole(1))
            upper = code.op("le", code.load("knots", code.op("add", edges, middle)), t)
            return [code.op("select", upper, middle, a), code.op("select", upper, b, middle)]

        found = code.loop([low_piece, high_piece], wide, halve)
        code.fixed.update(found)
        code.know(key, (t,), found[0])
        return found[0]

    def _horner(self, name: str, row: Value, channel: int, count: int, order: int, u: Value) -> Value:
        """The derivative's polynomial in u."""
        code, found = self.code, None
        for d in range(DEGREE, order - 1, -1):
            c = self._coefficient(name, code.op("add", row, self._whole(d * count + channel)))
            term = code.op("mul", c, float(math.perm(d, order)))
            found = term if found is None else code.op("fma", found, u, term)
        assert found is not None
        return found

    def _coefficient(self, name: str, row: Value) -> Value:
        if name not in self.own:
            return self.code.load("shared_drivers", row)
        return self.loaded.load("drivers", row)


Delayed = Callable[[int, tuple[int, ...], Value], Values]


class DrivenScalars(Scalars):
    """Functions of a model, which may read its paths."""

    def __init__(
        self, code: Code, weights: Weights, drivers: Drivers, delayed: Delayed | None = None
    ) -> None:
        """`delayed` gives delayed states by the number of the read."""
        super().__init__(code, weights)
        self.drivers, self.delayed = drivers, delayed

    def other(self, node: Node, operands: list[Values]) -> Values:
        if node.op != "path":
            return super().other(node, operands)
        t = np.asarray(operands[0], object).item()
        kind, _, number = str(node.attr("name")).partition(" ")
        if kind == "past" and self.delayed is not None:
            return self.delayed(int(number), shape_of(node), t)
        return self.drivers.at(node.attr("name"), shape_of(node), node.attr("order", 0), t)
