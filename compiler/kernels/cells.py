"""The dyadic cells of `ndl.runtime.brownian` in a kernel: W and its integral in a cell, and how one is
halved.

Tables: one row for each level: `path_z`, `path_n` (standard deviations of a half's normals), `path_half`
(half a cell's length); `path_scale`: of W, of its integral, of time to units, and the run's start;
`path_keys`: two words for each channel, then the channels' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.random import normal_pair, philox

ROOT, LEAF = 10, 24
DEPTH = ROOT + LEAF
"""A root cell is 2^ROOT units long, a leaf, DEPTH levels below, 2^-LEAF."""

Number = tuple[Value, Value]
"""A cell's number in its root: the upper 2 and the lower 32 of its bits."""


@dataclass(frozen=True)
class Cell:
    """W and H of a cell, and the path's value and integral at its left end; of one channel."""

    W: Value
    H: Value
    start: Value
    integral: Value

    @property
    def values(self) -> tuple[Value, ...]:
        return self.W, self.H, self.start, self.integral


class Cells:
    """Cells of `channels` Brownian motions, one of each at a time."""

    def __init__(self, code: Code, channels: int) -> None:
        self.code, self.channels = code, channels
        for name in ("path_z", "path_n", "path_half", "path_scale"):
            code.buffer(name, "table", "in")
        code.buffer("path_keys", "table", "in", "i32")

    def prepare(self) -> None:
        """In the entry block: keys and scales."""
        code, m = self.code, self.channels
        self.keys = [(code.load("path_keys", 2 * c), code.load("path_keys", 2 * c + 1)) for c in range(m)]
        self.places = [code.load("path_keys", 2 * m + c) for c in range(m)]
        self.scale, self.area, self.unit, self.t0 = (code.load("path_scale", i) for i in range(4))

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def sizes(self, level: Value) -> tuple[Value, Value, Value]:
        """Standard deviations of Z and N for the halves of a cell, and half its length."""
        z, n, half = (self.code.load(name, level) for name in ("path_z", "path_n", "path_half"))
        return z, n, half

    def normals(self, root: Value, level: Value, cell: Number, c: int) -> tuple[Value, Value]:
        """The two standard normals of a cell: `BrownianPath._normals`."""
        code, (high, low) = self.code, cell
        tag = code.op("bit_or", code.op("shl", self.places[c], self.whole(12)), high)
        tag = code.op("bit_or", tag, code.op("shl", level, self.whole(6)))
        return normal_pair(code, philox(code, (code.member(), tag, root, low), self.keys[c]))

    # ------------------------------------------------------------ from cell to cell

    def none(self) -> Cell:
        """What stands before the first root cell."""
        return Cell(*[self.code.const(0.0)] * 4)

    def following(self, root: Value, before: Cell, c: int) -> Cell:
        """A root cell; its left end is the right end of the one before."""
        code, zero = self.code, self.whole(0)
        z_size, n_size, half = self.sizes(zero)
        length = code.op("mul", half, 2.0)
        swept = code.op("fma", before.W, 0.5, code.op("add", before.start, before.H))
        z, n = self.normals(root, zero, (zero, zero), c)
        # the tables have the halves' deviations: a root's own are 4 and 2 times those
        return Cell(
            code.op("mul", code.op("mul", z_size, 4.0), z),
            code.op("mul", code.op("mul", n_size, 2.0), n),
            code.op("add", before.start, before.W),
            code.op("fma", length, swept, before.integral),
        )

    def half(
        self, root: Value, level: Value, above: Number, right: Value, parents: Sequence[Cell]
    ) -> list[Cell]:
        """The halves at `level` of the cells number `above`, the right ones where `right`:
        `BrownianPath._halve`."""
        code = self.code
        z_size, n_size, length = self.sizes(code.op("sub", level, self.whole(1)))
        sign = code.op("select", right, -1.0, 1.0)
        found = []
        for c, cell in enumerate(parents):
            z, n = self.normals(root, level, above, c)
            Z, N = code.op("mul", z_size, z), code.op("mul", n_size, n)
            bend = code.op("fma", cell.H, 1.5, Z)
            rest = code.op("fma", cell.H, 0.25, code.op("mul", Z, -0.5))
            half_W = code.op("mul", cell.W, 0.5)
            left_W, left_H = code.op("add", half_W, bend), code.op("add", rest, N)
            swept = code.op("fma", left_W, 0.5, code.op("add", cell.start, left_H))
            middle = code.op("add", cell.start, left_W)
            found.append(
                Cell(
                    code.op("fma", sign, bend, half_W),
                    code.op("fma", sign, N, rest),
                    code.op("select", right, middle, cell.start),
                    code.op("select", right, code.op("fma", length, swept, cell.integral), cell.integral),
                )
            )
        return found

    def inside(self, cell: Cell, theta: Value) -> tuple[Value, Value]:
        """The path and its integral at `theta` of a cell: at its left end, or its conditional mean in a
        leaf."""
        code = self.code
        rest = code.op("sub", 1.0, theta)
        bend = code.op("mul", code.op("mul", theta, 6.0), code.op("mul", rest, cell.H))
        value = code.op("add", cell.start, code.op("fma", theta, cell.W, bend))
        slope = code.op("mul", cell.H, code.op("fma", theta, -2.0, 3.0))
        swept = code.op("mul", code.op("mul", theta, theta), code.op("fma", cell.W, 0.5, slope))
        area = code.op("fma", theta, cell.start, swept)
        return value, code.op("fma", area, 2.0**-LEAF, cell.integral)

    # ------------------------------------------------------------ in the caller's units

    def increments(self, h: Value, before: Sequence[Value], after: Sequence[Value]) -> list[Value]:
        """dW of each channel over a step, then dZ, the integral of W - W(start), from the path and its
        integrals at both ends."""
        code, m = self.code, self.channels
        dW = [code.op("mul", self.scale, code.op("sub", after[c], before[c])) for c in range(m)]
        dZ = []
        for c in range(m):
            swept = code.op("mul", self.area, code.op("sub", after[m + c], before[m + c]))
            dZ.append(code.op("sub", swept, code.op("mul", h, code.op("mul", self.scale, before[c]))))
        return [*dW, *dZ]

    def relative(self, first: Sequence[Value], now: Sequence[Value]) -> list[Value]:
        """The path between two times, of each channel."""
        code = self.code
        return [code.op("mul", self.scale, code.op("sub", now[c], first[c])) for c in range(self.channels)]
