"""Trajectories that a kernel could not bring to their end: who, when and why, without a run by torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.runtime.failures import Failed, SolveFailure
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.requirements import Requirements
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.consistent import consistent
from ndl.runtime.stepping.control import Tolerances
from ndl.runtime.stepping.postmortem import failure
from ndl.runtime.stepping.stepper import Attempt, Stepper
from torch import Tensor

STATUSES = ("", "step", "max_steps", "require", "events", "finite", "newton", "max_steps", "initial", "delay")
"""By the numbers of `ndl.compiler.kernels.control`."""
RANK = (0, 0, 6, 5, 3, 1, 1, 2, 4, 0)
"""In which order the loop of torch looks for them after an attempt."""
TIMED = ("step", "max_steps", "finite", "newton")
"""Those of which the size of the last step is told."""


@dataclass
class Ended:
    """How the trajectories of a run ended: `status [B]`, `attempts [B]`, where: `t [B]`, `x [B, n]`, and the
    size of the last attempt `h [B]`."""

    status: Ints
    attempts: Ints
    t: Floats
    h: Floats
    x: Tensor

    def __bool__(self) -> bool:
        return bool(self.status.any())

    def first(self) -> int:
        """The member that torch, which takes the attempts of all members together, would meet first."""
        bad = np.nonzero(self.status)[0]
        rank = np.array(RANK)[self.status[bad]]
        return int(bad[np.lexsort((bad, rank, self.attempts[bad]))[0]])

    def all(self) -> tuple[Failed, ...]:
        """Every member that failed."""
        out = []
        for m in np.nonzero(self.status)[0]:
            status = STATUSES[self.status[m]]
            size = float(self.h[m]) if status in TIMED else None
            out.append(Failed(int(m), status, float(self.t[m]), size))
        return tuple(out)


@dataclass
class Standing:
    """One trajectory where it stands, as `postmortem` looks at it; `solved` is what the run left of all."""

    p: Problem
    ids: Ints
    t: Floats
    x: Tensor
    f: VectorField
    model: Model
    tol: Tolerances
    solved: Solution = field(repr=False)

    def partial(self) -> Any:
        return self.solved


def explained(
    problem: Problem, stepper: Stepper, tol: Tolerances, ended: Ended, solved: Solution
) -> SolveFailure:
    """The failure of a run of which some trajectories did not come to their end."""
    with torch.no_grad():
        m = ended.first()
        ids = np.array([m])
        x = ended.x[m : m + 1].detach()
        there = Standing(
            problem, ids, ended.t[ids], x, problem.field(ids), problem.members(ids), tol, solved
        )  # fmt: skip
        found = _one(there, stepper, STATUSES[ended.status[m]], ended.h[ids])
    found.failed = ended.all()
    return found


def _one(there: Standing, stepper: Stepper, status: str, h: Floats) -> SolveFailure:
    if status == "require":
        try:
            Requirements(there.p).check(there, np.array([True]))
        except SolveFailure as found:
            return found
        return failure(there, status, 0)
    if status == "initial":
        try:
            consistent(there.p, there.f, there.x, there.t, there.ids)
        except SolveFailure as found:
            return found
    step: Attempt | None = None
    if status in ("finite", "newton"):
        carry = stepper.begin(there.f, there.x, there.t)
        step = stepper.attempt(there.f, there.x, there.t, h, carry)
    return failure(there, status, 0, h if status in TIMED else None, step)
