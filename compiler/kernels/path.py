"""The Brownian path at the times of a kernel's steps, made where it is used.

`GridPath` serves fixed steps. All trajectories take the same ones, so that which splits a time needs is known
beforehand: a program in tables, which goes from each time to the next. Of a split it has `path_unit` and
`path_leaf` (the point), `path_shape` (a row of `path_shapes`), and `path_turn`: 1 if it goes on in the right
part, plus twice the slot in which the other part is kept for a later time (0: none does). Of time k it has
`path_first` (its splits are those up to that of time k + 1), `path_from` (where they start: in the part kept
in a slot, in the cell of the time before, NOW, or in a new root cell, NEW), `path_root` and `path_theta`. The
cell of the time before is carried; the parts kept stand in the buffer `cells`, root cells in slot 0. So a
step along the lattice costs little more than one split. To start from any time, `path_way` has the splits
from the root cell to each time, `path_longest` of them: a split's row and the bit for right, or -1.

`FreePath` gives the path at any time, from its root cell down, in registers alone. It serves adaptive steps,
and times inside steps. Tables: `path_spacing` and `path_share` (1/spacing), of the levels inside a unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ndl.compiler.kernels.cells import HALVINGS, LEAVES, SHAPE, Cell, Cells
from ndl.compiler.kernels.ir import Value

NOW, NEW = -1, -2

Place = list[Value]
"""What a trajectory carries of where it stands on the path."""


class Path(ABC):
    """A path of `channels` motions. Its values are W of each channel, then, with areas, their integrals,
    relative to an end of the first root cell."""

    def __init__(self, cells: Cells) -> None:
        self.cells, self.code, self.channels = cells, cells.code, cells.channels
        self.falling = False
        """Whether the times are asked from the last to the first."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of a place's numbers."""

    @abstractmethod
    def start(self, t: Value) -> tuple[Place, list[Value]]:
        """The place and the path at the start of a run."""

    @abstractmethod
    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        """The place and the path at t, the start of step k, from which the steps go on."""

    @abstractmethod
    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        """The place and the path at t, the end of the next step."""


