"""Fixed explicit steps that all members share, with nothing to watch for: the shortest loop there is.

The times are known beforehand, h is a number, and there are no decisions: with and without a tape a step is
its stages and as few additions. Continuous output is put together only when somebody asks for it.
"""

from __future__ import annotations

import numpy as np
import torch
from ndl.runtime.events import EventWatch
from ndl.runtime.finite import all_finite
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.requirements import Requirements
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.corners import plain_steps
from ndl.runtime.stepping.earlier import remembers
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import (
    Lazy,
    SavedInterpolant,
    errors_of,
    events_of,
    stats_of,
    steps_of,
    stiffness_of,
)
from ndl.runtime.stepping.loop import Loop
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper
from ndl.runtime.stepping.trail import BUDGET, Piece, Trail, TrailInterpolant, fixed_table
from torch import Tensor

Row = tuple[list[tuple[int, float]], Tensor]
"""Coefficients times h: the nonzero ones, and all as a vector."""


def plain(problem: Problem, stepper: Stepper) -> bool:
    """Whether a run has fixed explicit steps, no events, requirements, delays or earlier values."""
    if not isinstance(stepper, ExplicitRK) or remembers(problem.model) or problem.model.DELAYS:
        return False
    fixed = Pace.of(problem, stepper).step is not None
    return fixed and plain_steps(problem, stepper) and not EventWatch(problem) and not Requirements(problem)


