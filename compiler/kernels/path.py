"""The Brownian path at the times of a kernel's steps, made where it is used.

`GridPath` serves fixed steps. All trajectories take the same ones, so that which cells of the dyadic tree a
time needs is known beforehand: tables say, for each time, the root cell, the leaf in it, how deep to go,
from which level the way differs from that to the time before, and down to which level it is that to the next
one. The cells that the next time starts from stand in the buffer `cells`, four numbers a level and channel;
those below, most of them, in registers. A time costs two normals for each new level. Tables, one row for
each time: `path_root`, `path_high` and `path_low` (the leaf's number), `path_from`, `path_keep`,
`path_depth`, `path_theta` (place in the leaf).

`FreePath` gives the path at any time, from its root cell down, in registers alone: as many halvings as the
time has binary digits, 34 at the most. It serves adaptive steps, and times inside steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ndl.compiler.kernels.cells import DEPTH, ROOT, Cell, Cells, Number
from ndl.compiler.kernels.ir import Value

Place = list[Value]
"""What a trajectory carries of where it stands on the path."""


class Path(ABC):
    """A path of `channels` motions. Its values are W of each channel, then their integrals, relative to the
    left end of the first root cell."""

    def __init__(self, cells: Cells) -> None:
        self.cells, self.code, self.channels = cells, cells.code, cells.channels

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
    """The path at times that are known beforehand; a place is the number of its time."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("at",)

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells)
        code = self.code
        code.buffer("path_theta", "table", "in")
        for name in ("path_root", "path_high", "path_low", "path_from", "path_keep", "path_depth"):
            code.buffer(name, "table", "in", "i32")
        code.buffer("cells", "member", "inout")

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        return self.resumed(self.cells.whole(0), t)

    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        k = self.code.op("add", place[0], self.cells.whole(1))
        return [k], self.at(k)

    def at(self, k: Value) -> list[Value]:
        """The path at time number k; the times are asked in order."""
        code, whole = self.code, self.cells.whole
        root, known = code.load("path_root", k), code.load("path_from", k)
        new = code.op("lt", known, whole(0))
        code.when(new, lambda: self._root(root))
        return self._down(k, code.op("select", new, whole(0), known))

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        """Down from the root cell, which follows from the first one."""
        code, whole = self.code, self.cells.whole
        first, root = code.load("path_root", whole(0)), code.load("path_root", k)
        before = self.cells.none()
        cells = [self.cells.following(first, before, c) for c in range(self.channels)]

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            r = code.op("add", carried[0], whole(1))
            old = _cells(carried[1:])
            return [r, *_flat([self.cells.following(r, cell, c) for c, cell in enumerate(old)])]

        found = code.loop([first, *_flat(cells)], lambda c: code.op("lt", c[0], root), turn)
        self._keep(whole(0), _cells(found[1:]))
        return [k], self._down(k, whole(0))

    def _down(self, k: Value, first: Value) -> list[Value]:
        """The path at time number k, from the kept cells of level `first` down."""
        code, whole = self.code, self.cells.whole
        root, depth = code.load("path_root", k), code.load("path_depth", k)
        leaf = code.load("path_high", k), code.load("path_low", k)
        wanted = code.load("path_keep", k)

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            level, parent = carried[0], code.op("sub", carried[0], whole(1))
            number = self._shifted(leaf, code.op("sub", whole(DEPTH), parent))
            _, bit = self._shifted(leaf, code.op("sub", whole(DEPTH), level))
            right = code.op("to_bool", code.op("bit_and", bit, whole(1)))
            halves = self.cells.half(root, level, number, right, _cells(carried[1:]))
            code.when(code.op("le", level, wanted), lambda: self._keep(level, halves))
            return [code.op("add", level, whole(1)), *_flat(halves)]

        start = [code.op("add", first, whole(1)), *_flat(self._kept(first))]
        last = code.loop(start, lambda c: code.op("le", c[0], depth), turn)[1:]
        theta = code.load("path_theta", k)
        found = [self.cells.inside(cell, theta) for cell in _cells(last)]
        return [w for w, _ in found] + [i for _, i in found]

    def _root(self, root: Value) -> list[Value]:
        zero = self.cells.whole(0)
        before = self._kept(zero)
        self._keep(zero, [self.cells.following(root, cell, c) for c, cell in enumerate(before)])
        return []

    def _row(self, level: Value, c: int, j: int) -> Value:
        code, whole = self.code, self.cells.whole
        return code.op("add", code.op("mul", level, whole(4 * self.channels)), whole(4 * c + j))

    def _kept(self, level: Value) -> list[Cell]:
        rows = [[self._row(level, c, j) for j in range(4)] for c in range(self.channels)]
        return [Cell(*(self.code.load("cells", r) for r in row)) for row in rows]

    def _keep(self, level: Value, cells: Sequence[Cell]) -> list[Value]:
        for c, cell in enumerate(cells):
            for j, v in enumerate(cell.values):
                self.code.store("cells", self._row(level, c, j), v)
        return []

    def _shifted(self, leaf: Number, by: Value) -> Number:
        """A leaf's 34 bits shifted right by 0 to 34, as high and low words."""
        code, whole, (high, low) = self.code, self.cells.whole, leaf
        far = code.op("ge", by, whole(32))
        less = code.op("bit_and", by, whole(31))
        none = code.op("eq", less, whole(0))
        back = code.op("bit_and", code.op("sub", whole(32), less), whole(31))
        moved = code.op("select", none, whole(0), code.op("shl", high, back))
        near_low = code.op("bit_or", code.op("shr", low, less), moved)
        shifted_high = code.op("shr", high, less)
        return (
            code.op("select", far, whole(0), shifted_high),
            code.op("select", far, shifted_high, near_low),
        )


