"""The Brownian path of `ndl.runtime.stepped_path` at ends of its cells, for fixed steps of whole cells.

Table: `path_root`, of time k the number of the cell that starts there. A place is the number of a time, the
path there, and the normals of four cells, all of which one call of Philox makes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.cells import Cells
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.random import normal_pair, philox, word
from ndl.compiler.kernels.path import Path, Place

TOGETHER = 4
"""Cells of a call of Philox."""

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
        return ("at", *(f"at.{i}" for i in range(self.cells.numbers)), *drawn)

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        return self.resumed(self.cells.whole(0), t)

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        drawn = self._drawn(self.code.load("path_root", k))
        now = [self.code.const(0.0)] * self.cells.numbers
        return [k, *now, *drawn], now

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
        back = self.falling
        cell = code.op("sub", root, whole(1)) if back else root
        at = code.op("bit_and", cell, whole(TOGETHER - 1))
        fresh = code.op("eq", at, whole(TOGETHER - 1 if back else 0))
        drawn = code.when(fresh, lambda: self._drawn(cell), list(drawn))
        W = [self._of(drawn, at, c) for c in range(m)]
        if back:
            after = [code.op("sub", v, z) for v, z in zip(path, W)]
            return [cell, *after, *drawn]
        after = [code.op("add", v, z) for v, z in zip(path, W)]
        if self.cells.areas:
            for c in range(m):
                H = code.op("mul", self._of(drawn, at, m + c), 12**-0.5)
                swept = code.op("fma", W[c], 0.5, code.op("add", path[c], H))
                after.append(code.op("add", path[m + c], swept))
        return [code.op("add", root, whole(1)), *after, *drawn]

    def _of(self, drawn: Sequence[Value], at: Value, c: int) -> Value:
        """The normal number c of the cell that is number `at` of its four."""
        code, four = self.code, drawn[c * TOGETHER : (c + 1) * TOGETHER]
        found = four[0]
        for i in range(1, TOGETHER):
            found = code.op("select", code.op("eq", at, self.cells.whole(i)), four[i], found)
        return found

    def _drawn(self, cell: Value) -> list[Value]:
        """The normals of the four cells about one: of each channel, of W, then of H."""
        code, cells, found = self.code, self.cells, []
        group, low = code.op("shr", cell, cells.whole(2)), word(code, LOW)
        for tag in range(2 if cells.areas else 1):
            for c in range(self.channels):
                place = code.op("bit_or", code.op("shl", cells.places[c], cells.whole(12)), cells.whole(tag))
                a, b, d, e = philox(code, (code.member(), place, group, cells.whole(0)), cells.keys[c])
                found += [*normal_pair(code, (a, low, b, low)), *normal_pair(code, (d, low, e, low))]
        return found
