"""Slopes at the ends of a step for continuous output, and values inside it by shorter steps: the rules of
`ndl.runtime.stepping.consistent` and `shorter`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.linear import Matrix, factorised, solved
from ndl.compiler.kernels.outputs import Dense
from ndl.compiler.kernels.stepper import Attempt

TINY = 1e-9
"""A fraction of a step below which its start stands for the value (above which, of 1, its end)."""


def rates(field: Field, t: Value, x: Sequence[Value]) -> list[Value]:
    """dx/dt, also of algebraic states, whose equation g(x, t) = 0 is differentiated in t: with z for them and
    y for the others, z' = -g_z^-1 (g_t + g_y y')."""
    rate = field.rate(t, x)
    if not field.algebraic:
        return rate
    code, J, by_time = field.code, field.jacobian(t, x), field.time_rate(t, x)
    tied = [i for i, m in enumerate(field.mass) if m == 0]
    free = [i for i, m in enumerate(field.mass) if m != 0]
    right = [field.scalars.dot([*((J[i][j], rate[j]) for j in free), (1.0, by_time[i])]) for i in tied]
    matrix = [[J[i][j] for j in tied] for i in tied]
    moved = solved(code, factorised(code, matrix), matrix, right)
    found = list(rate)
    for i, v in zip(tied, moved):
        found[i] = code.op("neg", v)
    return found


def smooth_slopes(field: Field, t: Value, x: Sequence[Value], h: Value) -> list[Value]:
    """dx/dt where f(x, t) magnifies the error of x: three refinements s <- s + W^-1 (f - M s), W = M - h/2 J,
    from s = 0; rows of algebraic states ask for J s = -f_t."""
    code, mass = field.code, field.mass
    rate, J = field.rate(t, x), field.jacobian(t, x)
    half = code.op("mul", h, 0.5)
    W = shifted(code, half, J, mass)
    lu = factorised(code, W)
    if not field.algebraic:
        s = solved(code, lu, W, rate)
        refinements = 2
    else:
        by_time, s, refinements = field.time_rate(t, x), [code.const(0.0)] * len(mass), 3
    for _ in range(refinements):
        right = [
            code.op("sub", rate[i], s[i])
            if m
            else code.op("mul", half, field.scalars.dot([*zip(J[i], s), (1.0, by_time[i])]))
            for i, m in enumerate(mass)
        ]
        s = [code.op("add", v, m) for v, m in zip(s, solved(code, lu, W, right))]
    return s


def shifted(code: Code, g: Value, J: Matrix, mass: Sequence[float] | None = None) -> Matrix:
    """M - g J, with the diagonal of M; I without one."""
    rows = [[code.op("neg", code.op("mul", g, v)) if code.number(v) != 0 else v for v in row] for row in J]
    for i, row in enumerate(rows):
        row[i] = code.op("add", row[i], 1.0 if mass is None else mass[i])
    return rows


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
