"""Diagonally implicit Runge–Kutta steps, for stiff equations and for algebraic ones of index 1.

A stage solves M (X - a) = h gamma f(X, t) with a = x + h sum_j A_ij k_j; its slope is k = (X - a)/(h gamma),
also for algebraic states, for which M is 0 and f(X, t) = 0. E. Hairer, G. Wanner, "Solving Ordinary
Differential Equations II", 2nd ed., sections IV.6, IV.8 and VI.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.members import is_family
from ndl.runtime.methods import Tableau, VectorField
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.second_order import rooted
from ndl.runtime.stepping.consistent import slopes
from ndl.runtime.stepping.control import Tolerances, clock
from ndl.runtime.stepping.explicit import full
from ndl.runtime.stepping.newton import ENOUGH, Solved, full_newton, simplified_newton
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.shorter import ended, field_at, place, remember, shorter
from ndl.runtime.stepping.stepper import (
    Attempt,
    Carry,
    Stepper,
    Time,
    fraction,
    hermite,
    pick,
    stage_times,
)
from ndl.runtime.stepping.systems import Solve, systems_of
from torch import Tensor

SLOW = 1e-2
"""A convergence rate above which the next step starts with a new Jacobian."""


class DiagonallyImplicitRK(Stepper):
    """A lower triangular tableau. The Jacobian is kept while Newton's iteration converges fast; the matrix
    M - h gamma J is factorised once for each distinct gamma of a step."""

    implicit = True
    grow = 6.0

    def __init__(self, tableau: Tableau, problem: Problem) -> None:
        s = tableau.stages
        self.name = tableau.name
        self.c = np.asarray(tableau.c, dtype=np.float64)
        self.A = full(tableau.A, s)
        self.gamma = np.diag(self.A).copy()
        self.b = full((tableau.b,), s)[0]
        self.adaptive = tableau.b_hat is not None
        self.d = self.b - full((tableau.b_hat,), s)[0] if tableau.b_hat is not None else np.zeros(s)
        rows = [tuple(row) for row in self.A]
        self.filtered = self.adaptive and tuple(self.b - self.d) not in rows
        self.order = tableau.order
        self.error_order = min(tableau.order, tableau.embedded or tableau.order)
        self.extrapolates = tableau.embedded is None or tableau.embedded < tableau.order
        self.explicit_first = self.gamma[0] == 0
        self.stiffly_accurate = bool(np.array_equal(self.A[-1], self.b) and self.c[-1] == 1)
        self.short = tableau.order >= 4
        self.joins = not (self.short and is_family(problem.model))
        self.dense = None if tableau.dense is None else full(tableau.dense, len(tableau.dense[0]))
        if (self.gamma[1:] == 0).any():
            raise SettingError(f"`{self.name}` mixes explicit stages between implicit ones")
        if problem.algebraic and not self.stiffly_accurate:
            raise SettingError(
                f"`{self.name}` is not stiffly accurate: it would leave the algebraic equations",
                help="use `rodas5`, `kvaerno5` or `implicit_euler`",
            )
        self.mass = problem.mass()
        self.systems = systems_of(problem.field())
        self.tol = Tolerances.of(problem)
        self.enough = ENOUGH
        step = fixed_step(problem.method.options, problem.t0, problem.t1, self.name)
        self.fixed = step is not None or problem.method.options.get("cfl") is not None
        if self.fixed:
            # without error control the stages are solved to nearly full precision
            tight = 1e-10 if problem.dtype == torch.float64 else 1e-5
            self.tol = Tolerances(tight, problem.x0.new_tensor(tight * 1e-2))

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        carry = super().begin(f, x, t)
        carry["J"] = self.systems.none(x)
        carry["good"] = np.zeros(x.shape[0], dtype=bool)
        carry["here"] = np.zeros(x.shape[0], dtype=bool)
        return carry

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        carry["fresh"] = carry["fresh"] & ~rows
        carry["good"] = carry["good"] & ~rows
        carry["here"] = carry["here"] & ~rows
        return carry

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False,
        insist: bool = False,
    ) -> Attempt:  # fmt: skip
        b = x.shape[0]
        times = stage_times(t, h, self.c, x)
        at = t if isinstance(t, Tensor) else clock(t, x)
        step = (h if isinstance(h, Tensor) else clock(h, x))[:, None]
        cost = np.zeros(b, dtype=np.int64)
        need = ~carry["good"]
        if need.any():
            carry["J"] = self.systems.merged(need, self.systems.at(f, x, at), carry["J"])
            carry["good"], carry["here"] = np.ones(b, dtype=bool), carry["here"] | need
        K: list[Tensor] = []
        ok, rate = np.ones(b, dtype=bool), np.zeros(b)
        if self.explicit_first:
            fresh = carry["fresh"]
            k = carry["f0"]
            cost += carry.owed()
            if k is None or not fresh.all():
                slope = slopes(f, x, at)
                cost += ~fresh if k is not None else 1
                known = torch.from_numpy(fresh)[:, None].to(x.device)
                k = slope if k is None else torch.where(known, k, slope)
            carry["f0"], carry["fresh"] = k, np.ones(b, dtype=bool)
            K.append(k)
        factors: dict[float, Solve] = {}
        scale_from = x.detach().abs()
        z = x
        for i in range(len(K), len(self.c)):
            gamma = float(self.gamma[i])
            a = x
            for j in np.nonzero(self.A[i, :i])[0]:
                a = torch.addcmul(a, step, K[j], value=float(self.A[i, j]))
            hg = gamma * step
            if gamma not in factors:
                factors[gamma] = self.systems.solver(self.mass, hg[:, 0], carry["J"])
            backward = factors[gamma]

            def residual(X: Tensor, a: Tensor = a, hg: Tensor = hg, i: int = i) -> Tensor:
                return self.mass * (X - a) - hg * f(X, times[i])

            def size(move: Tensor) -> Tensor:
                return self.tol.norm(move, scale_from, scale_from)

            with torch.no_grad():
                guess = a + hg * K[-1] if K else x
                guess = torch.where(self.mass > 0, guess, z)
                found = simplified_newton(residual, backward, guess.detach(), size, self.enough)
                if (self.fixed or insist) and not found.ok.all():
                    found = self._again(f, found, residual, guess, times[i], hg, size)
            z = found.z
            cost += found.iterations.astype(np.int64)
            ok &= found.ok
            rate = np.maximum(rate, found.rate)
            if taped:
                z = self._implicit(f, z, residual, times[i], hg)
            K.append((z - a) / hg)
        if self.stiffly_accurate:
            x1 = z
        else:
            x1 = x
            for j in np.nonzero(self.b)[0]:
                x1 = torch.addcmul(x1, step, K[j], value=float(self.b[j]))
        error = None
        if self.adaptive:
            error = torch.zeros_like(x)
            for j in np.nonzero(self.d)[0]:
                error = torch.addcmul(error, step, K[j], value=float(self.d[j]))
            if self.filtered:
                # damps what the explicit weights make of stiff and algebraic components: (IV.8.19)
                error = factors[float(self.gamma[-1])](self.mass * error)
        new = Carry(
            f0=K[-1] if self.stiffly_accurate else None,
            fresh=np.full(b, self.stiffly_accurate),
            J=carry["J"],
            good=ok & (rate < SLOW),
            here=np.zeros(b, dtype=bool),
        )
        extra = {"K": K, "h": step, "before": carry["f0"], "fresh": carry["fresh"]}
        # after a failure with an old Jacobian, a new one is tried
        carry["good"] = carry["good"] & (ok | carry["here"])
        return Attempt(x, x1, error, new, cost, ok=ok, extra=extra)

    def _again(
        self, f: VectorField, found: Solved, residual: Any, guess: Tensor, t: Tensor, hg: Tensor, size: Any
    ) -> Solved:
        """Newton's iteration with new Jacobians for the members that an old one did not serve."""

        def move(X: Tensor) -> Tensor:
            return self.systems.solver(self.mass, hg[:, 0], self.systems.at(f, X, t))(residual(X))

        new = full_newton(move, guess, size, self.enough)
        keep = torch.from_numpy(found.ok).to(guess.device)[:, None]
        return Solved(
            torch.where(keep, found.z, new.z),
            found.ok | new.ok,
            np.where(found.ok, found.rate, new.rate),
            found.iterations + np.where(found.ok, 0.0, new.iterations),
        )

    def _implicit(self, f: VectorField, z: Tensor, residual: Any, t: Tensor, hg: Tensor) -> Tensor:
        """The stage as a function of what it was computed from, by the implicit function theorem."""
        z = z.detach()
        return rooted(residual, z, self.systems.solver(self.mass, hg[:, 0], self.systems.at(f, z, t)))

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        if step.stages is not None:
            return
        K, size = step.extra.pop("K"), step.extra["h"]
        if self.dense is None and not self.stiffly_accurate:
            end = stage_times(t, h, np.ones(1), step.x0)[0]
            K.append(slopes(f, step.x1, end))
            if self.explicit_first:
                step.carry["f0"], step.carry["fresh"] = K[-1], np.ones(len(step.cost), dtype=bool)
                step.carry["owed"] = np.ones_like(step.cost)
        if self.dense is None and not self.explicit_first:
            # the last slope of the step before, which its stages have smoothed, if there is one
            before, fresh = step.extra["before"], step.extra["fresh"]
            if before is None or not fresh.all():
                at = t if isinstance(t, Tensor) else clock(t, step.x0)
                slope = slopes(f, step.x0, at)
                known = torch.from_numpy(fresh)[:, None].to(slope.device)
                before = slope if before is None else torch.where(known, before, slope)
            K.insert(0, before)
        step.stages = torch.stack(K) * size
        if self.short:
            remember(step, f, t, h)

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        column = fraction(theta, step.x0)
        K = step.stages
        x0, x1 = pick(step.x0, rows), pick(step.x1, rows)
        if self.short and "again" in step.extra:
            return self._inside(step, place(rows, theta, step), theta)
        if self.dense is None:
            return hermite(x0, x1, pick(K[0], rows), pick(K[-1], rows), column)
        powers = torch.cat([column ** (j + 1) for j in range(self.dense.shape[1])], dim=1)
        weights = powers @ x0.new_tensor(self.dense.T)
        chosen = K if rows is None or x0.shape[0] == 1 else K[:, torch.from_numpy(rows).to(K.device)]
        moved: Tensor = (weights.t()[:, :, None] * chosen).sum(0)
        return x0 + moved

    def _inside(self, step: Attempt, at: Ints, theta: Any) -> Tensor:
        """Values inside a step by shorter ones, which start with its slope and new Jacobians."""
        f = field_at(step, at)
        start, t, h = shorter(step, at, theta)
        none = np.zeros(len(at), dtype=bool)
        carry = Carry(fresh=none, f0=None, good=none, here=none)
        carry["J"] = self.systems.none(start)
        if self.explicit_first:
            rows = torch.from_numpy(at).to(start.device)
            size = step.extra["h"].index_select(0, rows)
            carry["f0"], carry["fresh"] = step.stages[0].index_select(0, rows) / size, ~none
        inside = self.attempt(f, start, t, h, carry, taped=torch.is_grad_enabled(), insist=True)
        return ended(step, at, theta, inside.x1)

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """||k_last - k_first|| / ||x1 - x0||."""
        K, size = step.stages, step.extra["h"][:, 0].abs()
        top: Tensor = torch.linalg.vector_norm(K[-1] - K[0], dim=-1)
        bottom: Tensor = size * torch.linalg.vector_norm(step.x1 - step.x0, dim=-1)
        return top / bottom.clamp(min=1e-300)
