"""Steps of fields on a grid: what is done at one point, for each stage of a method and each kind of place.

A stage of an explicit method reads the stage's values at neighbours, the step's start and earlier rates at
the point itself, and writes the next values. Its text is straight-line code, one body for points inside and
one for each place near an end of an axis; how points, rows and steps follow each other is the printer's
business.

Arrays are `y0.f` (field f at the step's start), `y1.f`, … (the values that stage 1, … reads), `k0.f`, … (the
rates of stage 0, …) and `c.name` (coefficients on the grid, which nothing writes). The last stage writes the
step's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ndl.compiler.kernels.ir import Block
from ndl.compiler.kernels.math.expand import expand_block

Place = tuple[int | None, ...]
"""For each axis: None inside, k for the k-th point, -1-k for the k-th from the end."""


@dataclass(frozen=True)
class Read:
    """An array's value at an offset, one number for each axis, from the point."""

    array: str
    offset: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """A number that all points share; `TIME` is the stage's time and `STEP` the step size."""

    index: int


TIME, STEP, FIRST = Slot(0), Slot(1), 2
"""Slots that the driver fills, and the first that is free."""


@dataclass(frozen=True)
class Body:
    """What is done at a point: the block's parameters are what `reads` says."""

    reads: tuple[Read | Slot, ...]
    block: Block


@dataclass(frozen=True)
class Stage:
    """One sweep over the grid. `node` is its time within the step (in steps), `writes` the arrays to which
    the bodies' yields go."""

    node: float
    writes: tuple[str, ...]
    bodies: Mapping[Place, Body]

    def reads(self) -> Iterator[tuple[Place, Read]]:
        for place, body in self.bodies.items():
            for read in body.reads:
                if isinstance(read, Read):
                    yield place, read

    def arrays(self) -> tuple[str, ...]:
        """All arrays that the stage touches, those that it writes first."""
        return tuple(dict.fromkeys([*self.writes, *(r.array for _, r in self.reads())]))


@dataclass(frozen=True)
class Sweeps:
    """A step of a method over a grid of one to three axes. `edges` gives, for each axis that is not periodic,
    how many places at either end have bodies of their own, `padding` how many neighbours beyond the ends
    there are at least."""

    name: str
    precision: str
    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    edges: tuple[tuple[int, int], ...]
    fields: int
    stages: tuple[Stage, ...]
    slots: int = FIRST
    padding: tuple[int, ...] = ()

    def reach(self, axis: int) -> tuple[int, int]:
        """How far bodies look back and ahead along an axis, from where they stand."""
        offsets = [0, *(r.offset[axis] for s in self.stages for _, r in s.reads())]
        return -min(offsets), max(offsets)

    def pad(self, axis: int) -> int:
        """Neighbours beyond the ends that points inside (on a periodic axis: all points) read."""
        found = [abs(r.offset[axis]) for s in self.stages for place, r in s.reads() if place[axis] is None]
        return max([0, *self.padding[axis : axis + 1], *found])

    def kept(self) -> tuple[str, ...]:
        """The arrays that the stages hand on, in the order in which they are written."""
        return tuple(a for s in self.stages for a in s.writes)

    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficient arrays."""
        found = (a for s in self.stages for a in s.arrays() if a.startswith("c."))
        return tuple(dict.fromkeys(found))


def expanded(body: Body, precision: str) -> Body:
    """The body with its mathematics in primitive ops."""
    return replace(body, block=expand_block(body.block, precision))
