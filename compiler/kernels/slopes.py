"""Slopes at the ends of a step for continuous output, and values inside it by shorter steps: the rules of
`ndl.runtime.stepping.consistent` and `shorter`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.linear import Factors, Matrix, factorised
from ndl.compiler.kernels.stepper import Attempt, Dense

TINY = 1e-9
"""A fraction of a step below which its start stands for the value (above which, of 1, its end)."""


def smooth_slopes(field: Field, t: Value, x: Sequence[Value], h: Value) -> list[Value]:
    """dx/dt where f(x, t) magnifies the error of x: three refinements s <- s + W^-1 (f - s), W = I - h/2 J,
    from s = 0."""
    code = field.code
    rate, J = field.rate(t, x), field.jacobian(t, x)
    W = shifted(code, code.op("mul", h, 0.5), J)
    lu = factorised(code, W)
    s = solved(code, lu, W, rate)
    for _ in range(2):
        move = solved(code, lu, W, [code.op("sub", f, v) for f, v in zip(rate, s)])
        s = [code.op("add", v, m) for v, m in zip(s, move)]
    return s


def shifted(code: Code, g: Value, J: Matrix) -> Matrix:
    """I - g J."""
    rows = [[code.op("neg", code.op("mul", g, v)) if code.number(v) != 0 else v for v in row] for row in J]
    for i, row in enumerate(rows):
        row[i] = code.op("add", row[i], 1.0)
    return rows


def solved(code: Code, lu: Factors, matrix: Matrix, b: Sequence[Value]) -> list[Value]:
    """u = A^-1 b, whose derivative is that of the equation: with w = A^-T g, w for b and -w u^T for A."""
    since = code.made
    u = lu.solve(b)

    def pull(g: Sequence[Value]) -> list[tuple[Value, Value]]:
        w = lu.transposed(g)
        minus = [code.op("neg", v) for v in w]
        pairs = list(zip(b, w))
        for i, row in enumerate(matrix):
            pairs += [
                (a, code.op("mul", minus[i], u[j])) for j, a in enumerate(row) if code.number(a) is None
            ]
        return pairs

    code.derivative(u, since, pull)
    return u


class Shorter(Dense):
    """The value at a fraction theta of a step is that of one step of size theta h from the same start."""

    def __init__(
        self, field: Field, made: Attempt, step: Callable[[Value], list[Value]], more: Sequence[Value] = ()
    ) -> None:
        """`step` gives the state at the end of a step of another size, which depends on `more` besides."""
        self.code, self.made, self.step = field.code, made, step
        weights = [*field.flat_weights(False), *field.flat_weights(True)]
        self.targets = [*made.x1, *made.x0, *more, *weights]

    def at(self, theta: Value) -> list[Value]:
        code, made = self.code, self.made
        share = code.op("select", code.op("gt", theta, TINY), theta, TINY)
        values = self.step(code.op("mul", share, made.h))
        first, last = code.op("le", share, TINY), code.op("ge", share, 1 - TINY)
        values = [code.op("select", first, a, v) for a, v in zip(made.x0, values)]
        return [code.op("select", last, b, v) for b, v in zip(made.x1, values)]
