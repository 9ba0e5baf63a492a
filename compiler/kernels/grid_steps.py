"""Steps of explicit Runge–Kutta methods for fields, as sweeps over a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.forms import Form
from ndl.compiler.kernels.ir import Block, Unsupported, Value
from ndl.compiler.kernels.points import Edges, Points, Statics
from ndl.compiler.kernels.sweeps import FIRST, STEP, Body, Place, Slot, Stage, Sweeps

MOST_BODIES = 81
"""Kinds of places beyond which compiling takes longer than it is worth."""

Weights = Sequence[float | Slot]
"""Of the rates of a step's stages: numbers, or slots that hold them."""

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


@dataclass(frozen=True)
class Rates:
    """The rates of all fields on a grid: a function, the number of each component of a state, and the rate
    of each; `statics` are what is computed outside, by all sweeps that are made of them."""

    function: Function
    fields: Mapping[tuple[str, tuple[int, ...]], int]
    rates: Sequence[Rate]
    shape: tuple[int, ...]
    periodic: tuple[bool, ...]
    precision: str = "f64"
    statics: Statics = field(default_factory=Statics)

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.fields))

    def outside(self, sweeps: Sweeps) -> GridStep:
        """The step with the nodes that it wants."""
        graph, statics = self.function.graph, self.statics
        tables = {table: (graph[node], axes) for node, (table, axes) in statics.tables.items()}
        return GridStep(sweeps, {slot: graph[node] for node, slot in statics.slots.items()}, tables)


def grid_step(
    name: str, rates: Rates, c: Sequence[float], a: Sequence[Weights], b: Weights,
    padding: tuple[int, ...] = (),
) -> GridStep:  # fmt: skip
    """The sweeps of a step with the explicit tableau (c, a, b). Raises `Unsupported`."""
    return step_of(name, rates, c, Forward(rates, rows_of(a, b)), padding)


def step_of(
    name: str, rates: Rates, c: Sequence[float], made: Forward, padding: tuple[int, ...] = ()
) -> GridStep:
    """The sweeps of the stages of a step forwards."""
    stages = [(float(c[k]), made.writes(k)) for k in range(len(made.rows))]
    return sweeps_of(name, rates, stages, made.body, made.fields, padding)


def rows_of(a: Sequence[Weights], b: Weights, least: int = 1) -> list[np.ndarray]:
    """The weights of the rates in what each stage writes: the next stage's values, at last the step's end.
    There are `least` stages and those whose rates the end weighs."""
    stages = max(least, 1 + max(j for j, w in enumerate(b) if w != 0))
    return [_wide(row, stages) for row in [*a[1:stages], b]]


MakeBody = Callable[[int, Place, Edges], Body]
"""The body of a stage at a kind of place, which may widen the edges."""


def sweeps_of(
    name: str, rates: Rates, stages: Sequence[tuple[float, tuple[str, ...]]], make: MakeBody, fields: int,
    padding: tuple[int, ...] = (), most: int = MOST_BODIES,
) -> GridStep:  # fmt: skip
    """The sweeps of stages, each given by its time and what it writes: bodies for as many places near the
    ends as they ask for."""
    edges = Edges([[0, 0] for _ in rates.shape])
    while True:
        before = [list(w) for w in edges.widths]
        places = _places(rates.shape, edges, most)
        bodies = [{p: make(k, p, edges) for p in places} for k in range(len(stages))]
        if edges.widths == before:
            break
    found = tuple(Stage(node, writes, b) for (node, writes), b in zip(stages, bodies))
    widths = tuple((low, high) for low, high in edges.widths)
    slots = FIRST + rates.statics.reserved + len(rates.statics.slots)
    sweeps = Sweeps(name, rates.precision, rates.shape, rates.periodic, widths, fields, found, slots, padding)
    return rates.outside(sweeps)


def _places(shape: Sequence[int], edges: Edges, most: int) -> list[Place]:
    """Every kind of place, inside first."""
    kinds: list[list[int | None]] = []
    for n, (low, high) in zip(shape, edges.widths):
        if low + high >= n:
            raise Unsupported(f"an axis of {n} points has no inside: differences reach {low} from its ends")
        kinds.append([None, *range(low), *(-1 - k for k in range(high))])
    if np.prod([len(k) for k in kinds]) > most:
        raise Unsupported("its differences reach too far from the ends")
    return list(itertools.product(*kinds))


