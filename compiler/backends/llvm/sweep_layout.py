"""How the fields of a sweep stand in memory, and how its stages follow each other.

A row of the last axis is cut into as many pieces as there are lanes, and one vector holds the same place of
every piece: neighbours along the row are then neighbouring vectors, which a loop carries in registers, and no
load crosses a cache line. Beyond both ends of a row stand `pad` vectors; in those the ends of the
pieces are repeated, one lane further.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ndl.compiler.kernels.sweeps import Body, Read, Sweeps

BLOCKS = ((8, 4), (16, 2))
"""Up to so many values read at a point, registers hold blocks of so many slabs."""


@dataclass(frozen=True)
class Layout:
    """How a field stands in memory: slabs of the first axis, rows of the middle one, vectors of a row."""

    shape: tuple[int, int, int]
    lanes: int
    pads: tuple[int, int]
    """Beyond the ends of the middle axis (rows) and of the last one (vectors)."""

    @property
    def length(self) -> int:
        """Vectors of a row without its pads."""
        return -(-self.shape[2] // self.lanes)

    @property
    def row(self) -> int:
        """Reals of a row."""
        return (self.length + 2 * self.pads[1]) * self.lanes

    @property
    def slab(self) -> int:
        return (self.shape[1] + 2 * self.pads[0]) * self.row

    def place(self, column: int) -> int:
        """The real of a row at which a column stands."""
        lane = min(max(column, 0) // self.length, self.lanes - 1)
        return (column - lane * self.length + self.pads[1]) * self.lanes + lane


def layout_of(sweeps: Sweeps, widest: int) -> Layout:
    """The layout of the fields of a step, with at most `widest` lanes: pieces of a row are no shorter than
    what a point reads on either side. Raises ValueError where the whole row is."""
    whole = three(sweeps)
    pads = whole.pad(1), whole.pad(2)
    lanes = widest
    while lanes > 1 and -(-whole.shape[2] // lanes) < max(4, pads[1]):
        lanes //= 2
    if whole.periodic[2] and -(-whole.shape[2] // lanes) < pads[1]:
        raise ValueError("the axis is shorter than its stencil")
    return Layout(whole.shape, lanes, pads)  # type: ignore[arg-type]


def three(sweeps: Sweeps) -> Sweeps:
    """The same step with axes of one point before the last one, so that there are three."""
    missing = 3 - len(sweeps.shape)
    if not missing:
        return sweeps
    at = len(sweeps.shape) - 1

    def wide(items: tuple, filler: object) -> tuple:  # type: ignore[type-arg]
        return (*items[:at], *[filler] * missing, *items[at:])

    def body(b: Body) -> Body:
        return Body(
            tuple(Read(r.array, wide(r.offset, 0)) if isinstance(r, Read) else r for r in b.reads), b.block
        )

    stages = tuple(
        replace(s, bodies={wide(p, None): body(b) for p, b in s.bodies.items()}) for s in sweeps.stages
    )
    return replace(
        sweeps, shape=wide(sweeps.shape, 1), periodic=wide(sweeps.periodic, False),
        edges=wide(sweeps.edges, (0, 0)), stages=stages,
        padding=wide(sweeps.padding, 0) if sweeps.padding else (),
    )  # fmt: skip


def block_of(sweeps: Sweeps) -> int:
    """Slabs that a stage takes at once, so that neighbours along the first axis are read once for all."""
    reads = max(len(b.reads) for s in sweeps.stages for b in s.bodies.values())
    if three(sweeps).shape[0] == 1:
        return 1
    return next((block for most, block in BLOCKS if reads <= most), 1)


def lag_of(sweeps: Sweeps) -> int:
    """Slabs by which a stage follows the one before."""
    return three(sweeps).reach(0)[1]


@dataclass(frozen=True)
class Rings:
    """Where the slabs stand that stages hand on. Without a `shift` each stage has rings of its own, of `each`
    slabs. With one, all stages share one ring for each field, of `each` slabs for every stage and `more`: a
    stage's slab stands `shift` places before that of the stage before, on one that nobody reads any more
    and that the first cache still holds."""

    each: int
    more: int = 0
    shift: int | None = None

    def slabs(self, levels: int) -> int:
        return self.each * levels + self.more


def rings_of(sweeps: Sweeps) -> Rings:
    """The rings of a step: one that all share, where only the stage before is read."""
    whole, lag, block = three(sweeps), lag_of(sweeps), block_of(sweeps)
    back = whole.reach(0)[0]
    if len(sweeps.stages) > 1:
        return Rings(len(sweeps.stages) * lag + block + back)
    # rows of a plane are read again by the next ones, so that a plane is written beside those that are read
    shift = back if whole.shape[1] == 1 else back + block
    return Rings(lag + shift, block + back, shift)


def ring_slots(sweeps: Sweeps) -> int:
    """Rings of each stage."""
    return max(len(s.writes) for s in sweeps.stages)
