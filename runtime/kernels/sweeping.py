"""Sweeps over grids on a CPU: fields in the kernels' layout, passes of several steps, threads by rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from ndl.runtime.kernels.cpu_engine import Program, load, share
from ndl.runtime.kernels.lease import Lease
from ndl.runtime.kernels.pointwise import PointPlan
from ndl.runtime.methods import Tableau
from ndl.runtime.problem import Floats
from torch import Tensor

CACHE = 3 << 18
"""Bytes of rings that a core's second cache holds, besides the rows that come and go."""

MOST_STEPS = 16
"""Steps of a pass: more do not pay, but cost rows at the seams between threads."""


LINE = 16
"""Reals that a cache line may hold."""


@dataclass(frozen=True)
class Plan:
    """A printed step of fields and how they stand in memory.

    `columns` says which column of the last axis each real of a row holds, `rows` the same of the middle axis,
    `extra` which reals of a row the function `enter` of the program leaves to others. `shape` has three axes,
    the first of one slab for grids of one axis. A slab has `slab` reals; there are `slots` rings, of `depth`
    slabs for each stage of each step and `more`, and a stage looks `reach` slabs away. `coefficients` are
    named in the order of their addresses."""

    program: Program
    shape: tuple[int, int, int]
    fields: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    extra: tuple[int, ...]
    first_row: int
    slab: int
    depth: int
    more: int
    slots: int
    stages: int
    reach: int
    coefficients: tuple[str, ...] = ()

    def steps_at_once(self, item: int) -> int:
        """How many steps a pass takes, for reals of `item` bytes: as many as the rings have room for."""
        if self.shape[0] == 1:
            return MOST_STEPS
        step = max(self.ring(1) - self.ring(0), 1) * item
        return max(1, min(MOST_STEPS, 1 + CACHE // step))

    def ring(self, steps: int) -> int:
        """Reals of the rings of a pass of so many steps."""
        return self.slots * (self.stages * steps * self.depth + self.more) * self.slab


@dataclass(frozen=True)
class Values:
    """The numbers of the slots after the first two, and the arrays of the coefficients by name, `[n1, …]`."""

    numbers: list[Tensor]
    tables: dict[str, Tensor]


@dataclass(frozen=True)
class Back:
    """A step's reverse. Its fields are the cotangents of the step's and of the first `numbers` slots and the
    arrays named `tables`, its coefficients all arrays and the step's start, `c.x0`, …"""

    plan: Plan
    numbers: int
    tables: tuple[str, ...]


@dataclass(frozen=True)
class FieldMade:
    """A step for fields, by rows or by points; the weights that it wants, and what makes slots and
    coefficients of them; the step's reverse, where a gradient is wanted."""

    plan: Plan | PointPlan
    outside: tuple[tuple[str, ...], Callable[[Mapping[str, Tensor]], Values]]
    back: Back | None = None
    reserved: int = 0
    """Slots after the driver's for tolerances or weights."""


class FieldSource(Protocol):
    """Makes the steps of one model on a grid."""

    shape: tuple[int, ...]
    ranks: Mapping[str, int]
    """How many axes a weight has in a model without members."""

    def make(
        self, tableau: Tableau, precision: str, target: str, gradient: bool = False, kind: str = "step"
    ) -> FieldMade | str:  # fmt: skip
        """The step by an explicit tableau for the `target` `cpu` or `triton`, with its reverse where a
        gradient is wanted, or why there is none, as words that follow “because”. Of the `kind` `pair` it
        writes its error as one field more, of the kind `inside` it ends at a fraction of the step."""
        ...


class Sweeper:
    """Takes steps of fields, forth and back between two buffers."""

    def __init__(self, plan: Plan, fields: Tensor, coefficients: Mapping[str, Tensor] | None = None) -> None:
        """`fields`: [members, fields, n1, n2, n3]; `coefficients`: each [members or 1, n1, n2, n3]."""
        self.plan = plan
        self.compiled = load(plan.program)
        names = (plan.program.symbol, "enter", "leave")
        self.functions = {name: self.compiled.address(name) for name in names}
        self.members = fields.shape[0]
        self.threads = torch.get_num_threads()
        self.lease = Lease(fields.new_empty(0), self._room(fields))
        self._free = 0
        self.now = self._laid_out(fields, self._taken(self._laid_shape(fields)))
        self.next = self._taken(self.now.shape)
        self.given = {k: self.laid(c) for k, c in (coefficients or {}).items() if k in plan.coefficients}
        self.rings: list[Tensor] = []

    def fields(self) -> Tensor:
        """The fields as they are now: [members, fields, n1, n2, n3]."""
        return self.plain(self.now)

    def plain(self, laid: Tensor) -> Tensor:
        """Fields in the kernels' layout without it."""
        found = laid.new_empty(*laid.shape[:-2], *self.plan.shape[1:])
        self._carry("leave", found, laid)
        return found

    def laid(self, x: Tensor) -> Tensor:
        """Fields [..., n1, n2, n3] in the kernels' layout, [..., n1, rows, reals of a row]."""
        return self._laid_out(x, x.new_empty(self._laid_shape(x)))

    def _laid_shape(self, x: Tensor) -> tuple[int, ...]:
        return (*x.shape[:-2], len(self.plan.rows), len(self.plan.columns))

    def _room(self, fields: Tensor) -> int:
        """Reals for two buffers of all fields and a ring for each thread."""
        most = self.plan.steps_at_once(fields.element_size())
        return 2 * (math.prod(self._laid_shape(fields)) + LINE) + self.threads * (self._ring(most) + LINE)

    def _taken(self, shape: Sequence[int]) -> Tensor:
        """Memory of the lease, from the start of a cache line on."""
        size, whole = math.prod(shape), self.lease.buffer
        item = whole.element_size()
        start = self._free + -(whole.data_ptr() + self._free * item) % 64 // item
        self._free = start + size
        return whole[start : start + size].view(tuple(shape))

    def _ring(self, steps: int) -> int:
        """Reals of the rings of a pass of so many steps."""
        return self.plan.ring(steps)

    def _laid_out(self, x: Tensor, found: Tensor) -> Tensor:
        """The same, in `found`."""
        plan, x = self.plan, x.contiguous()
        self._carry("enter", x, found)
        inside = found.narrow(-2, plan.first_row, plan.shape[1])
        if plan.extra:
            held = x.index_select(-1, torch.tensor([plan.columns[k] for k in plan.extra]))
            inside.index_copy_(-1, torch.tensor(plan.extra), held)
        for r in [r for r in range(len(plan.rows)) if not 0 <= r - plan.first_row < plan.shape[1]]:
            found[..., r, :] = inside[..., plan.rows[r], :]
        return found

    def _carry(self, name: str, plain: Tensor, laid: Tensor) -> None:
        slabs = plain.numel() // (self.plan.shape[1] * self.plan.shape[2])
        given = (plain.data_ptr(), laid.data_ptr())
        count = self.threads if plain.numel() > 1 << 16 else 1
        size = -(-slabs // count)
        jobs = [(*given, k, min(k + size, slabs)) for k in range(0, slabs, size)]
        share(self.functions[name], np.array(jobs, np.int64), count)

    def advance(self, slots: Tensor, steps: int) -> None:
        """So many steps of one size. `slots`: [members or 1, slots], the first two of them the time, which
        goes on, and the step size."""
        most = self.plan.steps_at_once(self.now.element_size())
        while steps:
            count = min(steps, most)
            self._pass(slots, count)
            slots[:, 0] += count * slots[:, 1]
            self.now, self.next = self.next, self.now
            steps -= count

    def attempt(self, slots: Tensor, members: Sequence[int]) -> None:
        """A step of some members, whose ends are in `next` until `accept` takes them."""
        self._pass(slots, 1, members)

    def accept(self, members: Sequence[int]) -> None:
        if len(members) == self.members:
            self.now, self.next = self.next, self.now
            return
        for m in members:
            self.now[m].copy_(self.next[m])

    def _pass(self, slots: Tensor, steps: int, members: Sequence[int] | None = None) -> None:
        chosen = range(self.members) if members is None else members
        portions = [(member, first, last) for member in chosen for first, last in self._portions(steps)]
        count = min(self.threads, len(portions))
        self._make_rings(count)
        tables = {member: self._coefficients(member) for member in chosen}
        for k in range(0, len(portions), count):
            # as many at once as there are rings
            jobs = [
                self._job(slots, steps, ring, tables[portion[0]], *portion)
                for ring, portion in zip(self.rings, portions[k : k + count], strict=False)
            ]
            share(self.functions[self.plan.program.symbol], np.array(jobs, np.int64), count)

    def _make_rings(self, threads: int) -> None:
        """Memory of each thread for the longest pass."""
        size = self._ring(self.plan.steps_at_once(self.now.element_size()))
        while len(self.rings) < threads:
            self.rings.append(self._taken((size,)))

    def _portions(self, steps: int) -> list[tuple[int, int]]:
        """Rows of the first axis for each thread; one portion where there are members enough."""
        extent = self.plan.shape[0]
        seam = steps * self.plan.stages * self.plan.reach
        count = 1 if self.members >= self.threads else max(1, min(self.threads, extent // max(2 * seam, 8)))
        size = -(-extent // count)
        return [(k, min(k + size, extent)) for k in range(0, extent, size)]

    def _coefficients(self, member: int) -> npt.NDArray[np.int64]:
        """The addresses of a member's arrays."""
        ordered = [self.given[name] for name in self.plan.coefficients]
        return np.array([c[member if c.shape[0] > 1 else 0].data_ptr() for c in ordered], np.int64)

    def _job(
        self,
        slots: Tensor,
        steps: int,
        ring: Tensor,
        coefficients: npt.NDArray[np.int64],
        member: int,
        first: int,
        last: int,
    ) -> tuple[int, ...]:
        """The arguments of a portion's function."""
        own = slots[member if slots.shape[0] > 1 else 0]
        return (
            self.now[member].data_ptr(), self.next[member].data_ptr(), ring.data_ptr(), own.data_ptr(),
            coefficients.ctypes.data, first, last, steps,
        )  # fmt: skip


def alike(sizes: Floats, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Steps `first`, …, `last` - 1 in runs of one size: the first of each, and how many."""
    while first < last:
        other = np.flatnonzero(np.abs(sizes[first:last] - sizes[first]) > 1e-9 * abs(sizes[first]))
        many = int(other[0]) if other.size else last - first
        yield first, many
        first += many
