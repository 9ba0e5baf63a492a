"""The cells of `ndl.runtime.lattice` in a kernel: W and its integral in a cell, and how one is split.

Tables: `path_scale`: of W, of its integral, of time to units, the run's start, and the slack by which a time
may miss a point; `path_keys`: two words for each channel, then the channels' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value

HALVINGS = 8
"""A root cell is 2^HALVINGS units long."""

LEAVES = 625 << 14
"""Leaves of a unit."""

SHAPE = 9
"""What a split needs besides its normals (`ndl.runtime.lattice.shapes`)."""

Point = tuple[Value, Value]
"""A point of a root cell: a unit in it, and a leaf in that."""


@dataclass(frozen=True)
class Cell:
    """W and H of a cell, and the path's value at its left end, and its integral where that is asked for; of
    one channel."""

    W: Value
    H: Value
    start: Value
    integral: Value | None = None

    @property
    def values(self) -> tuple[Value, ...]:
        rest = () if self.integral is None else (self.integral,)
        return (self.W, self.H, self.start, *rest)


class Cells:
    """Cells of `channels` Brownian motions, one of each at a time; with `areas`, the integral of the path is
    asked for too."""

    def __init__(self, code: Code, channels: int, areas: bool) -> None:
        self.code, self.channels, self.areas = code, channels, areas
        code.buffer("path_scale", "table", "in")
        code.buffer("path_keys", "table", "in", "i32")

    @property
    def width(self) -> int:
        """Numbers of a cell."""
        return 4 if self.areas else 3

    @property
    def numbers(self) -> int:
        """Numbers of the path at a time: W of each channel, then its integrals."""
        return 2 * self.channels if self.areas else self.channels

    def of(self, values: Sequence[Value]) -> list[Cell]:
        """Cells from their values in turn."""
        return [Cell(*values[i : i + self.width]) for i in range(0, len(values), self.width)]

    def prepare(self) -> None:
        """In the entry block: keys and scales."""
        code, m = self.code, self.channels
        self.keys = [(code.load("path_keys", 2 * c), code.load("path_keys", 2 * c + 1)) for c in range(m)]
        self.places = [code.load("path_keys", 2 * m + c) for c in range(m)]
        self.scale, self.area, self.unit, self.t0, self.slack = (code.load("path_scale", i) for i in range(5))

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def normals(self, root: Value, point: Point, c: int) -> tuple[Value, Value]:
        """The two standard normals of a point: `BrownianPath._normals`."""
        code, (unit, leaf) = self.code, point
        tag = code.op("bit_or", code.op("shl", self.places[c], self.whole(12)), unit)
        words = (code.member(), tag, root, leaf, *self.keys[c])
        return code.op("normal_cos", *words), code.op("normal_sin", *words)

    # ------------------------------------------------------------ from cell to cell

    def first(self, root: Value, c: int) -> Cell:
        """The first root cell of a run. The path is 0 at that end of it that is nearer to the time 0, about
        which most runs are: values near 0 have few roundings."""
        code, zero = self.code, self.code.const(0.0)
        W, H = self._root(root, c)
        before = code.op("lt", root, self.whole(0))
        start = code.op("select", before, code.op("neg", W), zero)
        if not self.areas:
            return Cell(W, H, start)
        area = code.op("mul", code.op("fma", W, -0.5, H), -(2.0**HALVINGS))
        return Cell(W, H, start, code.op("select", before, area, zero))

    def _root(self, root: Value, c: int) -> tuple[Value, Value]:
        """W and H of a root cell."""
        zero, length = self.whole(0), 2.0**HALVINGS
        x, y = self.normals(root, (zero, zero), c)
        return self.code.op("mul", x, length**0.5), self.code.op("mul", y, (length / 12) ** 0.5)

    def following(self, root: Value, before: Cell, c: int) -> Cell:
        """A root cell; its left end is the right end of the one before."""
        code = self.code
        W, H = self._root(root, c)
        start = code.op("add", before.start, before.W)
        if before.integral is None:
            return Cell(W, H, start)
        swept = code.op("fma", before.W, 0.5, code.op("add", before.start, before.H))
        return Cell(W, H, start, code.op("fma", swept, 2.0**HALVINGS, before.integral))

    def preceding(self, root: Value, after: Cell, c: int) -> Cell:
        """A root cell; its right end is the left end of the one after."""
        code = self.code
        W, H = self._root(root, c)
        start = code.op("sub", after.start, W)
        if after.integral is None:
            return Cell(W, H, start)
        swept = code.op("fma", W, 0.5, code.op("add", start, H))
        return Cell(W, H, start, code.op("fma", swept, -(2.0**HALVINGS), after.integral))

    def shape(self, left: Value, right: Value) -> list[Value]:
        """`ndl.runtime.lattice.shapes` of parts in leaves."""
        code = self.code
        h = code.op("add", left, right)
        u, w = code.op("div", left, h), code.op("div", right, h)
        product = code.op("mul", u, w)
        m = code.op("fma", product, -3.0, 1.0)
        square = code.op("div", code.op("mul", code.op("mul", h, 1 / LEAVES), product), m)
        g = code.op("mul", code.op("sqrt", square), 0.5)
        return [
            u, w, code.op("mul", product, 6.0), code.op("mul", m, 2.0), g, code.op("mul", g, 3**-0.5),
            code.op("mul", u, u), code.op("mul", w, w), code.op("mul", left, 1 / LEAVES),
        ]  # fmt: skip

    def split(
        self, root: Value, point: Point, shape: Sequence[Value], right: Value, parents: Sequence[Cell]
    ) -> tuple[list[Cell], list[Cell]]:
        """The parts of cells, the right ones where `right`, and the others: `BrownianPath._split`."""
        code = self.code
        u, w, six_uw, two_m, g, n, u2, w2, length = shape
        found, others = [], []
        for c, cell in enumerate(parents):
            x, y = self.normals(root, point, c)
            Z, N = code.op("mul", g, x), code.op("mul", n, y)
            bend = code.op("sub", cell.H, Z)
            left_W = code.op("fma", two_m, Z, code.op("fma", six_uw, cell.H, code.op("mul", u, cell.W)))
            left_H = code.op("fma", w, N, code.op("mul", u2, bend))
            right_H = code.op("sub", code.op("mul", w2, bend), code.op("mul", u, N))
            first = [left_W, left_H, cell.start]
            second = [code.op("sub", cell.W, left_W), right_H, code.op("add", cell.start, left_W)]
            if cell.integral is not None:
                swept = code.op("fma", left_W, 0.5, code.op("add", cell.start, left_H))
                first.append(cell.integral)
                second.append(code.op("fma", length, swept, cell.integral))
            found.append(Cell(*(code.op("select", right, b, a) for a, b in zip(first, second))))
            others.append(Cell(*(code.op("select", right, a, b) for a, b in zip(first, second))))
        return found, others

    def values(self, cells: Sequence[Cell], theta: Value) -> list[Value]:
        """The path at `theta` of leaves, or at the left ends of cells (0): W of each channel, then its
        integrals."""
        found = [self._inside(cell, theta) for cell in cells]
        return [v[0] for v in found] + [v[1] for v in found if len(v) > 1]

    def _inside(self, cell: Cell, theta: Value) -> list[Value]:
        code = self.code
        rest = code.op("sub", 1.0, theta)
        bend = code.op("mul", code.op("mul", theta, 6.0), code.op("mul", rest, cell.H))
        value = code.op("add", cell.start, code.op("fma", theta, cell.W, bend))
        if cell.integral is None:
            return [value]
        slope = code.op("mul", cell.H, code.op("fma", theta, -2.0, 3.0))
        swept = code.op("mul", code.op("mul", theta, theta), code.op("fma", cell.W, 0.5, slope))
        area = code.op("fma", theta, cell.start, swept)
        return [value, code.op("fma", area, 1 / LEAVES, cell.integral)]

    # ------------------------------------------------------------ in the caller's units

    def increments(self, h: Value, before: Sequence[Value], after: Sequence[Value]) -> list[Value]:
        """dW of each channel over a step, then dZ, the integral of W - W(start) (0 without `areas`), from
        the path at both ends."""
        code, m = self.code, self.channels
        dW = [code.op("mul", self.scale, code.op("sub", after[c], before[c])) for c in range(m)]
        if not self.areas:
            return [*dW, *[code.const(0.0)] * m]
        dZ = []
        for c in range(m):
            swept = code.op("mul", self.area, code.op("sub", after[m + c], before[m + c]))
            dZ.append(code.op("sub", swept, code.op("mul", h, code.op("mul", self.scale, before[c]))))
        return [*dW, *dZ]

    def relative(self, first: Sequence[Value], now: Sequence[Value]) -> list[Value]:
        """The path between two times, of each channel."""
        code = self.code
        return [code.op("mul", self.scale, code.op("sub", now[c], first[c])) for c in range(self.channels)]
