"""The adjoint of a run without a tape: each step is undone on the way back, and taken again.

A step is undone by the same step with -h, under noise with the path run backwards, for methods that are
symmetric: Kidger, Foster, Li, Lyons 2021, "Efficient and Accurate Gradients for Neural SDEs", algorithm 2.
The way starts from `last` and `carry`, what the method carries at the end of the run; under noise the tables
of the path have the steps' ends from the last to the first.
"""

from __future__ import annotations

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.driven import NoisyStepper
from ndl.compiler.kernels.ir import Kernel, Unsupported, Value
from ndl.compiler.kernels.ode_adjoint import Backward
from ndl.compiler.kernels.stepper import Stepper, Variant


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint kernel. Raises `Unsupported` for steps that are not undone like this."""
    if not isinstance(stepper, NoisyStepper):
        return _Undoing(model, stepper, variant).kernel()
    if stepper.method.areas or stepper.inside:
        raise Unsupported("steps that look at areas, and values inside steps, are not undone")
    return _NoisyUndoing(model, stepper, variant).kernel()


class _Undoing(Backward):
    """Carried besides are the state and what the method carries."""

    SOURCES = ("last", "carry", "x0")

    def more(self) -> list[Value]:
        code = self.code
        x = [code.load("last", i) for i in range(self.n)]
        return [*x, *(code.load("carry", i) for i in range(self.memory))]

    def row(self, k: Value, t: Value, h: Value, more: list[Value]) -> tuple[list[Value], list[Value]]:
        row = self.stepper.undone(k, t, h, more[: self.n], more[self.n :])
        return row, row[: self.n + self.memory]

    def first(self) -> list[Value]:
        return [self.code.load("x0", i) for i in range(self.n)]


class _NoisyUndoing(_Undoing):
    """Carried besides are the path and the place on it."""

    stepper: NoisyStepper

    def more(self) -> list[Value]:
        s = self.stepper
        s.path.falling = True
        place, now = s.path.start(self.code.load("times", 0))
        return [*super().more(), *now, *place]

    def row(self, k: Value, t: Value, h: Value, more: list[Value]) -> tuple[list[Value], list[Value]]:
        code, s, m = self.code, self.stepper, self.stepper.notes
        n, end = self.n, self.n + self.memory
        x1, carry, now, place = more[:n], more[n:end], more[end : end + m], more[end + m :]
        place, before = s.path.ahead(place, t)
        noise = s.cells.increments(h, before, now)[:m]
        back = [*(code.op("neg", v) for v in noise), *[code.const(0.0)] * m]
        found = s.method.step(code.op("add", t, h), code.op("neg", h), x1, carry, back)
        return [*found.x, *found.carry, *noise], [*found.x, *found.carry, *before, *place]
