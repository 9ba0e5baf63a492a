"""Steps of explicit Runge–Kutta methods as scalar code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.scalars import Scalars


@dataclass(frozen=True)
class Tableau:
    """An explicit tableau in numbers; `dense[i]` are the coefficients of theta, theta^2, … of b_i(theta)."""

    name: str
    order: float
    embedded: float | None
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_hat: tuple[float, ...] | None = None
    dense: tuple[tuple[float, ...], ...] | None = None

    @cached_property
    def d(self) -> tuple[float, ...]:
        """b - b_hat, the weights of the error estimate."""
        if self.b_hat is None:
            return ()
        width = max(len(self.b), len(self.b_hat))
        wide = [np.pad(np.asarray(v), (0, width - len(v))) for v in (self.b, self.b_hat)]
        return tuple(float(v) for v in wide[0] - wide[1])

    @cached_property
    def main(self) -> int:
        """Stages that the solution and the error need."""
        return 1 + max(i for v in (self.b, self.d) for i, w in enumerate(v) if w != 0)

    @cached_property
    def total(self) -> int:
        """Stages with those of dense output."""
        return self.main if self.dense is None else len(self.c)

    @cached_property
    def fsal(self) -> bool:
        """Whether the last stage is the first of the next step."""
        last, width = self.main - 1, len(self.c)
        row, b = (np.pad(np.asarray(v), (0, width - len(v))) for v in (self.a[last], self.b))
        return bool(self.main > 1 and b[last] == 0 and self.c[last] == 1 and np.array_equal(row, b))

    @property
    def error_order(self) -> float:
        return min(self.order, self.embedded or self.order)

    @property
    def extrapolates(self) -> bool:
        return self.embedded is None or self.embedded < self.order


@dataclass
class Step:
    """A step: the state at its end, and h times the slope of each stage."""

    x0: list[Value]
    x1: list[Value]
    slopes: list[list[Value]]
    last: list[Value]
    """The last stage's slope, not times h."""


def stages(
    code: Code, tableau: Tableau, field: Field, t: Value, h: Value, x: Sequence[Value],
    first: Sequence[Value] | None = None,
) -> Step:  # fmt: skip
    """The stages of the solution from (t, x); `first` is the slope there if it is known."""
    slope = list(first) if first is not None else field.rate(t, x)
    slopes = [[code.op("mul", k, h) for k in slope]]
    y = list(x)
    for i in range(1, tableau.main):
        y = moved(code, x, slopes, tableau.a[i])
        slope = field.rate(stage_time(code, tableau, i, t, h), y)
        slopes.append([code.op("mul", k, h) for k in slope])
    x1 = y if tableau.fsal else moved(code, x, slopes, tableau.b)
    return Step(list(x), x1, slopes, slope)


def complete(code: Code, tableau: Tableau, field: Field, t: Value, h: Value, step: Step) -> Step:
    """The step with the stages that continuous output needs (Hermite: the slope at the end)."""
    slopes = list(step.slopes)
    for i in range(tableau.main, tableau.total):
        y = moved(code, step.x0, slopes, tableau.a[i])
        slope = field.rate(stage_time(code, tableau, i, t, h), y)
        slopes.append([code.op("mul", k, h) for k in slope])
    if tableau.dense is None and not tableau.fsal:
        end = code.op("add", t, h)
        slopes.append([code.op("mul", k, h) for k in field.rate(end, step.x1)])
    return Step(step.x0, step.x1, slopes, step.last)


def weights_at(code: Code, tableau: Tableau, theta: Value, count: int) -> tuple[list[Value], Value, Value]:
    """The weights of the slopes, of x0 and of x1 in the value at `theta`; `count` slopes are known.

    x(theta) = x0 + sum b_i(theta) h k_i, or the cubic Hermite interpolant, whose weights of the slopes at
    both ends are theta (1 - theta)^2 and -theta^2 (1 - theta).
    """
    one, zero = code.const(1.0), code.const(0.0)
    if tableau.dense is not None:
        return [polynomial(code, theta, row) for row in tableau.dense[:count]], one, zero
    rest = code.op("sub", one, theta)
    square = code.op("mul", theta, theta)
    start = code.op("mul", theta, code.op("mul", rest, rest))
    end = code.op("neg", code.op("mul", square, rest))
    found = [zero] * count
    found[0] = start
    last = tableau.main - 1 if tableau.fsal else count - 1
    found[last] = end
    of_x1 = code.op("mul", square, code.op("fma", theta, -2.0, 3.0))
    return found, code.op("sub", one, of_x1), of_x1


def inside(code: Code, tableau: Tableau, step: Step, theta: Value) -> list[Value]:
    """The state at a fraction of the step."""
    found, first, last = weights_at(code, tableau, theta, len(step.slopes))
    out = []
    for i, (a, b) in enumerate(zip(step.x0, step.x1)):
        value = code.op("mul", first, a)
        if code.number(last) != 0:
            value = code.op("fma", last, b, value)
        for w, k in zip(found, step.slopes):
            if code.number(w) != 0:
                value = code.op("fma", w, k[i], value)
        out.append(value)
    return out


def polynomial(code: Code, theta: Value, row: Sequence[float]) -> Value:
    """row[0] theta + row[1] theta^2 + …, by Horner's rule."""
    found = code.const(0.0)
    for c in reversed(row):
        found = code.op("fma", found, theta, c)
    return code.op("mul", found, theta)


def moved(
    code: Code, x: Sequence[Value], slopes: Sequence[Sequence[Value]], row: Sequence[float]
) -> list[Value]:
    """x + sum_j a_j h k_j."""
    out = list(x)
    for a, k in zip(row, slopes):
        if a:
            out = [code.op("fma", a, v, o) for v, o in zip(k, out)]
    return out


def errors(code: Code, tableau: Tableau, step: Step) -> list[Value]:
    """The local error estimate of each state."""
    scalars = Scalars(code, lambda name, shape: None)
    used = [(w, k) for w, k in zip(tableau.d, step.slopes) if w]
    return [scalars.dot([(w, k[i]) for w, k in used]) for i in range(len(step.x0))]


def stage_time(code: Code, tableau: Tableau, i: int, t: Value, h: Value) -> Value:
    return code.op("fma", h, tableau.c[i], t)
