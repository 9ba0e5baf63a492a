"""The reverse of an explicit step of fields, as sweeps over a grid.

With stages x_s = x + h sum_r a_sr k_r and k_s = f(x_s), the cotangent l of the step's end gives, from the
last stage to the first,

    m_s = J(x_s)^T h (b_s l + sum_(r > s) a_rs m_r),        l + sum_s m_s

the cotangents of the stages and of the step's start. The product with J^T is the graph's own pullback: the
transpose of a difference is a gather of its columns. A step back is a step like others: its first stages
make x_1, x_2, … again (x stands in the coefficients `c.x0`, `c.x1`, …), the others m_s. Its fields are l and,
for each number or array that is computed outside, its cotangent, at each point the share of that point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ndl.compiler.ir.autodiff import pullback
from ndl.compiler.ir.graph import Node
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.forms import Coord, Form, Position
from ndl.compiler.kernels.grid_steps import Forward, GridStep, Rates, Weights, body_of, rows_of, sweeps_of
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.points import Edges, Points
from ndl.compiler.kernels.sweeps import STEP, Body, Place, Slot

ADJOINT = "adjoint of "
"""Before the name of a state: its rates' cotangent."""

MOST_BODIES = 256
"""Kinds of places: transposed differences reach further from the ends."""


@dataclass(frozen=True)
class Pulled:
    """J^T m by component of the states, and the shares of numbers and arrays that are computed outside."""

    states: list[tuple[Node, tuple[int, ...]] | None]
    statics: list[tuple[Node, Position] | None]


def grid_adjoint(name: str, rates: Rates, c: Sequence[float], a: Sequence[Weights], b: Weights) -> GridStep:
    """The reverse of the step that `grid_step` has made of the same rates. Raises `Unsupported`."""
    made = _Reverse(rates, rows_of(a, b), _pulled(rates))
    s = made.stages
    nodes = [float(c[k]) for k in (*range(s - 1), *reversed(range(s)))]
    stages = [(node, made.writes(k)) for k, node in enumerate(nodes)]
    return sweeps_of(name, rates, stages, made.body, made.wide, most=MOST_BODIES)


def _pulled(rates: Rates) -> Pulled:
    """The graph grows by the pullback of all rates."""
    graph, statics = rates.function.graph, rates.statics
    outside = [graph[node] for node in (*statics.slots, *statics.tables)]
    axes: list[Position] = [() for _ in statics.slots]
    axes += [tuple(Coord(k) for k in found) for _, found in statics.tables.values()]
    inputs = {n.attr("name"): n for n in graph if n.op == "input"}
    states = [inputs[name] for name in rates.states if name in inputs]
    totals: dict[int, Node] = {}
    outputs = {name: rate.output for (name, _), rate in zip(rates.fields, rates.rates)}
    for name, output in outputs.items():
        cotangent = graph.add("input", type=output.type, name=ADJOINT + name)
        wanted = [*states, *outside]
        for node, g in zip(wanted, pullback(graph, output, cotangent, wanted, stop=outside)):
            if g is not None:
                totals[node.id] = graph.add("add", [totals[node.id], g]) if node.id in totals else g
    of = {name: totals.get(inputs[name].id) if name in inputs else None for name in rates.states}
    fields = [(of[name], component) for name, component in rates.fields]
    return Pulled(
        [(node, component) if node is not None else None for node, component in fields],
        [(totals[n.id], at) if n.id in totals else None for n, at in zip(outside, axes)],
    )


class _Reverse:
    """The stages of a step back: `rows` as for `grid_step`."""

    def __init__(self, rates: Rates, rows: Sequence[np.ndarray], pulled: Pulled) -> None:
        self.rates, self.rows, self.pulled = rates, rows, pulled
        self.stages = len(rows)
        self.again = Forward(rates, rows[:-1], "c.x")
        self.wide = len(rates.rates) + len(pulled.statics)

    def reversed(self, number: int) -> int | None:
        """The stage of the step that a stage back differentiates; None for one that makes values again."""
        return None if number < self.stages - 1 else 2 * self.stages - 2 - number

    def writes(self, number: int) -> tuple[str, ...]:
        if self.reversed(number) is None:
            return self.again.writes(number)
        fields = len(self.rates.rates)
        shares = "y" + str(number + 1) if number == 2 * self.stages - 2 else f"k{number}"
        return (
            *(f"y{number + 1}.{f}" for f in range(fields)),
            *(f"{shares}.{g}" for g in range(fields, self.wide)),
        )

    def body(self, number: int, place: Place, edges: Edges) -> Body:
        stage = self.reversed(number)
        if stage is None:
            return self.again.body(number, place, edges)
        code = Code(self.rates.precision)
        with code.block() as block:
            points = self._points(code, stage, place, edges)
            block.yields = self._back(points, number, stage)
        return body_of(points, block)

    def _points(self, code: Code, stage: int, place: Place, edges: Edges) -> Points:
        r = self.rates

        def read(p: Points, name: str, component: tuple[int, ...], offset: tuple[int, ...]) -> Form:
            plain = name.removeprefix(ADJOINT)
            f = r.fields[plain, component]
            if plain == name:
                return Form({p.read(self.again.state(stage, f), offset): 1.0})
            return self._cotangent(p, stage, f, offset)

        linear = [ADJOINT + name for name in r.states]
        moving = [*r.states, *linear]
        return Points(code, r.function, moving, read, r.shape, edges, r.statics, place, linear)

    def _cotangent(self, p: Points, stage: int, f: int, offset: tuple[int, ...]) -> Form:
        """That of a stage's rates, by the step size."""
        found = Form()
        for r, row in enumerate(self.rows, 1):
            w = row[stage]
            if not w:
                continue
            value = p.read(f"y0.{f}" if r == self.stages else f"y{2 * self.stages - 1 - r}.{f}", offset)
            if isinstance(w, Slot):
                found = found.plus(Form({p.code.op("mul", value, p.slot(w)): 1.0}))
            else:
                found = found.plus(Form({value: 1.0}), float(w))
        return found

    def _back(self, points: Points, number: int, stage: int) -> tuple[Value, ...]:
        """The cotangents of a stage, for the first one those of the step's start; and all shares."""
        code, origin = points.code, (0,) * len(self.rates.shape)
        here = points.here(len(self.rates.shape))
        found = []
        for pulled in self.pulled.states:
            found.append(self._times_h(points, pulled and (pulled[0], (*here, *pulled[1]))))
        points.densities = True
        found += [self._times_h(points, pulled) for pulled in self.pulled.statics]
        if stage:
            return tuple(found)
        fields = len(self.rates.rates)
        for g in range(self.wide):
            earlier = range(self.stages - 1, number)
            arrays = [f"y{k + 1}.{g}" if g < fields else f"k{k}.{g}" for k in earlier]
            for array in ["y0." + str(g), *arrays]:
                found[g] = code.op("add", found[g], points.read(array, origin))
        return tuple(found)

    def _times_h(self, points: Points, what: tuple[Node, Position] | None) -> Value:
        form = Form() if what is None else points.form(*what)
        if not form.terms and not form.constant:
            return points.code.const(0.0)
        return points.code.op("mul", points.made(form), points.slot(STEP))


__all__ = ["ADJOINT", "grid_adjoint"]
