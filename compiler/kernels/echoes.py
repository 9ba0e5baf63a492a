"""Where a run with delays may step: at most by the shortest lag, and to the times at which the jump of a
derivative at its start comes back.

The counterpart of `ndl.runtime.stepping.delays`. The buffer `echoes` has those times of a trajectory in their
order, then one that never comes.
"""

from __future__ import annotations

from ndl.compiler.kernels.control import Control
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.stepper import Attempt, Stepper

SAME = {"f64": 1e-12, "f32": 1e-6}
"""The part of the span within which two times are the same."""

SMALLEST = {"f64": 1e-300, "f32": 1e-30}


class Echoes:
    """What a run asks of the delays; false where the model has none."""

    def __init__(self, field: Field, control: Control) -> None:
        self.code, self.field, self.control = field.code, field, control
        if self:
            self.code.buffer("echoes", "member", "in")
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

    def limit(self, t: Value, target: Value, echo: Value) -> tuple[Value, Value]:
        """The next echo after t, and how far a step from there may go, at most to `target`."""
        code, control = self.code, self.control
        here = code.op("add", t, self._slack())

        def gone(carried: tuple[Value, ...]) -> Value:
            return code.op("le", code.load("echoes", carried[0]), here)

        (echo,) = code.loop([echo], gone, lambda c: [code.op("add", c[0], code.const(1, "i32"))])
        target = control.smaller(code.load("echoes", echo), target)
        return echo, control.smaller(code.op("add", t, self.field.past.shortest()), target)

    def reached(self, t: Value, echo: Value) -> Value:
        """Whether a trajectory has come to its next echo."""
        code = self.code
        apart = code.op("abs", code.op("sub", t, code.load("echoes", echo)))
        return code.op("le", apart, self._slack())

    def keep(self, rows: Value, number: Value, made: Attempt, stepper: Stepper) -> None:
        """Write a step to the history."""

        def write() -> list[Value]:
            self.field.past.write(number, made.t, made.h, stepper.dense(made))
            return []

        self.code.when(rows, write)
