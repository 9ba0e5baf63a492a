"""Discontinuities of the rates as scalar code: located without being asked, and stepped onto.

The counterpart of `ndl.runtime.breaks`, whose rules it must reproduce. A trajectory carries the break
functions at the start of its step, the longest step that may cross (`permit`), the size to return to
(`normal`), whether it is close to a break, and how many it has crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.pace import Judged
from ndl.compiler.kernels.roots import locate
from ndl.compiler.kernels.stepper import Attempt, Stepper

MARGIN = 2e-2
"""A first step towards a break ends this fraction of the way before it."""
ACROSS = 2.2
"""A step across a break is so many times its distance."""
FINE = 1e-3
"""The same once the distance is known by extrapolation."""
HARMLESS = 0.05
"""The part of the tolerance that a step across may cost."""
SLIDING = 200
"""Crossings after which, if they are more than a tenth of all steps, breaks are left to error control."""
WIDTH = {"f64": 1e-10, "f32": 1e-6}
"""How closely a break is located, as a fraction of the step."""
SMALL = {"f64": 1e-300, "f32": 1e-30}


@dataclass(frozen=True)
class Edge:
    """What is carried."""

    g: list[Value]
    permit: Value
    normal: Value
    close: Value
    count: Value

    def flat(self) -> list[Value]:
        return [*self.g, self.permit, self.normal, self.close, self.count]


@dataclass(frozen=True)
class Crossing:
    """An attempt as breaks see it: taken back (`far`) with the size `chosen` for the next, allowed to cross
    (`crossed`) the breaks `across`, or ending shortly before a break (`near`), with the size `gap` for the
    next."""

    edge: Edge
    far: Value
    chosen: Value
    crossed: Value
    near: Value
    gap: Value
    cost: Value
    across: list[Value]


class Breaks:
    """The breaks of a model."""

    def __init__(self, stepper: Stepper, control: Control) -> None:
        self.code: Code = stepper.code
        self.field: Field = stepper.field
        self.stepper, self.control = stepper, control
        self.count = self.field.break_count

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def carried(self) -> tuple[str, ...]:
        if not self:
            return ()
        return (*(f"break.{k}" for k in range(self.count)), "permit", "normal", "close", "crossings")

    def edge(self, values: Sequence[Value]) -> Edge:
        """The carried values by name."""
        return Edge(list(values[: self.count]), *values[self.count :])

    def start(self, t: Value, x: Sequence[Value]) -> Edge:
        code, zero = self.code, self.code.const(0.0)
        no = code.const(False, "bool")
        return Edge(self.field.breaks(t, x), zero, zero, no, code.const(0, "i32"))

    # ------------------------------------------------------------ after an attempt

    def judge(self, made: Attempt, end: Value, judged: Judged, steps: Value, edge: Edge) -> Crossing:
        """Takes back steps over a break that are not yet tiny, and chooses the size of the next."""
        code = self.code
        size, g1 = code.op("abs", made.h), self.field.breaks(end, made.x1)
        many = code.op("mul", edge.count, code.const(10, "i32"))
        often = code.op("gt", edge.count, code.const(SLIDING, "i32"))
        sliding = code.op("and", often, code.op("gt", many, steps))
        free = code.op("and", code.op("isfinite", judged.square), code.op("not", sliding))
        cross = [code.op("and", self._opposite(a, b), free) for a, b in zip(edge.g, g1)]
        rows = self._any(cross)
        crossed = code.op("and", rows, judged.accept)
        crossed = code.op("and", crossed, code.op("le", size, edge.permit))
        far = code.op("and", rows, code.op("not", crossed))
        near = code.op("and", edge.close, code.op("and", judged.accept, code.op("not", rows)))
        short = code.op("and", near, code.op("le", size, edge.permit))
        ends = self.control.larger(code.op("abs", made.t), code.op("abs", end))
        floor = code.op("mul", ends, self.control.rounding(2e-14))

        def look() -> list[Value]:
            dense = self.stepper.dense(made)
            kept = [edge.permit, edge.normal, edge.close, size]
            found = code.when(far, lambda: self._back(made, dense, judged, cross, g1, floor, edge), kept)
            kept = [found[0], found[2], edge.normal, code.const(0, "i32")]
            permit, close, gap, cost = code.when(
                code.op("and", near, code.op("not", short)),
                lambda: self._measure(made, dense, end, g1, floor, edge),
                kept,
            )
            return [permit, found[1], close, found[3], gap, cost]

        kept = [edge.permit, edge.normal, edge.close, size, size, code.const(0, "i32")]
        wanted = code.op("or", far, near)
        permit, normal, close, chosen, gap, cost = code.when(wanted, look, kept)
        # a step across that was short, since the new field is slower, is followed by one of twice the size
        more = code.op("mul", size, 2.0)
        go = code.op("le", code.op("mul", more, 8.0), edge.normal)
        wider = code.op("select", go, code.op("mul", more, 1.01), 0.0)
        permit, gap = (
            code.op("select", short, wider, permit),
            code.op("select", short, code.op("select", go, more, edge.normal), gap),
        )
        close = code.op("and", close, code.op("or", go, code.op("not", short)))
        edge = replace(edge, permit=permit, normal=normal, close=close)
        return Crossing(edge, far, chosen, crossed, near, gap, cost, cross)

    def _back(
        self, made: Attempt, dense: Dense, judged: Judged, cross: Sequence[Value], g1: Sequence[Value],
        floor: Value, edge: Edge,
    ) -> list[Value]:  # fmt: skip
        """Of a step over a break: `permit`, `normal`, `close` and the size of the next attempt."""
        code, control = self.code, self.control
        size = code.op("abs", made.h)
        theta = self._first(made, dense, cross, edge.g, g1, code.const(0.0), code.const(1.0))
        distance = code.op("mul", theta, size)
        normal = code.op("select", edge.close, edge.normal, size)
        tiny = code.op("le", distance, floor)
        before = code.op("mul", distance, 1 - MARGIN)
        small = control.smaller(before, code.op("mul", size, 0.9))
        chosen = code.op("select", code.op("gt", judged.square, 1.0), small, before)
        chosen = code.op("select", tiny, control.larger(code.op("mul", distance, ACROSS), floor), chosen)
        permit = code.op("select", tiny, code.op("mul", chosen, 1.01), 0.0)
        return [permit, normal, code.const(True, "bool"), chosen]

    def _measure(
        self, made: Attempt, dense: Dense, end: Value, here: Sequence[Value], floor: Value, edge: Edge
    ) -> list[Value]:
        """Of a step that came close to a break: `permit`, `close`, the size of the next step, evaluations.
        How far the break still is, is told by extrapolation."""
        code, control = self.code, self.control
        t, h, size = made.t, made.h, code.op("abs", made.h)
        beyond = code.const(1 + 3 * MARGIN)
        there = self.field.breaks(code.op("fma", beyond, h, t), dense.at(beyond))
        ahead = [self._opposite(a, b) for a, b in zip(here, there)]

        def sees() -> list[Value]:
            theta = self._first(made, dense, ahead, here, there, code.const(1.0), beyond)
            apart = code.op("sub", theta, 1.0)
            distance = control.larger(code.op("mul", apart, size), 0.0)
            # what crossing costs: the jump of the field over the distance
            over = code.op("fma", apart, 2.0, 1.0)
            after = self.field.rate(code.op("fma", over, h, t), dense.at(over))
            jump = [code.op("sub", a, b) for a, b in zip(after, self.field.rate(end, made.x1))]
            moved = [code.op("mul", v, distance) for v in jump]
            cost = control.mean_square(moved, control.scale(made.x1, made.x1))
            go = code.op("le", cost, HARMLESS**2)
            go = code.op("or", go, code.op("le", distance, floor))
            across = control.larger(code.op("mul", distance, ACROSS), floor)
            closer = control.larger(code.op("mul", distance, 1 - FINE), floor)
            gap = code.op("select", go, across, closer)
            permit = code.op("select", go, code.op("mul", gap, 1.01), 0.0)
            return [permit, code.const(True, "bool"), gap, code.const(2, "i32")]

        nothing = [edge.permit, code.const(False, "bool"), edge.normal, code.const(0, "i32")]
        return list(code.when(self._any(ahead), sees, nothing))

    def _first(
        self, made: Attempt, dense: Dense, cross: Sequence[Value], g: Sequence[Value], last: Sequence[Value],
        low: Value, high: Value,
    ) -> Value:  # fmt: skip
        """The fraction of the step at which the first break lies."""
        code, theta = self.code, high
        width, coarse = code.const(WIDTH[code.precision]), self._coarse(made)
        for k, here in enumerate(cross):
            below = code.op("lt", g[k], 0.0)

            def sided(u: Value, below: Value = below) -> Value:
                return code.op("select", below, code.op("neg", u), u)

            def along(point: Value, k: int = k, sided: object = sided) -> Value:
                assert callable(sided)
                at = code.op("fma", point, made.h, made.t)
                found: Value = sided(self.field.breaks(at, dense.at(point))[k])
                return found

            def find(k: int = k, sided: object = sided, along: object = along) -> list[Value]:
                assert callable(sided) and callable(along)
                start = code.op("abs", g[k])
                return [locate(code, along, low, high, start, sided(last[k]), width, coarse)[1]]

            (after,) = code.when(here, find, [theta])
            theta = self.control.smaller(after, theta)
        return theta

    def _coarse(self, made: Attempt) -> Value | None:
        """The part of a step in which a path under noise is smooth, below which brackets are not halved."""
        code, leaf = self.code, self.stepper.leaf()
        if leaf is None:
            return None
        return code.op("div", leaf, code.op("maximum", code.op("abs", made.h), SMALL[code.precision]))

    def _opposite(self, a: Value, b: Value) -> Value:
        return self.code.op("lt", self.code.op("mul", a, b), 0.0)

    def _any(self, flags: Sequence[Value]) -> Value:
        found = flags[0]
        for flag in flags[1:]:
            found = self.code.op("or", found, flag)
        return found
