"""The kernel IR: what one trajectory does, as typed scalar SSA with structured loops.

A kernel is a program for a single trajectory; how many run side by side is the printers' business (SIMD
lanes on a CPU, a tile of trajectories on a GPU). It has four blocks:

    entry    values that all trajectories share, from tables
    begin    (…)       -> what a trajectory carries at first
    step     (carried) -> what it carries next, and whether it is done
    finish   (carried) -> nothing; stores what is asked for

`step` is repeated until the trajectory is done. Inside a block stand pure operations, loads and stores,
`while` loops and `when` regions. A value is visible in the regions nested in its block, and those of `entry`
everywhere.

Types: `real` (float32 or float64, the kernel's precision), `bits` (an integer as wide as a real), `i32`,
`bool`, and `array[m]`, m reals (see `arrays`). Buffers are structures of arrays: row r of trajectory m of a
`member` buffer stands at r*B + m, row r of a `table`, which all trajectories share, at r. A `sum` has rows
like a table; what trajectories give to a row is added up. In a `kept` buffer each step of a trajectory has a
number of reals of its own, in an order that is the printer's business. The rows of a `scratch` are a
trajectory's own while it runs; nobody outside gives or sees them. Nothing aliases: an `in` buffer is never
written, an `out` one never read unless it is `inout`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TYPES = ("real", "bits", "i32", "bool")


def array_type(extent: int) -> str:
    """The type of arrays of so many reals."""
    return f"array[{extent}]"


def extent_of(type: str) -> int | None:
    """How many reals an array has; None for the other types."""
    return int(type[6:-1]) if type.startswith("array[") else None


@dataclass(frozen=True)
class Value:
    """The result of an instruction or the parameter of a block."""

    id: int
    type: str

    def __str__(self) -> str:
        return f"%{self.id}"


@dataclass(frozen=True)
class Instr:
    """One operation. `attrs` hold a constant's value or a buffer's name; `origin` is the text of the equation
    that it was made from and `place` where that stands (line, column), for reading and for failures."""

    op: str
    args: tuple[Value, ...]
    results: tuple[Value, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    regions: tuple[Block, ...] = ()
    origin: str = field(default="", compare=False)

    def attr(self, name: str) -> Any:
        return dict(self.attrs)[name]


@dataclass
class Block:
    """Instructions in order; `params` are bound on entry, `yields` handed on at the end."""

    params: tuple[Value, ...] = ()
    body: list[Instr] = field(default_factory=list)
    yields: tuple[Value, ...] = ()

    def walk(self) -> Iterator[Instr]:
        """Every instruction, those of nested regions after the one that holds them."""
        for instr in self.body:
            yield instr
            for region in instr.regions:
                yield from region.walk()


@dataclass(frozen=True)
class Buffer:
    """`kind` is `table`, `member`, `sum`, `kept` or `scratch`; `type` that of its elements (`real` or `i32`);
    `mode` in, out or inout."""

    name: str
    kind: str
    mode: str
    type: str = "real"


@dataclass
class Kernel:
    """A whole solve. `carried` names what a trajectory carries, in the order of `begin`'s yields; `even` says
    that trajectories which run side by side begin together and are replaced when all are done: by a value
    that is the same for all, or each by its own, the others waiting."""

    name: str
    precision: str  # f64 f32
    buffers: tuple[Buffer, ...]
    entry: Block
    begin: Block
    step: Block
    finish: Block
    carried: tuple[str, ...] = ()
    even: bool = False
    doc: str = ""

    def blocks(self) -> tuple[tuple[str, Block], ...]:
        return ("entry", self.entry), ("begin", self.begin), ("step", self.step), ("finish", self.finish)

    def buffer(self, name: str) -> Buffer:
        for b in self.buffers:
            if b.name == name:
                return b
        raise KeyError(name)


class Unsupported(Exception):
    """A kernel cannot say this; the run goes by torch. The message completes “because …”."""


class KernelError(Exception):
    """A kernel is malformed: a defect of the compiler, never of the user's program."""
