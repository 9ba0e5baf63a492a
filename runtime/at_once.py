"""The discrete gradient of many small steps at once.

The states at the starts of all accepted steps are known from the run, so that the steps can be taken again
as the rows of one batch: x_{k+1} = Phi(x_k, theta). What joins them is linear: a change d_k of the state
before step k is carried on as d_{k+1} = J_k d_k + (change of Phi by theta), J_k = dPhi/dx. Its transpose is
a recursion over n x n matrices, and everything else is batched, so that the cost in calls does not grow with
the number of steps. The result is the gradient that the steps one after the other would give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.problem import Problem
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.earlier import remembers
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import errors_of, events_of, stats_of, steps_of, stiffness_of
from ndl.runtime.stepping.loop import Loop, Outcome
from ndl.runtime.stepping.stepper import Attempt, Stepper
from ndl.runtime.stepping.trail import Piece, StepTable, Trail, TrailInterpolant
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_STATES = 16
"""Beyond it, the n products with J^T that form it cost more than they save."""
LEAST_STEPS = 12


class Carried(torch.autograd.Function):
    """Changes before each step `[R, n]` and at each member's end `[B, n]`, all of them 0.

    `start [B, n]` and `change [R, n]` (of each step's end) are 0 and carry gradients; `J [R, n, n]`.
    """

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, change: Tensor, J: Tensor, table: StepTable
    ) -> tuple[Tensor, Tensor]:
        ctx.table = table
        ctx.save_for_backward(J)
        return torch.zeros_like(change), torch.zeros_like(start)

    @staticmethod
    @once_differentiable  # type: ignore[misc,untyped-decorator,no-untyped-call]
    def backward(ctx: Any, before: Tensor, end: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (J,) = ctx.saved_tensors
        table: StepTable = ctx.table
        device, dtype = J.device, J.dtype
        jac, own = J.double().cpu().numpy(), before.double().cpu().numpy()
        change = np.zeros_like(own)
        adjoint = end.double().cpu().numpy().copy()
        many = table.many
        for k in range(int(many.max(initial=0)) - 1, -1, -1):
            running = np.nonzero(many > k)[0]
            row = table.starts[running] + k
            change[row] = adjoint[running]
            adjoint[running] = np.einsum("rij,ri->rj", jac[row], adjoint[running]) + own[row]
        found = torch.from_numpy(adjoint).to(device, dtype), torch.from_numpy(change).to(device, dtype)
        return *found, None, None


def applies(problem: Problem, stepper: Stepper) -> bool:
    """Whether this way serves: small explicit one-step methods without events or algebraic equations."""
    model = problem.model
    return (
        isinstance(stepper, ExplicitRK)
        and problem.size <= MOST_STATES
        and not problem.algebraic
        and not model.EVENTS
        and not remembers(model)
        and not model.REQUIRES
        and not model.BREAKS
        and problem.t0 != problem.t1
        and not any(hasattr(v, "select") and not isinstance(v, Tensor) for v in model._given.values())
    )


def solve_at_once(problem: Problem, stepper: Stepper) -> Solution | None:
    """The solution with its discrete gradient; None when there are too few steps for it to pay."""
    with torch.no_grad():
        outcome = Loop(problem, stepper, keep=True).run()
    trail = outcome.trail
    table = trail.table()
    if len(table.ids) < LEAST_STEPS or not trail.keep or bool((table.many == 0).any()):
        return None
    with torch.no_grad():
        base = starts_of(trail, problem)
    taken, after = retaken(problem, stepper, table, base)
    return _solution(problem, stepper, outcome, taken, after)


def retaken(problem: Problem, stepper: Stepper, table: StepTable, base: Tensor) -> tuple[Trail, Tensor]:
    """The steps of a table, from the states `base [R, n]` at their starts, with their gradients; and zeros
    with those of the ends, `[B, n]`."""
    rows = np.arange(len(table.ids))
    whole = len(problem.x0) == 1
    field = problem.field() if whole else problem.field(table.ids)
    leaf = base.requires_grad_(True)
    first = take(stepper, field, leaf, table)
    J = jacobian(first.x1, leaf)
    change = first.x1 - first.x1.detach()
    start = problem.x0 - problem.x0.detach()
    before, after = Carried.apply(start, change, J, table)  # type: ignore[no-untyped-call]
    again = take(stepper, field, base.detach() + before, table)
    stepper.complete(field, again, table.t, table.h)
    taken = Trail(problem.count, problem.sign)
    taken.add(Piece(rows, table.ids, table.t, table.end, table.h, table.error, again, (table.t, table.h)))
    return taken, after


def take(stepper: Stepper, field: Any, x: Tensor, table: StepTable) -> Attempt:
    """All steps as rows of one attempt."""
    carry = stepper.begin(field, x, table.t)
    return stepper.attempt(field, x, table.t, table.h, carry, taped=True)


def starts_of(trail: Trail, problem: Problem) -> Tensor:
    """The state before each step, in the order of the table."""
    pieces = [p for p in trail.pieces if p.attempt is not None]
    ids = np.concatenate([p.ids for p in pieces])
    found = [p.attempt.x0[torch.from_numpy(p.rows).to(problem.x0.device)] for p in pieces if p.attempt]
    order = torch.from_numpy(np.argsort(ids, kind="stable")).to(problem.x0.device)
    return torch.cat(found).index_select(0, order).detach().clone()


def jacobian(y: Tensor, x: Tensor) -> Tensor:
    """dy/dx row by row, `[R, n, n]`."""
    found = []
    for i in range(y.shape[-1]):
        unit = torch.zeros_like(y)
        unit[:, i] = 1.0
        (g,) = torch.autograd.grad(y, x, unit, retain_graph=True)
        found.append(g)
    return torch.stack(found, 1)


def _solution(problem: Problem, stepper: Stepper, outcome: Outcome, taken: Trail, after: Tensor) -> Solution:
    """The outcome's solution with the values of the taped steps."""
    saved = outcome.recorder.result()
    table = taken.table()
    last = outcome.last.detach() + after
    interpolant = TrailInterpolant(taken, stepper, saved.t[:, 0], problem.x0)
    count, width = saved.t.shape
    ids, times = np.repeat(np.arange(count), width), saved.t.reshape(-1)
    if problem.save.kind == "end":
        values = last[:, None]
    else:
        values = interpolant(ids, times)["x"].reshape(count, width, -1)
        starts = clock(saved.t, last) == float(problem.t0)
        values = torch.where(starts[..., None], problem.x0[:, None], values)
    saved.values["x"] = values
    return Solution(
        problem, saved, {"x": last}, outcome.last_t,
        stats_of(problem, outcome.steps, outcome.rejected, outcome.evaluations),
        steps_of(
            problem, table, lambda: stiffness_of(taken, stepper, table),
            lambda: errors_of(problem, taken, table),
        ),
        events_of(problem, outcome.watch, None), interpolant,
    )  # fmt: skip
