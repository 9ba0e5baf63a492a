"""Sweeps over a grid as kernels of one point each, for printers that run points side by side.

A point is what a trajectory is in other kernels: its number is where it stands in the arrays, members first,
then the axes of the grid. Places near the ends of axes are numbered; a point's number of place, read from a
table, chooses its body. On a periodic axis the places whose neighbours lie beyond an end have bodies of their
own, with the neighbours' true distance in the arrays, so that no index is computed anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.sweeps import Body, Place, Read, Slot, Stage, Sweeps
from ndl.compiler.kernels.verify import verify

Reads = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PointStage:
    """A stage's kernel. Its buffers are the arrays that it reads (tables) and those that it writes (of
    members, one row), `slots`, and the number of each point's `place`."""

    kernel: Kernel
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    node: float


def point_stages(sweeps: Sweeps) -> tuple[PointStage, ...]:
    """The kernels of a step's stages."""
    places = places_of(sweeps)
    return tuple(_stage(sweeps, k, stage, places) for k, stage in enumerate(sweeps.stages))


def places_of(sweeps: Sweeps) -> list[Place]:
    """Every kind of place, inside first; on periodic axes those near the seam are kinds of their own."""
    kinds: list[list[int | None]] = []
    for axis, n in enumerate(sweeps.shape):
        low, high = _width(sweeps, axis)
        if low + high >= n:
            raise ValueError("an axis has no inside")
        kinds.append([None, *range(low), *(-1 - k for k in range(high))])
    return list(itertools.product(*kinds))


def _width(sweeps: Sweeps, axis: int) -> tuple[int, int]:
    return sweeps.reach(axis) if sweeps.periodic[axis] else sweeps.edges[axis]


def numbers_of(sweeps: Sweeps) -> npt.NDArray[np.int32]:
    """The number of each point's place, in the shape of the grid."""
    total = np.zeros(sweeps.shape, dtype=np.int32)
    for axis, n in enumerate(sweeps.shape):
        low, high = _width(sweeps, axis)
        along = np.zeros(n, dtype=np.int32)
        along[:low] = 1 + np.arange(low)
        along[n - high :] = (1 + low + np.arange(high))[::-1]
        shape = [1] * len(sweeps.shape)
        shape[axis] = n
        total = total * (1 + low + high) + along.reshape(shape)
    return total


def _stage(sweeps: Sweeps, number: int, stage: Stage, places: Sequence[Place]) -> PointStage:
    reads = tuple(dict.fromkeys(r.array for _, r in stage.reads()))
    code = Code(sweeps.precision)
    for name in reads:
        code.buffer(_plain(name), "table", "in")
    for name in stage.writes:
        code.buffer(f"new_{_plain(name)}", "member", "out")
    code.buffer("slots", "table", "in")
    code.buffer("place", "member", "in", "i32")
    with code.block(shared=True) as entry:
        entry.yields = ()
    with code.block() as begin:
        begin.yields = ()
    with code.block() as step:
        here, kind = code.member(), code.load("place", 0)
        found: Sequence[Value] = [code.const(0.0) for _ in stage.writes]
        for k, place in enumerate(places):
            wanted = code.op("eq", kind, code.const(k, "i32"))
            body = stage.bodies[_unwrapped(sweeps, place)]
            offsets = _distances(sweeps, place)
            found = code.when(wanted, lambda b=body, o=offsets: _inlined(code, b, here, o), found)  # type: ignore[misc]
        for name, value in zip(stage.writes, found):
            code.store(f"new_{_plain(name)}", 0, value)
        step.yields = (code.const(True, "bool"),)
    with code.block() as finish:
        finish.yields = ()
    kernel = code.kernel(f"{sweeps.name}_{number}", entry, begin, step, finish, even=True)
    return PointStage(verify(kernel), reads, stage.writes, stage.node)


def _plain(array: str) -> str:
    return array.replace(".", "_")


def _unwrapped(sweeps: Sweeps, place: Place) -> Place:
    """The place whose body serves: inside along periodic axes."""
    return tuple(None if wrapped else p for p, wrapped in zip(place, sweeps.periodic))


def _distances(sweeps: Sweeps, place: Place) -> list[tuple[int, int, int | None, bool]]:
    """For each axis its extent, how far neighbours stand apart, the place, and whether it is periodic."""
    strides = [int(np.prod(sweeps.shape[k + 1 :])) for k in range(len(sweeps.shape))]
    return list(zip(sweeps.shape, strides, place, sweeps.periodic))


def _inlined(
    code: Code, body: Body, here: Value, axes: Sequence[tuple[int, int, int | None, bool]]
) -> list[Value]:
    """A body's yields at the point, in the open block."""
    known: dict[Value, Value] = {}
    for param, what in zip(body.block.params, body.reads):
        if isinstance(what, Slot):
            known[param] = code.load("slots", what.index)
            continue
        distance = _distance(what, axes)
        row = here if not distance else code.op("add", here, code.const(distance, "i32"))
        known[param] = code.load(_plain(what.array), row)
    for instr in body.block.body:
        (result,) = instr.results
        if instr.op == "const":
            known[result] = code.const(number_of(instr), result.type)
        else:
            args = tuple(known[a] for a in instr.args)
            known[result] = code.pure(instr.op, args, result.type, instr.attrs)
    return [known[y] for y in body.block.yields]


def _distance(read: Read, axes: Sequence[tuple[int, int, int | None, bool]]) -> int:
    """From the point to what is read, in the arrays."""
    total = 0
    for offset, (n, stride, place, wrapped) in zip(read.offset, axes):
        if wrapped and place is not None:
            at = (place if place >= 0 else n + place) + offset
            offset += n if at < 0 else -n if at >= n else 0
        total += offset * stride
    return total