def _wide(row: Weights, stages: int) -> np.ndarray:
    found = np.zeros(stages, dtype=object)
    found[: min(len(row), stages)] = row[:stages]
    return found


class Forward:
    """The stages of a step: `rows[k]` are the weights of the rates in what stage k writes, `start` stands
    before the numbers of the fields in the names of the arrays where the step begins."""

    def __init__(self, rates: Rates, rows: Sequence[np.ndarray], start: str = "y0.") -> None:
        self.rates, self.rows, self.start = rates, rows, start

    @property
    def fields(self) -> int:
        """How many fields the step's end has."""
        return len(self.rates.rates)

    def kept(self, stage: int) -> bool:
        """Whether a later stage reads this one's rates."""
        return any(row[stage] != 0 for row in self.rows[stage + 1 :])

    def writes(self, stage: int) -> tuple[str, ...]:
        numbers = range(len(self.rates.rates))
        rates = [f"k{stage}.{f}" for f in numbers] if self.kept(stage) else []
        return (*(f"y{stage + 1}.{f}" for f in numbers), *rates)

    def state(self, stage: int, f: int) -> str:
        """The array that a stage reads."""
        return f"y{stage}.{f}" if stage else f"{self.start}{f}"

    def body(self, stage: int, place: Place, edges: Edges) -> Body:
        r = self.rates
        code = Code(r.precision)

        def read(p: Points, name: str, component: tuple[int, ...], offset: tuple[int, ...]) -> Form:
            return Form({p.read(self.state(stage, r.fields[name, component]), offset): 1.0})

        with code.block() as block:
            points = Points(code, r.function, r.states, read, r.shape, edges, r.statics, place)
            here = points.here(len(r.shape))
            rates = [points.form(x.output, (*here, *x.component)) for x in r.rates]
            ends = [self._end(points, stage, f, rate) for f, rate in enumerate(rates)]
            more = self.more(points, stage, rates, ends)
            block.yields = (*ends, *more, *(map(points.made, rates) if self.kept(stage) else ()))
        return body_of(points, block)

    def more(
        self, points: Points, stage: int, rates: Sequence[Form], ends: Sequence[Value]
    ) -> Sequence[Value]:
        """What a stage writes after its fields."""
        return ()

    def weighed(
        self, points: Points, weights: Sequence[float | Slot], stage: int, field: int, rate: Form
    ) -> Value | None:
        """The sum of the rates up to a stage's by their weights."""
        code, origin = points.code, (0,) * len(self.rates.shape)
        total: Value | None = None
        for j, w in enumerate(weights[: stage + 1]):
            if w:
                k = points.made(rate) if j == stage else points.read(f"k{j}.{field}", origin)
                factor = points.slot(w) if isinstance(w, Slot) else float(w)
                total = code.op("mul", k, factor) if total is None else code.op("fma", k, factor, total)
        return total

    def _end(self, points: Points, stage: int, field: int, rate: Form) -> Value:
        """The start plus h times the weighted rates; where the stage's own are all that count, h weighs
        each of their terms, which saves a product at every point."""
        code, origin = points.code, (0,) * len(self.rates.shape)
        start, h, row = points.read(self.state(0, field), origin), points.slot(STEP), list(self.rows[stage])
        own = row[stage]
        if own and not any(row[:stage]) and not self.kept(stage) and not isinstance(own, Slot):
            return points.onto(start, rate.times(float(own)), h)
        total = self.weighed(points, row, stage, field, rate)
        return start if total is None else code.op("fma", total, h, start)


def body_of(points: Points, block: Block) -> Body:
    """The body of what has been read and written."""
    block.params = tuple(points.params.values())
    if len(block.body) > LONGEST:
        raise Unsupported(f"its rates have more than {LONGEST} operations at a point")
    return Body(tuple(points.params), block)


__all__ = ["GridStep", "Rate", "Rates", "grid_step"]
