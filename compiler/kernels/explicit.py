"""Steps of explicit Runge–Kutta methods as scalar code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.outputs import Dense, Hermite, Polynomial
from ndl.compiler.kernels.stepper import Attempt, Stepper, combined, moved


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


class ExplicitStepper(Stepper):
    """Steps of an explicit tableau. Carried are the slope at the start, where the last stage of the step
    before has it, and whether the slope is known (for the count of evaluations)."""

    straight = True

    def __init__(self, code: Code, field: Field, tableau: Tableau) -> None:
        super().__init__(code, field)
        self.tableau, self.name, self.error_order = tableau, tableau.name, tableau.error_order
        self.output = tableau.dense
        # the last slope of a step belongs to the draws of that step
        self.hands_on = tableau.fsal and not field.drawing

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        return (*(f"{n}'" for n in names if self.hands_on), "known")

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        known = self.flag(f0 is not None)
        if not self.hands_on:
            return [known]
        return [*(f0 if f0 is not None else self.field.rate(t, x)), known]

    def held(self, carry: Sequence[Value]) -> list[Value]:
        return []

    def resumed(self, k: Value, t: Value, x: list[Value], held: list[Value]) -> list[Value]:
        return self.begin(t, x, None)

    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        *first, known = carry
        made = self._stages(t, h, x, first or None)
        made.cost = self.code.op("sub", made.cost, self.code.op("from_bool", known))
        if self.hands_on:
            made.taken, made.left = [*made.extra["last"], self.flag(True)], [*first, self.flag(True)]
        else:
            made.taken, made.left = [self.flag(False)], [self.flag(not self.field.drawing)]
        return made

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        return self._stages(t, h, x, None)

    def _stages(self, t: Value, h: Value, x: list[Value], first: list[Value] | None) -> Attempt:
        """The stages of the solution; `extra` has h times each slope, and the last slope itself."""
        code, tableau = self.code, self.tableau
        since = code.mark()
        slope = self.field.rate(t, x) if first is None else first
        since = code.mark() if tableau.fsal else since
        slopes = [[code.op("mul", k, h) for k in slope]]
        y = x
        for i in range(1, tableau.main):
            y = moved(code, x, slopes, tableau.a[i])
            slope = self.field.rate(self._time(i, t, h), y)
            slopes.append([code.op("mul", k, h) for k in slope])
        x1 = y if tableau.fsal else moved(code, x, slopes, tableau.b)
        error = combined(code, slopes, tableau.d) if tableau.d else None
        extra = {"slopes": slopes, "last": slope}
        return Attempt(t, h, x, x1, self.whole(tableau.main), error, since=since, extra=extra)

    def _time(self, i: int, t: Value, h: Value) -> Value:
        return self.code.op("fma", h, self.tableau.c[i], t)

    def dense(self, made: Attempt) -> Dense:
        code, tableau, t, h = self.code, self.tableau, made.t, made.h
        slopes = list(made.extra["slopes"])
        if tableau.dense is None and not tableau.fsal:
            end = self.field.rate(code.op("add", t, h), made.x1)
            slopes.append([code.op("mul", k, h) for k in end])
        if tableau.dense is None:
            return Hermite(code, made.x0, made.x1, slopes[0], slopes[-1])
        for i in range(tableau.main, tableau.total):
            y = moved(code, made.x0, slopes, tableau.a[i])
            slope = self.field.rate(self._time(i, t, h), y)
            slopes.append([code.op("mul", k, h) for k in slope])
        return Polynomial(code, made.x0, slopes, tableau.dense)
