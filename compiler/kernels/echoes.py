"""Where a run with delays may step: at most by the shortest lag, and to the times at which the jump of a
derivative at its start comes back.

The counterpart of `ndl.runtime.stepping.delays`. The buffer `echoes` has those times of a trajectory in their
order, then one that never comes. Events and located breaks start echoes anew: `echo_lags` has in their order
the times after which one comes back, and then one that is never over. `break_t` and `break_step` have the end
and the number of each step over a break.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.stepper import Attempt, Stepper

SAME = {"f64": 1e-12, "f32": 1e-6}
"""The part of the span within which two times are the same."""

SMALLEST = {"f64": 1e-300, "f32": 1e-30}


def over(code: Code, step: Value) -> Value:
    """The number, below -1, of a jump where a `step` has crossed a break; and the step of such a number."""
    return code.op("sub", code.const(-2, "i32"), step)


@dataclass(frozen=True)
class Echo:
    """The next time at which a jump comes back, that of firing `origin` (-1: of the start; below that: see
    `over`), and the number of the time between."""

    time: Value
    origin: Value
    lag: Value


class Echoes:
    """What a run asks of the delays; false where the model has none."""

    def __init__(self, field: Field, control: Control, located: bool) -> None:
        """`located`: whether steps end at breaks."""
        self.code, self.field, self.control = field.code, field, control
        self.located = located and bool(self)
        if self:
            self.code.buffer("echoes", "member", "in")
            if field.model.events or self.located:
                self.code.buffer("echo_lags", "member", "in")
            if self.located:
                self.code.buffer("break_t", "member", "inout")
                self.code.buffer("break_step", "member", "inout", "i32")
            self.code.buffer("history", "member", "inout")

    def __bool__(self) -> bool:
        return bool(self.field.past)

    @property
    def carried(self) -> tuple[str, ...]:
        return ("echo",) if self else ()

    def start(self, x: list[Value]) -> list[Value]:
        """What is carried at first; the initial state becomes the past."""
        if not self:
            return []
        self.field.past.start(x)
        return [self.code.const(0, "i32")]

    def _slack(self) -> Value:
        code, control = self.code, self.control
        far = control.larger(code.op("abs", control.t0), code.op("abs", control.t1))
        far = control.larger(code.op("abs", code.op("sub", control.t1, control.t0)), far)
        return code.op("mul", far, SAME[code.precision])

    def limit(
        self, t: Value, x: list[Value], target: Value, echo: Value, fired: Value | None = None,
        crossed: Value | None = None,
    ) -> tuple[Value, Echo, Value, Value]:  # fmt: skip
        """The number of the next echo of the start after t, the next one of all, how far a step
        from (t, x) may go, at most to `target`, and whether all lags are above 0. `fired` is how many events
        there were of which the time is known, `crossed` how many breaks."""
        code, control = self.code, self.control
        here = code.op("add", t, self._slack())

        def gone(carried: tuple[Value, ...]) -> Value:
            return code.op("le", code.load("echoes", carried[0]), here)

        (echo,) = code.loop([echo], gone, lambda c: [code.op("add", c[0], code.const(1, "i32"))])
        coming = Echo(code.load("echoes", echo), code.const(-1, "i32"), echo)
        if fired is not None:
            coming = self._after(here, coming, fired, "event_t", lambda row: row)
        if crossed is not None:
            number = lambda row: over(code, code.load("break_step", row))  # noqa: E731
            coming = self._after(here, coming, crossed, "break_t", number)
        target = control.smaller(coming.time, target)
        shortest = self.field.past.shortest(t, x)
        back = code.op("not", code.op("le", shortest, 0.0))
        return echo, coming, control.smaller(code.op("add", t, shortest), target), back

    def _after(
        self, here: Value, coming: Echo, many: Value, times: str, origin: Callable[[Value], Value]
    ) -> Echo:
        """The next echo after a time `here`, those of `many` jumps at `times`, in their order, included: of
        each lag that of the first jump of which it is still to come."""
        code, one = self.code, self.code.const(1, "i32")
        last = code.op("sub", self.control.t1, self._slack())

        def onward(carried: tuple[Value, ...]) -> Value:
            return code.op("isfinite", code.load("echo_lags", carried[0]))

        def turn(carried: tuple[Value, ...]) -> list[Value]:
            k, *before = carried
            lag = code.load("echo_lags", k)
            row = self._first(many, lambda row: code.op("gt", self._sum(times, row, lag), here))
            there = code.op("lt", row, many)
            time = code.when(there, lambda: [self._sum(times, row, lag)], [before[0]])[0]
            # those at the end of the run are none
            nearer = code.op("and", code.op("lt", time, last), code.op("lt", time, before[0]))
            new = (time, origin(row), k)
            found = [code.op("select", nearer, a, b) for a, b in zip(new, before, strict=True)]
            return [code.op("add", k, one), *found]

        zero = code.const(0, "i32")
        return Echo(*code.loop([zero, coming.time, coming.origin, coming.lag], onward, turn)[1:])

    def _sum(self, times: str, row: Value, lag: Value) -> Value:
        return self.code.op("add", self.code.load(times, row), lag)

    def _first(self, many: Value, holds: Callable[[Value], Value]) -> Value:
        """The first of the rows below `many` of which something holds that does of all later ones, else
        `many`."""
        code, one = self.code, self.code.const(1, "i32")

        def halve(carried: tuple[Value, ...]) -> list[Value]:
            low, high = carried
            middle = code.op("shr", code.op("add", low, high), one)
            yes = holds(middle)
            above = code.op("add", middle, one)
            return [code.op("select", yes, low, above), code.op("select", yes, middle, high)]

        return code.loop([code.const(0, "i32"), many], lambda c: code.op("lt", c[0], c[1]), halve)[0]

    def crossed(self, rows: Value, number: Value, t: Value, step: Value) -> None:
        """Write break `number`, over which a step has come to t."""
        code = self.code

        def write() -> list[Value]:
            code.store("break_t", number, t)
            code.store("break_step", number, step)
            return []

        code.when(rows, write)

    def reached(self, t: Value, coming: Value) -> Value:
        """Whether a trajectory has come to its next echo."""
        code = self.code
        return code.op("le", code.op("abs", code.op("sub", t, coming)), self._slack())

    def keep(self, rows: Value, number: Value, made: Attempt, stepper: Stepper) -> None:
        """Write a step to the history."""

        def write() -> list[Value]:
            self.field.past.write(number, made.t, made.h, stepper.dense(made))
            return []

        self.code.when(rows, write)
