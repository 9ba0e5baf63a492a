"""Diagonally implicit Runge–Kutta steps as scalar code: the counterpart of `ndl.runtime.stepping.implicit`.

A stage solves X - a = h gamma f(X, t) with a = x + h sum_j A_ij k_j; its slope is k = (X - a)/(h gamma).
E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., sections IV.6 and IV.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.explicit import Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.linear import Factors, Matrix, factorised
from ndl.compiler.kernels.newton import Solved, full_newton, implied, insisted, simplified_newton
from ndl.compiler.kernels.outputs import Dense, Hermite, Polynomial
from ndl.compiler.kernels.slopes import Shorter, rates, shifted
from ndl.compiler.kernels.stepper import Attempt, Stepper, combined, moved

SLOW = 1e-2
"""A convergence rate above which the next step starts with a new Jacobian."""


@dataclass
class Stages:
    """A step while it is made: h times each slope, the implicit stages and what their iterations say."""

    slopes: list[list[Value]]
    z: list[list[Value]] = field(default_factory=list)
    solved: list[Solved] = field(default_factory=list)
    factors: dict[float, Factors] = field(default_factory=dict)


class ImplicitStepper(Stepper):
    """Steps of a lower triangular tableau. Carried are the slope at the start, where the last stage of the
    step before has it, the Jacobian's entries, whether they still serve, and whether they are from here."""

    scaled = renews = True

    def __init__(self, code: Code, field: Field, tableau: Tableau) -> None:
        super().__init__(code, field)
        self.tableau, self.name, self.error_order = tableau, tableau.name, tableau.error_order
        s = len(tableau.c)
        self.A = np.array([np.pad(np.asarray(row), (0, s - len(row))) for row in tableau.a])
        self.gamma = np.diag(self.A)
        self.b = np.pad(np.asarray(tableau.b), (0, s - len(tableau.b)))
        hat = self.b if tableau.b_hat is None else np.pad(tableau.b_hat, (0, s - len(tableau.b_hat)))
        self.d = self.b - hat
        rows = [tuple(row) for row in self.A]
        self.filtered = tableau.b_hat is not None and tuple(self.b - self.d) not in rows
        self.explicit_first = bool(self.gamma[0] == 0)
        self.accurate = bool(np.array_equal(self.A[-1], self.b) and tableau.c[-1] == 1)
        if (self.gamma[1:] == 0).any():
            raise Unsupported(f"`{self.name}` mixes explicit stages between implicit ones")
        if not tableau.extrapolates:
            raise Unsupported(f"the error estimate of `{self.name}` is of no lower order than its solution")
        self.short = tableau.order >= 4
        self.output = tableau.dense
        self.mass = field.mass
        if field.algebraic and not self.accurate:
            raise Unsupported(
                f"`{self.name}` is not stiffly accurate: it would leave the algebraic equations"
            )
        n = field.size
        known = field.model.sparsity if field.model.jacobian is not None else None
        self.places = list(known) if known is not None else [(i, j) for i in range(n) for j in range(n)]
        wants = self.explicit_first or (tableau.dense is None and not self.short)
        self.memory = n if wants and self.accurate and not field.drawing else 0
        self.implicit = len(tableau.c) - int(self.explicit_first)

    @property
    def width(self) -> int:
        return self.memory + self.implicit * self.field.size

    def carried(self, names: Sequence[str]) -> tuple[str, ...]:
        slopes = [f"{n}'" for n in names] if self.memory else []
        entries = [f"J.{i}.{j}" for i, j in self.places]
        return (*slopes, "known", *entries, "good", "here")

    def start(self, t: Value, x: list[Value]) -> list[Value]:
        return rates(self.field, t, x) if self.memory else []

    def begin(self, t: Value, x: list[Value], f0: list[Value] | None) -> list[Value]:
        no = self.flag(False)
        return [*self.start(t, x), no, *[self.code.const(0.0)] * len(self.places), no, no]

    # ------------------------------------------------------------ checkpoints

    @property
    def holds(self) -> int:
        return self.memory + len(self.places) + 1

    def held(self, carry: Sequence[Value]) -> list[Value]:
        m, good = self.memory, carry[-2]
        return [*carry[:m], *carry[m + 1 : -2], self.code.op("select", good, 1.0, 0.0)]

    def resumed(self, k: Value, t: Value, x: list[Value], held: list[Value]) -> list[Value]:
        m, no = self.memory, self.flag(False)
        return [*held[:m], no, *held[m:-1], self.code.op("gt", held[-1], 0.5), no]

    def renewed(self, carry: list[Value], fresh: Value) -> list[Value]:
        return [*carry[:-2], self.code.op("not", fresh), self.flag(False)]

    def freshened(self, made: Attempt) -> Value:
        here: Value = made.extra["here"]
        return here

    # ------------------------------------------------------------ the step

    def attempt(self, t: Value, h: Value, x: list[Value], carry: list[Value]) -> Attempt:
        code, m = self.code, self.memory
        f0, known, entries, (good, here) = carry[:m], carry[m], carry[m + 1 : -2], carry[-2:]
        need = self.flag(True) if self.field.drawing else code.op("not", good)
        new = code.when(need, lambda: self._entries(self.field.jacobian(t, x)), entries)
        made = self._iterated(t, h, x, f0, self._matrix(new), self.control is None)
        stages: Stages = made.extra["stages"]
        assert made.ok is not None
        here = code.op("or", here, need)
        rate = stages.solved[0].rate
        for s in stages.solved[1:]:
            rate = code.op("select", code.op("gt", s.rate, rate), s.rate, rate)
        keeps = code.op("and", made.ok, code.op("lt", rate, SLOW))
        if self.explicit_first:
            made.cost = code.op("add", made.cost, code.op("from_bool", code.op("not", known)))
        last = self.flag(self.accurate)
        made.taken = [*made.memory, last, *new, keeps, self.flag(False)]
        # after a failure with an old Jacobian, a new one is tried
        made.left = [*f0, self.flag(True), *new, code.op("or", made.ok, here), here]
        made.extra |= {"f0": f0, "here": here}
        return made

    def _iterated(
        self, t: Value, h: Value, x: list[Value], f0: list[Value], J: Matrix, insist: bool
    ) -> Attempt:
        """A step by Newton's iteration with the Jacobian J; `insist`: with others where that fails."""
        code = self.code
        stages = Stages(self._first(t, h, x, f0))
        scale = self._scale(x)

        def size(move: list[Value]) -> Value:
            total: Value | None = None
            for v, s in zip(move, scale):
                ratio = code.op("div", v, s)
                total = code.op("mul", ratio, ratio) if total is None else code.op("fma", ratio, ratio, total)
            assert total is not None
            return code.op("sqrt", code.op("mul", total, 1.0 / len(move)))

        for i in range(len(stages.slopes), len(self.tableau.c)):
            gamma = float(self.gamma[i])
            a, hg, time = self._stage(i, t, h, x, stages)
            if gamma not in stages.factors:
                stages.factors[gamma] = factorised(code, shifted(code, hg, J, self.mass))
            guess = stages.z[-1] if stages.z else x
            if stages.slopes:
                ahead = [code.op("fma", gamma, k, v) for k, v in zip(stages.slopes[-1], a)]
                guess = [v if m else z for v, z, m in zip(ahead, guess, self.mass)]

            def residual(z: list[Value], a: list[Value] = a, hg: Value = hg, time: Value = time) -> Any:
                return self._residual(z, a, hg, time)

            def matrix(z: list[Value], hg: Value = hg, time: Value = time) -> Matrix:
                return shifted(code, hg, self.field.jacobian(time, z), self.mass)

            found = simplified_newton(code, residual, stages.factors[gamma], guess, size)
            if insist:
                again = partial(full_newton, code, residual, matrix, guess, size)
                found = insisted(code, found, again)
            stages.solved.append(found)
            self._add(stages, found.z, a, gamma)
        return self._made(t, h, x, stages)

    def again(self, t: Value, h: Value, x: list[Value], kept: list[Value]) -> Attempt:
        n, m = self.field.size, self.memory
        roots = [kept[m + i * n : m + (i + 1) * n] for i in range(self.implicit)]
        made = self._implied(t, h, x, kept[:m], roots)
        made.extra |= {"f0": kept[:m], "derivative": True}
        return made

    def _implied(self, t: Value, h: Value, x: list[Value], f0: list[Value], roots: Any) -> Attempt:
        """A step whose stages are known, as a function of what they were computed from."""
        code = self.code
        stages = Stages(self._first(t, h, x, f0))
        for i, z in enumerate(roots, len(stages.slopes)):
            a, hg, time = self._stage(i, t, h, x, stages)
            lu = factorised(code, shifted(code, hg, self.field.jacobian(time, z), self.mass))
            found = implied(code, z, self._residual(z, a, hg, time), lu)
            self._add(stages, found, a, float(self.gamma[i]))
        return self._made(t, h, x, stages)

    def kept(self, made: Attempt) -> list[Value]:
        stages: Stages = made.extra["stages"]
        return [*made.extra["f0"], *(v for z in stages.z for v in z)]

    # ------------------------------------------------------------ its parts

    def _first(self, t: Value, h: Value, x: list[Value], f0: list[Value]) -> list[list[Value]]:
        """h times the slope of an explicit first stage."""
        if not self.explicit_first:
            return []
        slope = f0 if self.memory else rates(self.field, t, x)
        return [[self.code.op("mul", v, h) for v in slope]]

    def _stage(
        self, i: int, t: Value, h: Value, x: list[Value], stages: Stages
    ) -> tuple[list[Value], Value, Value]:
        """a, h gamma and the time of stage i."""
        code = self.code
        a = moved(code, x, stages.slopes, self.A[i, :i].tolist())
        return a, code.op("mul", h, float(self.gamma[i])), code.op("fma", h, self.tableau.c[i], t)

    def _residual(self, z: list[Value], a: list[Value], hg: Value, t: Value) -> list[Value]:
        code, minus = self.code, self.code.op("neg", hg)
        return [
            code.op("fma", minus, f, code.op("sub", v, w)) if m else code.op("mul", minus, f)
            for f, v, w, m in zip(self.field.rate(t, z), z, a, self.mass)
        ]

    def _add(self, stages: Stages, z: list[Value], a: list[Value], gamma: float) -> None:
        code = self.code
        stages.z.append(z)
        stages.slopes.append([code.op("div", code.op("sub", v, w), gamma) for v, w in zip(z, a)])

    def _made(self, t: Value, h: Value, x: list[Value], stages: Stages) -> Attempt:
        code = self.code
        x1 = stages.z[-1] if self.accurate else moved(code, x, stages.slopes, self.b.tolist())
        error = None
        if self.tableau.b_hat is not None:
            error = combined(code, stages.slopes, self.d.tolist())
            if self.filtered and stages.factors:
                # damps what the explicit weights make of stiff components: (IV.8.19)
                error = [v if m else code.const(0.0) for v, m in zip(error, self.mass)]
                error = stages.factors[float(self.gamma[-1])].solve(error)
        cost, ok = self.whole(0), self.flag(True)
        for s in stages.solved:
            cost, ok = code.op("add", cost, s.iterations), code.op("and", ok, s.ok)
        memory = [code.op("div", v, h) for v in stages.slopes[-1]] if self.memory else []
        return Attempt(t, h, x, x1, cost, error, ok, memory=memory, extra={"stages": stages})

    def _entries(self, J: Matrix) -> list[Value]:
        return [J[i][j] for i, j in self.places]

    def _matrix(self, entries: Sequence[Value]) -> Matrix:
        n = self.field.size
        J = [[self.code.const(0.0)] * n for _ in range(n)]
        for (i, j), v in zip(self.places, entries):
            J[i][j] = v
        return J

    def _scale(self, x: list[Value]) -> list[Value]:
        """Of a move; without error control the stages are solved to nearly full precision."""
        if self.control is not None:
            return self.control.scale(x, x)
        code, tight = self.code, 1e-10 if self.code.precision == "f64" else 1e-5
        return [code.op("fma", code.op("abs", v), tight, tight * 1e-2) for v in x]

    # ------------------------------------------------------------ continuous output

    def dense(self, made: Attempt) -> Dense:
        code, slopes = self.code, list(made.extra["stages"].slopes)
        if self.short:
            f0 = made.extra["f0"]
            return Shorter(self.field, made, lambda h: self._inside(made, h), f0)
        if self.tableau.dense is not None:
            return Polynomial(code, made.x0, slopes, self.tableau.dense)
        first, last = slopes[0], slopes[-1]
        if not self.explicit_first:
            f0 = made.extra["f0"] if self.memory else rates(self.field, made.t, made.x0)
            first = [code.op("mul", v, made.h) for v in f0]
        if not self.accurate:
            end = rates(self.field, code.op("add", made.t, made.h), made.x1)
            last = [code.op("mul", v, made.h) for v in end]
        return Hermite(code, made.x0, made.x1, first, last)

    def alone(self, t: Value, h: Value, x: list[Value], f0: list[Value], smooth: bool) -> list[Value]:
        """The end of a step that nothing came before, with a new Jacobian; no number where its iteration
        fails. `smooth`: as code that can be differentiated."""
        short = self._iterated(t, h, x, f0, self.field.jacobian(t, x), True)
        assert short.ok is not None
        ok = short.ok
        if smooth:
            short = self._implied(t, h, x, f0, short.extra["stages"].z)
        return [self.code.op("select", ok, v, float("nan")) for v in short.x1]

    def _inside(self, made: Attempt, h: Value) -> list[Value]:
        """The end of a shorter step."""
        return self.alone(made.t, h, made.x0, made.extra["f0"], "derivative" in made.extra)