class FixedRun:
    """Such a run; `slopes[k]` are those of step k, `states[k]` the state at its start."""

    def __init__(self, problem: Problem, stepper: ExplicitRK) -> None:
        self.p, self.stepper = problem, stepper
        step = Pace.of(problem, stepper).step
        assert step is not None
        self.table = fixed_table(problem, step)
        count = int(self.table.many[0])
        self.t = np.append(self.table.t[:count], problem.t1 if count else problem.t0)
        self.h = self.table.h[:count]
        self.f: VectorField = problem.field()
        self.slopes: list[list[Tensor]] = []
        self.states: list[Tensor] = []
        self.keep = self._worth_keeping()
        self._rows: dict[float, tuple[list[Row], Row]] = {}
        self._trail: Trail | None = None

    def _worth_keeping(self) -> bool:
        p = self.p
        size = self.stepper.main * p.x0.numel() * p.x0.element_size() * len(self.h)
        return (p.save.kind != "end" or p.taped) and size <= BUDGET

    # ------------------------------------------------------------ stepping

    def solve(self) -> Solution:
        """The solution; values carry their gradients if the problem wants some."""
        p = self.p
        last, saved = self._run()
        if not all_finite(last):
            with torch.no_grad():
                # the loop that looks at every step says where and what
                Loop(p, self.stepper, keep=p.save.kind != "end").run()
        many = self.table.many
        evaluations = self.stepper.main * many - self.stepper.fsal * np.maximum(many - 1, 0)
        interpolant: Interpolant | None = None
        if self.keep and len(self.h):
            interpolant = Lazy(self._interpolant)
        elif p.save.kind != "end":
            interpolant = SavedInterpolant(p, saved)
        last_t = np.full(p.count, p.t1)
        return Solution(
            p,
            saved,
            {"x": last},
            last_t,
            stats_of(p, many, np.zeros_like(many), evaluations),
            steps_of(
                p,
                self.table,
                lambda: stiffness_of(self.trail(), self.stepper, self.trail().table()),
                lambda: errors_of(p, self.trail(), self.trail().table()),
            ),
            events_of(p, EventWatch(p)),
            interpolant,
        )

    def _run(self) -> tuple[Tensor, Saved]:
        p, stepper, f, h = self.p, self.stepper, self.f, self.h
        x = p.x0
        times = clock(self.t[: len(h), None] + stepper.c[: stepper.main] * h[:, None], x)
        plan, grid = p.save, p.sign * p.save.times
        slot, kept = 0, []
        if plan.kind == "grid":
            while slot < len(grid) and grid[slot] <= p.sign * self.t[0]:
                kept.append(x)
                slot += 1
        slope: Tensor | None = None
        for k, at in enumerate(times.unbind(0)):
            size = float(h[k])
            y, K = self._step(f, x, at.unbind(0), size, slope)
            slope = K[-1] if stepper.fsal else None
            if self.keep:
                self.states.append(x)
                self.slopes.append(K)
            if plan.kind == "grid":
                end = p.sign * self.t[k + 1]
                if slot < len(grid) and grid[slot] < end:
                    until = int(np.searchsorted(grid, end))
                    slope = self._inside(x, y, K, k, slot, until, kept, slope)
                    slot = until
                while slot < len(grid) and grid[slot] <= end:
                    kept.append(y)
                    slot += 1
            elif plan.kind == "steps":
                kept.append(y)
            x = y
        if plan.kind == "steps":
            kept, where = [p.x0, *kept], self.t
        else:
            where = plan.times
        if plan.kind == "end":
            kept = [x]
        values = torch.stack(kept, 1)
        t = np.broadcast_to(where, (p.count, len(where))).copy()
        return x, Saved(t, np.ones(t.shape, dtype=bool), {"x": values})

    def _step(
        self, f: VectorField, x: Tensor, at: tuple[Tensor, ...], h: float, slope: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The next state and the slopes of the stages."""
        rows, weights = self._coefficients(h, x)
        K = [f(x, at[0]) if slope is None else slope]
        y = x
        for i in range(1, self.stepper.main):
            y = add(x, K, rows[i])
            K.append(f(y, at[i]))
        return (y if self.stepper.fsal else add(x, K, weights)), K

    def _coefficients(self, h: float, x: Tensor) -> tuple[list[Row], Row]:
        if h not in self._rows:
            s = self.stepper

            def row(values: Floats) -> Row:
                used = [(int(j), h * float(values[j])) for j in np.nonzero(values)[0]]
                return used, x.new_tensor(h * values[: used[-1][0] + 1 if used else 0])

            if len(self._rows) > 64:
                self._rows.clear()
            self._rows[h] = ([row(s.A[i]) for i in range(s.main)], row(s.b))
        return self._rows[h]

    def _inside(
        self, x: Tensor, y: Tensor, K: list[Tensor], k: int, slot: int, until: int, kept: list[Tensor],
        slope: Tensor | None,
    ) -> Tensor | None:  # fmt: skip
        """Saves the grid times inside step k; returns the slope at its end if that is known now."""
        attempt = self._attempt(x, y, K, k)
        t, h = self.t[k : k + 1], self.h[k : k + 1]
        b = self.p.count
        self.stepper.complete(self.f, attempt, np.repeat(t, b), np.repeat(h, b))
        for time in self.p.save.times[slot:until]:
            theta = np.full(b, (time - t[0]) / h[0])
            kept.append(self.stepper.interpolate(attempt, np.arange(b), theta))
        return attempt.carry["f0"] if slope is None else slope

    # ------------------------------------------------------------ what is put together on demand

    def _attempt(self, x: Tensor, y: Tensor, K: list[Tensor], k: int) -> Attempt:
        """A step as the general loop knows it."""
        stepper, h = self.stepper, float(self.h[k])
        none = np.zeros(self.p.count, dtype=np.int64)
        error = None
        if stepper.adaptive:
            used = [(int(j), h * float(stepper.d[j])) for j in np.nonzero(stepper.d)[0]]
            error = add(torch.zeros_like(x), K, (used, x.new_tensor(h * stepper.d[: stepper.main])))
        carry = Carry(f0=None, fresh=np.zeros(self.p.count, dtype=bool))
        return Attempt(x, y, error, carry, none, extra={"slopes": [q * h for q in K], "h": h})

    def trail(self) -> Trail:
        """All steps with their stages."""
        if not self.keep:
            raise AttributeError("the steps of this run were not kept; use `save = steps`")
        if self._trail is None:
            b = self.p.count
            self._trail = Trail(b, self.p.sign)
            ends = [*self.states[1:], self._end()]
            with torch.set_grad_enabled(self.p.taped):
                for k, (x, y, K) in enumerate(zip(self.states, ends, self.slopes, strict=True)):
                    attempt = self._attempt(x, y, K, k)
                    t, end, h = (np.full(b, v) for v in (self.t[k], self.t[k + 1], self.h[k]))
                    self.stepper.complete(self.f, attempt, t, h)
                    everyone: Ints = np.arange(b)
                    self._trail.add(Piece(everyone, everyone, t, end, h, np.zeros(b), attempt))
        return self._trail

    def _end(self) -> Tensor:
        with torch.set_grad_enabled(self.p.taped):
            return add(self.states[-1], self.slopes[-1], self._coefficients(float(self.h[-1]), self.p.x0)[1])

    def _interpolant(self) -> Interpolant:
        return TrailInterpolant(self.trail(), self.stepper, np.full(self.p.count, self.p.t0), self.p.x0)


def add(x: Tensor, K: list[Tensor], row: Row) -> Tensor:
    """x + sum_j c_j K_j, out of place."""
    used, vector = row
    if len(used) <= 4:
        for j, c in used:
            x = torch.add(x, K[j], alpha=c)
        return x
    stacked = torch.stack(K[: len(vector)]).reshape(len(vector), -1)
    return torch.addmv(x.reshape(-1), stacked.t(), vector).view(x.shape)
