"""The Brownian path of `ndl.runtime.brownian` at the times of fixed steps, made where it is used.

All trajectories take the same steps, so that which cells of the dyadic tree a time needs is known beforehand:
tables say, for each time, the root cell, the leaf in it, how deep to go and from which level the way differs
from that to the time before. The cells on the way stand in the buffer `cells`, four numbers a level and
channel: W, H and the path's value and integral at the cell's left end. A time costs two normals for each new
level.

Tables, one row for each time: `path_root`, `path_high` and `path_low` (the leaf's number, 2 and 32 bits),
`path_from`, `path_depth`, `path_theta` (place in the leaf); one row for each level: `path_z`, `path_n`
(standard deviations), `path_half` (half a cell's length); `path_scale`: of W, of its integral; `path_keys`:
two words for each channel, then the channels' numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.random import normal_pair, philox

DEPTH, LEAF = 34, 24
REALS = ("path_theta", "path_z", "path_n", "path_half", "path_scale")
WHOLES = ("path_root", "path_high", "path_low", "path_from", "path_depth", "path_keys")


class Path:
    """The path of `channels` Brownian motions."""

    def __init__(self, code: Code, channels: int) -> None:
        self.code, self.channels = code, channels
        for name in REALS:
            code.buffer(name, "table", "in")
        for name in WHOLES:
            code.buffer(name, "table", "in", "i32")
        code.buffer("cells", "member", "inout")

    def prepare(self) -> None:
        """In the entry block: keys and scales."""
        code, m = self.code, self.channels
        self.keys = [(code.load("path_keys", 2 * c), code.load("path_keys", 2 * c + 1)) for c in range(m)]
        self.places = [code.load("path_keys", 2 * m + c) for c in range(m)]
        self.scales = code.load("path_scale", 0), code.load("path_scale", 1)

    # ------------------------------------------------------------ at a time

    def at(self, k: Value) -> list[Value]:
        """W of each channel at time k, then its integrals, both relative to the left end of the first
        root."""
        code = self.code
        root, depth = code.load("path_root", k), code.load("path_depth", k)
        leaf = code.load("path_high", k), code.load("path_low", k)
        start = code.op("add", code.load("path_from", k), self.whole(1))

        def more(carried: tuple[Value, ...]) -> Value:
            return code.op("le", carried[0], depth)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            level = carried[0]
            top = code.op("eq", level, self.whole(0))
            code.when(top, lambda: self._root(root))
            code.when(code.op("not", top), lambda: self._half(root, leaf, level))
            return [code.op("add", level, self.whole(1))]

        code.loop([start], more, turn)
        theta = code.load("path_theta", k)
        found = [self._inside(c, depth, theta) for c in range(self.channels)]
        return [w for w, _ in found] + [i for _, i in found]

    def increments(self, h: Value, before: Sequence[Value], after: Sequence[Value]) -> list[Value]:
        """dW of each channel over a step, then dZ, the integral of W - W(start)."""
        code, m = self.code, self.channels
        scale, area = self.scales
        dW = [code.op("mul", scale, code.op("sub", after[c], before[c])) for c in range(m)]
        dZ = []
        for c in range(m):
            swept = code.op("mul", area, code.op("sub", after[m + c], before[m + c]))
            dZ.append(code.op("sub", swept, code.op("mul", h, code.op("mul", scale, before[c]))))
        return [*dW, *dZ]

    def relative(self, first: Sequence[Value], now: Sequence[Value]) -> list[Value]:
        """W(t) - W(t0) of each channel."""
        code = self.code
        return [
            code.op("mul", self.scales[0], code.op("sub", now[c], first[c])) for c in range(self.channels)
        ]

    # ------------------------------------------------------------ cells

    def whole(self, number: int) -> Value:
        return self.code.const(number, "i32")

    def _row(self, level: Value, c: int, j: int) -> Value:
        code = self.code
        return code.op("add", code.op("mul", level, self.whole(4 * self.channels)), self.whole(4 * c + j))

    def _cell(self, level: Value, c: int) -> list[Value]:
        """W, H, start, integral."""
        return [self.code.load("cells", self._row(level, c, j)) for j in range(4)]

    def _keep(self, level: Value, c: int, values: Sequence[Value]) -> None:
        for j, v in enumerate(values):
            self.code.store("cells", self._row(level, c, j), v)

    def _normals(self, root: Value, level: Value, high: Value, low: Value, c: int) -> tuple[Value, Value]:
        """The two standard normals of a cell: `BrownianPath._normals`."""
        code = self.code
        tag = code.op("bit_or", code.op("shl", self.places[c], self.whole(12)), high)
        tag = code.op("bit_or", tag, code.op("shl", level, self.whole(6)))
        return normal_pair(code, philox(code, (code.member(), tag, root, low), self.keys[c]))

    def _root(self, root: Value) -> list[Value]:
        """A root cell; its left end is the right end of the one before."""
        code, zero = self.code, self.whole(0)
        z_size, n_size, half = (code.load(name, zero) for name in ("path_z", "path_n", "path_half"))
        length = code.op("mul", half, 2.0)
        for c in range(self.channels):
            W0, H0, start, integral = self._cell(zero, c)
            swept = code.op("fma", W0, 0.5, code.op("add", start, H0))
            integral = code.op("fma", length, swept, integral)
            z, n = self._normals(root, zero, zero, zero, c)
            # the tables have the halves' deviations: a root's own are 4 and 2 times those
            W, H = (
                code.op("mul", code.op("mul", z_size, 4.0), z),
                code.op("mul", code.op("mul", n_size, 2.0), n),
            )
            self._keep(zero, c, (W, H, code.op("add", start, W0), integral))
        return []

    def _half(self, root: Value, leaf: tuple[Value, Value], level: Value) -> list[Value]:
        """The half of the cell above that the way goes through: `BrownianPath._halve`."""
        code = self.code
        parent = code.op("sub", level, self.whole(1))
        high, low = self._shifted(leaf, code.op("sub", self.whole(DEPTH), parent))
        _, bit = self._shifted(leaf, code.op("sub", self.whole(DEPTH), level))
        right = code.op("to_bool", code.op("bit_and", bit, self.whole(1)))
        z_size, n_size, half = (code.load(name, parent) for name in ("path_z", "path_n", "path_half"))
        sign = code.op("select", right, -1.0, 1.0)
        for c in range(self.channels):
            W, H, start, integral = self._cell(parent, c)
            z, n = self._normals(root, level, high, low, c)
            Z, N = code.op("mul", z_size, z), code.op("mul", n_size, n)
            bend, rest = code.op("fma", H, 1.5, Z), code.op("fma", H, 0.25, code.op("mul", Z, -0.5))
            half_W = code.op("mul", W, 0.5)
            left_W, left_H = code.op("add", half_W, bend), code.op("add", rest, N)
            swept = code.op("fma", left_W, 0.5, code.op("add", start, left_H))
            new = (
                code.op("fma", sign, bend, half_W),
                code.op("fma", sign, N, rest),
                code.op("select", right, code.op("add", start, left_W), start),
                code.op("select", right, code.op("fma", half, swept, integral), integral),
            )
            self._keep(level, c, new)
        return []

    def _shifted(self, leaf: tuple[Value, Value], by: Value) -> tuple[Value, Value]:
        """A leaf's 34 bits shifted right by 0 to 34, as high and low words."""
        code, (high, low) = self.code, leaf
        far = code.op("ge", by, self.whole(32))
        less = code.op("bit_and", by, self.whole(31))
        none = code.op("eq", less, self.whole(0))
        back = code.op("bit_and", code.op("sub", self.whole(32), less), self.whole(31))
        moved = code.op("select", none, self.whole(0), code.op("shl", high, back))
        near_low = code.op("bit_or", code.op("shr", low, less), moved)
        shifted_high = code.op("shr", high, less)
        return (
            code.op("select", far, self.whole(0), shifted_high),
            code.op("select", far, shifted_high, near_low),
        )

    def _inside(self, c: int, depth: Value, theta: Value) -> tuple[Value, Value]:
        """The path at `theta` of the cell at `depth`: at its left end, or its conditional mean in a leaf."""
        code = self.code
        W, H, start, integral = self._cell(depth, c)
        rest = code.op("sub", 1.0, theta)
        bend = code.op("mul", code.op("mul", theta, 6.0), code.op("mul", rest, H))
        value = code.op("add", start, code.op("fma", theta, W, bend))
        slope = code.op("mul", H, code.op("fma", theta, -2.0, 3.0))
        swept = code.op("mul", code.op("mul", theta, theta), code.op("fma", W, 0.5, slope))
        area = code.op("fma", theta, start, swept)
        return value, code.op("fma", area, 2.0**-LEAF, integral)
