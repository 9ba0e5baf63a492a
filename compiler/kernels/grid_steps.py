"""Steps of explicit Runge–Kutta methods for fields, as sweeps over a grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.points import Edges, Points, Statics
from ndl.compiler.kernels.scalars import Unsupported
from ndl.compiler.kernels.sweeps import FIRST, STEP, Body, Place, Stage, Sweeps

MOST_BODIES = 81
"""Kinds of places beyond which compiling takes longer than it is worth."""

LONGEST = 1500
"""Instructions of a body beyond which the same is true."""


@dataclass(frozen=True)
class GridStep:
    """A step, and the nodes of the rates that are computed outside: by slot, and by the name of the table
    with the grid axes that its axes are."""

    sweeps: Sweeps
    slots: Mapping[int, Node]
    tables: Mapping[str, tuple[Node, tuple[int, ...]]]


@dataclass(frozen=True)
class Rate:
    """The rate of one field: an output of the rates' function, and the index of the component."""

    output: Node
    component: tuple[int, ...] = ()


def grid_step(
    name: str, precision: str, function: Function, fields: Mapping[tuple[str, tuple[int, ...]], int],
    rates: Sequence[Rate], shape: tuple[int, ...], periodic: tuple[bool, ...],
    c: Sequence[float], a: Sequence[Sequence[float]], b: Sequence[float],
) -> GridStep:  # fmt: skip
    """The sweeps of a step with the explicit tableau (c, a, b). Raises `Unsupported`."""
    stages = 1 + max(j for j, w in enumerate(b) if w != 0)
    rows = [_wide(row, stages) for row in [*a[1:stages], b]]
    made = _Stages(precision, function, fields, rates, shape, rows)
    inside: Place = (None,) * len(shape)
    for k in range(stages):
        made.body(k, inside)
    places = made.places()
    bodies = [{p: made.body(k, p) for p in places} for k in range(stages)]
    found = tuple(Stage(float(c[k]), made.writes(k), bodies[k]) for k in range(stages))
    statics, graph = made.statics, function.graph
    edges = tuple((low, high) for low, high in made.edges.widths)
    sweeps = Sweeps(name, precision, shape, periodic, edges, len(rates), found, FIRST + len(statics.slots))
    tables = {table: (graph[node], axes) for node, (table, axes) in statics.tables.items()}
    return GridStep(sweeps, {slot: graph[node] for node, slot in statics.slots.items()}, tables)


def _wide(row: Sequence[float], stages: int) -> np.ndarray:
    found = np.zeros(stages)
    found[: min(len(row), stages)] = row[:stages]
    return found


class _Stages:
    """`rows[k]` are the weights of the rates in what stage k writes."""

    def __init__(
        self, precision: str, function: Function, fields: Mapping[tuple[str, tuple[int, ...]], int],
        rates: Sequence[Rate], shape: tuple[int, ...], rows: Sequence[np.ndarray],
    ) -> None:  # fmt: skip
        self.precision, self.function, self.fields = precision, function, fields
        self.rates, self.shape, self.rows = rates, shape, rows
        self.edges = Edges([[0, 0] for _ in shape])
        self.statics = Statics()

    def places(self) -> list[Place]:
        """Every kind of place, inside first."""
        kinds: list[list[int | None]] = []
        for n, (low, high) in zip(self.shape, self.edges.widths):
            if low + high >= n:
                raise Unsupported(
                    f"an axis of {n} points has no inside: differences reach {low} from its ends"
                )
            kinds.append([None, *range(low), *(-1 - k for k in range(high))])
        if np.prod([len(k) for k in kinds]) > MOST_BODIES:
            raise Unsupported("its differences reach too far from the ends")
        return list(itertools.product(*kinds))

    def kept(self, stage: int) -> bool:
        """Whether a later stage reads this one's rates."""
        return any(row[stage] != 0 for row in self.rows[stage + 1 :])

    def writes(self, stage: int) -> tuple[str, ...]:
        numbers = range(len(self.rates))
        rates = [f"k{stage}.{f}" for f in numbers] if self.kept(stage) else []
        return (*(f"y{stage + 1}.{f}" for f in numbers), *rates)

    def body(self, stage: int, place: Place) -> Body:
        code = Code(self.precision)
        with code.block() as block:
            points = Points(code, self.function, self.fields, self.shape, self.edges, self.statics)
            points.place, points.stage = place, stage
            here = points.here(len(self.shape))
            rates = [points.value(r.output, (*here, *r.component)) for r in self.rates]
            ends = [self._end(points, stage, f, rate) for f, rate in enumerate(rates)]
            block.yields = (*ends, *(rates if self.kept(stage) else ()))
        block.params = tuple(points.params.values())
        if len(block.body) > LONGEST:
            raise Unsupported(f"its rates have more than {LONGEST} operations at a point")
        return Body(tuple(points.params), block)

    def _end(self, points: Points, stage: int, field: int, rate: Value) -> Value:
        """The start plus h times the weighted rates."""
        code, origin = points.code, (0,) * len(self.shape)
        total: Value | None = None
        for j, w in enumerate(self.rows[stage][: stage + 1]):
            if w:
                k = rate if j == stage else points.read(f"k{j}.{field}", origin)
                total = code.op("mul", k, float(w)) if total is None else code.op("fma", k, float(w), total)
        start = points.read(f"y0.{field}", origin)
        return start if total is None else code.op("fma", total, points.slot(STEP), start)


__all__ = ["GridStep", "Rate", "grid_step"]