class GridPath(Path):
    """The path at times that are known beforehand; a place is the number of its time, and its cells."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("at", *_names("at", self.cells))

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells)
        code = self.code
        for name in ("path_theta", "path_shapes"):
            code.buffer(name, "table", "in")
        for name in ("root", "first", "from", "unit", "leaf", "shape", "turn"):
            code.buffer(f"path_{name}", "table", "in", "i32")
        code.buffer("cells", "member", "inout")

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        zero = self.cells.whole(0)
        root = self.code.load("path_root", zero)
        cells = [self.cells.first(root, c) for c in range(self.channels)]
        self._keep(zero, cells)
        return self._down(zero, root, cells)

    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        """The times are asked in order."""
        code, whole = self.code, self.cells.whole
        k = code.op("add", place[0], whole(1))
        root, known = code.load("path_root", k), code.load("path_from", k)
        code.when(code.op("eq", known, whole(NEW)), lambda: self._next(place[0], root))
        slot = code.op("select", code.op("lt", known, whole(0)), whole(0), known)
        held = code.op("eq", known, whole(NOW))
        start = code.when(code.op("not", held), lambda: _flat(self._kept(slot)), place[1:])
        return self._down(k, root, self.cells.of(start))

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        """Down from the root cell, which follows from the first one."""
        code, whole = self.code, self.cells.whole
        code.buffer("path_way", "table", "in", "i32")
        code.buffer("path_longest", "table", "in", "i32")
        first, root = code.load("path_root", whole(0)), code.load("path_root", k)
        cells = [self.cells.first(first, c) for c in range(self.channels)]
        found = code.loop(
            [first, *_flat(cells)], lambda c: code.op("lt", c[0], root), lambda c: self._following(c)
        )
        self._keep(whole(0), self.cells.of(found[1:]))
        longest = code.load("path_longest", whole(0))
        start = code.op("mul", k, longest)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            found = code.load("path_way", code.op("add", start, carried[0]))
            row = code.op("shr", found, whole(1))
            right = code.op("bit_and", found, whole(1))
            there = code.op("ge", found, whole(0))
            new = code.when(there, lambda: self._split(root, row, right, carried[1:]), carried[1:])
            return [code.op("add", carried[0], whole(1)), *new]

        last = code.loop([whole(0), *found[1:]], lambda c: code.op("lt", c[0], longest), turn)[1:]
        return [k, *last], self.cells.values(self.cells.of(last), code.load("path_theta", k))

    def _down(self, k: Value, root: Value, cells: Sequence[Cell]) -> tuple[Place, list[Value]]:
        """The path at time number k, by its own splits of given cells."""
        code, whole = self.code, self.cells.whole
        end = code.load("path_first", code.op("add", k, whole(1)))

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            row = carried[0]
            right = code.op("bit_and", code.load("path_turn", row), whole(1))
            return [code.op("add", row, whole(1)), *self._split(root, row, right, carried[1:])]

        start = [code.load("path_first", k), *_flat(cells)]
        last = code.loop(start, lambda c: code.op("lt", c[0], end), turn)[1:]
        return [k, *last], self.cells.values(self.cells.of(last), code.load("path_theta", k))

    def _split(self, root: Value, row: Value, right: Value, values: Sequence[Value]) -> list[Value]:
        """The split of a row of the program; the other part is kept if the program goes the same way."""
        code, whole = self.code, self.cells.whole
        point = code.load("path_unit", row), code.load("path_leaf", row)
        first = code.op("mul", code.load("path_shape", row), whole(SHAPE))
        shape = [code.load("path_shapes", code.op("add", first, whole(j))) for j in range(SHAPE)]
        bit = code.op("to_bool", right)
        found, others = self.cells.split(root, point, shape, bit, self.cells.of(values))
        turn = code.load("path_turn", row)
        slot = code.op("shr", turn, whole(1))
        same = code.op("eq", code.op("bit_and", turn, whole(1)), right)
        code.when(code.op("and", same, code.op("gt", slot, whole(0))), lambda: self._keep(slot, others))
        return _flat(found)

    def _following(self, carried: Sequence[Value]) -> list[Value]:
        """The number of the next root cell, and it."""
        code, cells, one = self.code, self.cells, self.cells.whole(1)
        old = cells.of(carried[1:])
        if self.falling:
            r = code.op("sub", carried[0], one)
            return [r, *_flat([cells.preceding(r, cell, c) for c, cell in enumerate(old)])]
        r = code.op("add", carried[0], one)
        return [r, *_flat([cells.following(r, cell, c) for c, cell in enumerate(old)])]

    def _next(self, k: Value, root: Value) -> list[Value]:
        """From the root cell of time number k to another one."""
        code, zero = self.code, self.cells.whole(0)
        old = code.load("path_root", k)
        test = "gt" if self.falling else "lt"
        found = code.loop(
            [old, *_flat(self._kept(zero))], lambda c: code.op(test, c[0], root), lambda c: self._following(c)
        )
        self._keep(zero, self.cells.of(found[1:]))
        return []

    def _row(self, slot: Value, i: int) -> Value:
        code, whole = self.code, self.cells.whole
        return code.op("add", code.op("mul", slot, whole(self.cells.width * self.channels)), whole(i))

    def _kept(self, slot: Value) -> list[Cell]:
        many = self.cells.width * self.channels
        return self.cells.of([self.code.load("cells", self._row(slot, i)) for i in range(many)])

    def _keep(self, slot: Value, cells: Sequence[Cell]) -> list[Value]:
        for i, v in enumerate(_flat(cells)):
            self.code.store("cells", self._row(slot, i), v)
        return []


class FreePath(Path):
    """The path at any time; a place is the number of a root cell, and its cells."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("root", *_names("root", self.cells))

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        root, *where = self._place(t)
        place = self._first(root)
        return place, self._down(root, where, place[1:])

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        return self.ahead(self._first(self._place(self.cells.t0)[0]), t)

    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        root, *where = self._place(t)
        place = self._forward(place, root)
        return place, self._down(root, where, place[1:])

    def between(self, t: Value) -> list[Value]:
        """The path at t, from the run's start."""
        return self.resumed(self.cells.whole(0), t)[1]

    def _first(self, root: Value) -> Place:
        """The root cell of the run's start."""
        return [root, *_flat([self.cells.first(root, c) for c in range(self.channels)])]

    def _forward(self, place: Place, root: Value) -> Place:
        """From one root cell to a later one, through those between."""
        code = self.code

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            k = code.op("add", carried[0], self.cells.whole(1))
            cells = self.cells.of(carried[1:])
            return [k, *_flat([self.cells.following(k, cell, c) for c, cell in enumerate(cells)])]

        return list(code.loop(place, lambda c: code.op("lt", c[0], root), turn))

    def _down(self, root: Value, where: Sequence[Value], cells: Sequence[Value]) -> list[Value]:
        """The path at a leaf of a unit (and theta in it), through the cells that hold it: first of whole
        units, then inside the unit."""
        code, whole = self.code, self.cells.whole
        unit, leaf, theta = where
        for name in ("path_spacing", "path_share"):
            code.buffer(name, "table", "in")
        code.buffer("path_levels", "table", "in", "i32")
        inside = code.op("or", code.op("gt", leaf, 0.0), code.op("gt", theta, 0.0))

        def coarse(carried: tuple[Value, ...]) -> Value:
            low, half = carried[:2]
            there = code.op("or", code.op("gt", unit, low), inside)
            return code.op("and", there, code.op("ge", half, 1.0))

        def halve(carried: tuple[Value, ...]) -> list[Value]:
            low, half = carried[:2]
            middle = code.op("add", low, half)
            right = code.op("ge", unit, middle)
            side = code.op("mul", half, float(LEAVES))
            point = code.op("to_i32", middle), whole(0)
            shape = self.cells.shape(side, side)
            found, _ = self.cells.split(root, point, shape, right, self.cells.of(carried[2:]))
            return [code.op("select", right, middle, low), code.op("mul", half, 0.5), *_flat(found)]

        half = code.const(2.0 ** (HALVINGS - 1))
        _, _, *cells = code.loop([code.const(0.0), half, *cells], coarse, halve)
        levels, number = code.load("path_levels", 0), code.op("to_i32", unit)

        def fine(carried: tuple[Value, ...]) -> Value:
            level, low = carried[:2]
            there = code.op("or", code.op("gt", leaf, low), code.op("gt", theta, 0.0))
            return code.op("and", there, code.op("lt", level, levels))

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            level, low, high, *cells = carried
            space = code.load("path_spacing", level)
            below = self._below(leaf, space, code.load("path_share", level))
            above = code.op("add", below, space)
            right = code.op("gt", below, low)
            middle = code.op("select", right, below, above)

            def split() -> list[Value]:
                shape = self.cells.shape(code.op("sub", middle, low), code.op("sub", high, middle))
                point = number, code.op("to_i32", middle)
                return _flat(self.cells.split(root, point, shape, right, self.cells.of(cells))[0])

            new = code.when(code.op("or", right, code.op("lt", above, high)), split, cells)
            low = code.op("select", right, below, low)
            high = code.op("select", code.op("lt", above, high), above, high)
            return [code.op("add", level, whole(1)), low, high, *new]

        start = [whole(0), code.const(0.0), code.const(float(LEAVES)), *cells]
        _, _, _, *cells = code.loop(start, fine, turn)
        return self.cells.values(self.cells.of(cells), theta)

    def _below(self, leaf: Value, space: Value, share: Value) -> Value:
        """The last multiple of `space` up to a leaf, exactly: the product may be one off."""
        code = self.code
        found = code.op("floor", code.op("mul", leaf, share))
        rest = code.op("fma", code.op("neg", found), space, leaf)
        more = code.op("select", code.op("ge", rest, space), 1.0, 0.0)
        more = code.op("select", code.op("lt", rest, 0.0), -1.0, more)
        return code.op("mul", code.op("add", found, more), space)

    def _place(self, t: Value) -> tuple[Value, Value, Value, Value]:
        """Root cell, unit in it, leaf in that and place in the leaf: `ndl.runtime.lattice.Places`. In single
        precision the product with LEAVES is taken in two parts, so that binary fractions come out exactly."""
        code = self.code
        units = code.op("mul", t, self.cells.unit)
        whole = code.op("floor", units)
        share = code.op("sub", units, whole)
        leaves = code.op("mul", share, float(LEAVES))
        near = code.op("round", leaves)
        if code.precision == "f64":
            off = code.op("sub", leaves, near)
        else:
            off = code.op("fma", share, float(LEAVES), code.op("neg", near))
        start = code.op("abs", code.op("mul", self.cells.t0, self.cells.unit))
        slack = code.op("mul", code.op("add", code.op("abs", units), start), self.cells.slack)
        meant = code.op("le", code.op("abs", off), slack)
        under = code.op("and", code.op("lt", off, 0.0), code.op("not", meant))
        leaf = code.op("sub", near, code.op("select", under, 1.0, 0.0))
        theta = code.op("select", meant, 0.0, code.op("select", under, code.op("add", off, 1.0), off))
        full = code.op("ge", leaf, float(LEAVES))
        leaf = code.op("select", full, 0.0, leaf)
        whole = code.op("add", whole, code.op("select", full, 1.0, 0.0))
        root = code.op("floor", code.op("mul", whole, 2.0**-HALVINGS))
        unit = code.op("sub", whole, code.op("mul", root, 2.0**HALVINGS))
        return code.op("to_i32", root), unit, leaf, theta


def _flat(cells: Sequence[Cell]) -> list[Value]:
    return [v for cell in cells for v in cell.values]


def _names(stem: str, cells: Cells) -> list[str]:
    parts = ("W", "H", "start", "area")[: cells.width]
    return [f"{stem}.{v}.{c}" for c in range(cells.channels) for v in parts]