class FreePath(Path):
    """The path at any time; a place is the number of a root cell, and its cells."""

    @property
    def names(self) -> tuple[str, ...]:
        return ("root", *(f"root.{v}.{c}" for c in range(self.channels) for v in ("W", "H", "start", "area")))

    def start(self, t: Value) -> tuple[Place, list[Value]]:
        root, share = self._cell_of(t)
        place = self._first(root)
        return place, self._down(root, share, _cells(place[1:]))

    def resumed(self, k: Value, t: Value) -> tuple[Place, list[Value]]:
        return self.ahead(self._first(self._cell_of(self.cells.t0)[0]), t)

    def ahead(self, place: Place, t: Value) -> tuple[Place, list[Value]]:
        root, share = self._cell_of(t)
        place = self._forward(place, root)
        return place, self._down(root, share, _cells(place[1:]))

    def between(self, t: Value) -> list[Value]:
        """The path at t, from the run's start."""
        return self.resumed(self.cells.whole(0), t)[1]

    def _first(self, root: Value) -> Place:
        """The root cell of the run's start."""
        before = self.cells.none()
        return [root, *_flat([self.cells.following(root, before, c) for c in range(self.channels)])]

    def _forward(self, place: Place, root: Value) -> Place:
        """From one root cell to a later one, through those between."""
        code = self.code

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            k = code.op("add", carried[0], self.cells.whole(1))
            cells = _cells(carried[1:])
            return [k, *_flat([self.cells.following(k, cell, c) for c, cell in enumerate(cells)])]

        return list(code.loop(place, lambda c: code.op("lt", c[0], root), turn))

    def _down(self, root: Value, share: Value, cells: Sequence[Cell]) -> list[Value]:
        """The path at a share of root cells, through the halves that hold it, down to one that starts there
        or to leaves."""
        code, whole = self.code, self.cells.whole

        def more(carried: tuple[Value, ...]) -> Value:
            level, share = carried[:2]
            return code.op("and", code.op("gt", share, 0.0), code.op("le", level, whole(DEPTH)))

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            level, share, high, low = carried[:4]
            twice = code.op("mul", share, 2.0)
            right = code.op("ge", twice, 1.0)
            halves = self.cells.half(root, level, (high, low), right, _cells(carried[4:]))
            bit = code.op("from_bool", right)
            return [
                code.op("add", level, whole(1)),
                code.op("select", right, code.op("sub", twice, 1.0), twice),
                code.op("bit_or", code.op("shl", high, whole(1)), code.op("shr", low, whole(31))),
                code.op("bit_or", code.op("shl", low, whole(1)), bit),
                *_flat(halves),
            ]

        _, share, _, _, *last = code.loop([whole(1), share, whole(0), whole(0), *_flat(cells)], more, turn)
        found = [self.cells.inside(cell, share) for cell in _cells(last)]
        return [w for w, _ in found] + [i for _, i in found]

    def _cell_of(self, t: Value) -> tuple[Value, Value]:
        """The number of the root cell that holds a time, and the share of it that is before:
        `BrownianPath._cell_of`. Every operation is exact but that which makes a time of negative units."""
        code = self.code
        cells = code.op("mul", code.op("mul", t, self.cells.unit), 2.0**-ROOT)
        root = code.op("floor", cells)
        share = code.op("sub", cells, root)
        over = code.op("ge", share, 1.0)
        root = code.op("select", over, code.op("add", root, 1.0), root)
        return code.op("to_i32", root), code.op("select", over, 0.0, share)


def _flat(cells: Sequence[Cell]) -> list[Value]:
    return [v for cell in cells for v in cell.values]


def _cells(values: Sequence[Value]) -> list[Cell]:
    return [Cell(*values[4 * c : 4 * c + 4]) for c in range(len(values) // 4)]
