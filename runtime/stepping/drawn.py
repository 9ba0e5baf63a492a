"""Draws for each step: a stepper that hands its method the right-hand side with the draws of the step.

The carry numbers members and accepted steps, so that every stage, a rejected step and a replay see the same
numbers. A slope known from the step before belongs to other draws and is not used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ndl.runtime.chance import draws_by_step
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time
from torch import Tensor


def drawing(problem: Problem, stepper: Stepper) -> Stepper:
    """The stepper itself, or for a model with draws `per step` one that makes them."""
    return DrawingStepper(problem, stepper) if draws_by_step(problem.model) else stepper


class DrawingStepper(Stepper):
    """Runs `inner` on the fields of `problem`. Raises `SettingError` for gradients of the exact solution,
    which knows no steps, and for those that take the steps backwards."""

    def __init__(self, problem: Problem, inner: Stepper) -> None:
        if problem.gradient in ("adjoint", "reversible"):
            raise SettingError(
                f"`gradient = {problem.gradient}` does not know the steps for which "
                f"`{problem.model.NAME}` draws or has weights",
                help="use `gradient = discrete` or `checkpoint(n)`",
            )
        self.problem, self.inner = problem, inner
        self.order, self.error_order = inner.order, inner.error_order
        self.adaptive, self.implicit = inner.adaptive, inner.implicit
        self.grow, self.extrapolates, self.proposes = inner.grow, inner.extrapolates, inner.proposes
        # a step that is evaluated by shorter ones needs its own field
        self.width, self.joins = inner.width, inner.joins and not getattr(inner, "short", False)

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        carry = self.inner.begin(f, x, t)
        b = x.shape[0]
        carry["drawn:member"], carry["drawn:step"] = np.arange(b), np.zeros(b, dtype=np.int64)
        return carry

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        return self.inner.refresh(f, x, t, carry, rows)

    def moved(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        return self.inner.moved(f, x, t, carry, rows)

    def propose(self, f: VectorField, x: Tensor, t: Floats, h: Floats, carry: Carry) -> Floats:
        own = self.problem.field(carry["drawn:member"], carry["drawn:step"])
        found = self.inner.propose(own, x, t, h, carry)
        f.evaluations += own.evaluations
        return found

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        member, step = carry["drawn:member"], carry["drawn:step"]
        own = self.problem.field(member, step)
        given = Carry(carry)
        for known in ("fresh", "good"):
            if known in given:
                given[known] = np.zeros(x.shape[0], dtype=bool)
        made = self.inner.attempt(own, x, t, h, given, taped)
        made.carry["drawn:member"], made.carry["drawn:step"] = member, step + 1
        made.extra["own"] = own
        f.evaluations += own.evaluations
        return made

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        own = step.extra["own"]
        before = own.evaluations
        self.inner.complete(own, step, t, h)
        f.evaluations += own.evaluations - before

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        return self.inner.interpolate(step, rows, theta)

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        return self.inner.stiffness(step, h)
