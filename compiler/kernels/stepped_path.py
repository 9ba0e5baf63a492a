"""The Brownian path of `ndl.runtime.stepped_path` at ends of its cells, for fixed steps of whole cells.

Table: `path_root`, of time k the number of the cell that starts there. A place is the number of a time, the
path there, the number of four cells, and their normals, of one call of Philox, the next cell's first.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.cells import Cells
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.random import normal_pair, philox, word
from ndl.compiler.kernels.path import Path, Place

TOGETHER = 4
"""Cells of a call of Philox."""

NONE = -1
"""A number of no four cells."""

LOW = 1 << 31
"""The lower word of a uniform of 32 bits."""


class SteppedPath(Path):
    """Values are relative to the time from which the steps go on."""

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells)
        self.code.buffer("path_root", "table", "in", "i32")

    @property
    def names(self) -> tuple[str, ...]:
        tags = ("W", "H") if self.cells.areas else ("W",)
        drawn = (f"at.{tag}.{c}.{i}" for tag in tags for c in range(self.channels) for i in range(TOGETHER))
        return ("at", *(f"at.{i}" for i in range(self.cells.numbers)), "at.four", *drawn)

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        return self.resumed(self.cells.whole(0), t)

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        now = [self.code.const(0.0)] * self.cells.numbers
        rest = [self.code.const(0.0)] * (len(self.names) - 2 - len(now))
        return [k, *now, self.cells.whole(NONE), *rest], now

    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        code, many = self.code, 1 + self.cells.numbers
        k = code.op("add", place[0], self.cells.whole(1))
        end = code.load("path_root", k)
        test = "gt" if self.falling else "lt"
        start = [code.load("path_root", place[0]), *place[1:]]
        found = code.loop(
            start, lambda c: code.op(test, c[0], end), lambda c: self._cell(c[0], c[1:many], c[many:])
        )
        return [k, *found[1:]], list(found[1:many])

    def _cell(self, root: Value, path: Sequence[Value], drawn: Sequence[Value]) -> list[Value]:
        """Over a cell: the number of the next one, the path, and the normals."""
        code, whole, m = self.code, self.cells.whole, self.channels
        cell = code.op("sub", root, whole(1)) if self.falling else root
        four, at = code.op("shr", cell, whole(2)), code.op("bit_and", cell, whole(TOGETHER - 1))
        drawn = code.when(code.op("ne", four, drawn[0]), lambda: self._drawn(four, at), drawn[1:])
        W = [drawn[c * TOGETHER] for c in range(m)]
        H = [drawn[(m + c) * TOGETHER] for c in range(m)] if self.cells.areas else []
        drawn = _turned(drawn)
        if self.falling:
            after = [code.op("sub", v, z) for v, z in zip(path, W)]
            return [cell, *after, four, *drawn]
        after = [code.op("add", v, z) for v, z in zip(path, W)]
        if self.cells.areas:
            for c in range(m):
                area = code.op("mul", H[c], 12**-0.5)
                swept = code.op("fma", W[c], 0.5, code.op("add", path[c], area))
                after.append(code.op("add", path[m + c], swept))
        return [code.op("add", root, whole(1)), *after, four, *drawn]

    def _drawn(self, four: Value, at: Value) -> list[Value]:
        """The normals of four cells, number `at` first: of each channel, of W, then of H."""
        code, cells, last = self.code, self.cells, self.cells.whole(TOGETHER - 1)
        low, order, found = word(code, LOW), -1 if self.falling else 1, []
        for tag in range(2 if cells.areas else 1):
            for c in range(self.channels):
                place = code.op("bit_or", code.op("shl", cells.places[c], cells.whole(12)), cells.whole(tag))
                a, b, d, e = philox(code, (code.member(), place, four, cells.whole(0)), cells.keys[c])
                pairs = normal_pair(code, (a, low, b, low)), normal_pair(code, (d, low, e, low))
                found += [*pairs[0], *pairs[1]][::order]
        turns = code.op("sub", last, at) if self.falling else at

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            return [code.op("sub", carried[0], cells.whole(1)), *_turned(carried[1:])]

        start = [turns, *found]
        return list(code.loop(start, lambda c: code.op("gt", c[0], cells.whole(0)), turn)[1:])


def _turned(drawn: Sequence[Value]) -> list[Value]:
    """The normals of the next cell first."""
    return [v for i in range(0, len(drawn), TOGETHER) for v in (*drawn[i + 1 : i + TOGETHER], drawn[i])]
