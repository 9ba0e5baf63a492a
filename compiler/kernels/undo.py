"""The adjoint of a run with noise without a tape: each step is undone on the way back, and taken again.

A step is undone by the same step with -h and the path run backwards, for methods that are symmetric: Kidger,
Foster, Li, Lyons 2021, "Efficient and Accurate Gradients for Neural SDEs", algorithm 2. The way starts from
`last` and `carry`, what is carried at the end of the run; the tables of the path have the steps' ends from
the last to the first.
"""

from __future__ import annotations

from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels.driven import NoisyStepper
from ndl.compiler.kernels.ir import Kernel, Value
from ndl.compiler.kernels.ode_adjoint import Backward
from ndl.compiler.kernels.path import GridPath
from ndl.compiler.kernels.scalars import Unsupported
from ndl.compiler.kernels.stepper import Stepper, Variant


def backward(model: ModelIR, stepper: Stepper, variant: Variant) -> Kernel:
    """The adjoint kernel. Raises `Unsupported` for steps that are not undone like this."""
    if not isinstance(stepper, NoisyStepper) or stepper.method.areas or stepper.inside:
        raise Unsupported("steps that look at areas, and values inside steps, are not undone")
    return _Undoing(model, stepper, variant).kernel()


class _Undoing(Backward):
    """Carried besides are the state, what the method carries, the path and the place on it."""

    SOURCES = ("last", "carry", "x0")
    stepper: NoisyStepper

    def more(self) -> list[Value]:
        code, s = self.code, self.stepper
        assert isinstance(s.path, GridPath)
        s.path.falling = True
        place, now = s.path.start(code.load("times", 0))
        x = [code.load("last", i) for i in range(self.n)]
        return [*x, *(code.load("carry", i) for i in range(self.memory)), *now, *place]

    def row(self, k: Value, t: Value, h: Value, more: list[Value]) -> tuple[list[Value], list[Value]]:
        code, s, m = self.code, self.stepper, self.stepper.notes
        n, end = self.n, self.n + self.memory
        x1, carry, now, place = more[:n], more[n:end], more[end : end + m], more[end + m :]
        place, before = s.path.ahead(place, t)
        noise = s.cells.increments(h, before, now)[:m]
        back = [*(code.op("neg", v) for v in noise), *[code.const(0.0)] * m]
        found = s.method.step(code.op("add", t, h), code.op("neg", h), x1, carry, back)
        return [*found.x, *found.carry, *noise], [*found.x, *found.carry, *before, *place]

    def first(self) -> list[Value]:
        return [self.code.load("x0", i) for i in range(self.n)]
