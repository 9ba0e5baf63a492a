"""The discrete gradient of many small steps at once.

The states at the starts of all accepted steps are known from the run, so that the steps can be taken again
as the rows of one batch: x_{k+1} = Phi(x_k, theta). What joins them is linear: a change d_k of the state
before step k is carried on as d_{k+1} = J_k d_k + (change of Phi by theta), J_k = dPhi/dx. Its transpose is
a recursion over n x n matrices, and everything else is batched, so that the cost in calls does not grow with
the number of steps. The result is the gradient that the steps one after the other would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ndl.runtime.adjoint import differentiable
from ndl.runtime.problem import Ints, Problem
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.earlier import remembers
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import errors_of, events_of, stats_of, steps_of, stiffness_of
from ndl.runtime.stepping.loop import Loop, Outcome
from ndl.runtime.stepping.stepper import Attempt, Stepper
from ndl.runtime.stepping.trail import Piece, StepTable, Trail, TrailInterpolant
from torch import Tensor

Steps = Callable[[Tensor], tuple[Tensor, Tensor]]

MOST_STATES = 16
"""Beyond it, the n products with J^T that form it cost more than they save."""
LEAST_STEPS = 12


class Carried(torch.autograd.Function):
    """Changes before each step `[R, n]` and at each member's end `[B, n]`, all of them 0.

    `start [B, n]` and `change [R, n]` (of each step's end) are 0 and carry gradients; `J [R, n, n]`. `again`
    takes all steps anew from states that are changed by `[R, n]`: second derivatives want J and the
    derivatives by the `weights` as functions of the states, which `change` takes as numbers.
    """

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, change: Tensor, J: Tensor, table: StepTable, again: Steps, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.table, ctx.again, ctx.weights, ctx.closed = table, again, weights, False
        before = torch.zeros_like(change)
        ctx.save_for_backward(J, before)
        return before, torch.zeros_like(start)

    @staticmethod
    def backward(ctx: Any, before: Tensor, end: Tensor) -> tuple[Tensor | None, ...]:
        J, changed = ctx.saved_tensors
        weights = ctx.weights
        if ctx.closed:
            return None, None, None, None, None, *[None] * len(weights)
        if torch.is_grad_enabled():
            states, ends = ctx.again(changed)
            start, change = _back(ctx.table, jacobian(ends, states, twice=True), before, end)
            ctx.closed = True  # partial derivatives: the way through the states ends here
            moving = _by_weights(ends, weights, change)
            ctx.closed = False
            still = _by_weights(ctx.again(torch.zeros_like(changed))[1], weights, change)
            more = [None if a is None or b is None else a - b for a, b in zip(moving, still)]
            return start, change, None, None, None, *more
        arrays = (v.double().cpu() for v in (J, before, end))
        found = (v.to(J.device, J.dtype) for v in _back_on_host(ctx.table, *arrays))
        return *found, None, None, None, *[None] * len(weights)


def _by_weights(ends: Tensor, weights: Sequence[Tensor], change: Tensor) -> Sequence[Tensor | None]:
    """Derivatives of the steps' ends by what stands in them, of which there are derivatives again."""
    return torch.autograd.grad(ends, weights, change, create_graph=True, allow_unused=True) if weights else ()


def _back_on_host(table: StepTable, J: Tensor, own: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """`_back` by NumPy, whose calls cost less."""
    jac, at_starts, adjoint = J.numpy(), own.numpy(), end.numpy().copy()
    change = np.zeros_like(at_starts)
    for running, rows in _turns(table):
        change[rows] = adjoint[running]
        adjoint[running] = np.einsum("rij,ri->rj", jac[rows], adjoint[running]) + at_starts[rows]
    return torch.from_numpy(adjoint), torch.from_numpy(change)


def _back(table: StepTable, J: Tensor, own: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Cotangents of the starts `[B, n]` and of each step's end `[R, n]`, from those of what is before each
    step and of the ends."""
    adjoint, change = end, torch.zeros_like(own)
    for running, rows in _turns(table):
        here = torch.from_numpy(running).to(J.device), torch.from_numpy(rows).to(J.device)
        now = adjoint[here[0]]
        change = change.index_copy(0, here[1], now)
        carried = torch.einsum("rij,ri->rj", J[here[1]], now) + own[here[1]]
        adjoint = adjoint.index_copy(0, here[0], carried)
    return adjoint, change


def _turns(table: StepTable) -> Iterator[tuple[Ints, Ints]]:
    """From the last step to the first: who takes one, and its row."""
    many = table.many
    for k in range(int(many.max(initial=0)) - 1, -1, -1):
        running = np.nonzero(many > k)[0]
        yield running, table.starts[running] + k


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
    weights = differentiable(problem.model)
    at = base.detach()

    def steps(changed: Tensor) -> tuple[Tensor, Tensor]:
        states = at + changed
        return states, take(stepper, field, states, table).x1

    before, after = Carried.apply(start, change, J, table, steps, *weights)  # type: ignore[no-untyped-call]
    again = take(stepper, field, at + before, table)
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


def jacobian(y: Tensor, x: Tensor, twice: bool = False) -> Tensor:
    """dy/dx row by row, `[R, n, n]`; `twice`: to be differentiated itself."""
    found = []
    for i in range(y.shape[-1]):
        unit = torch.zeros_like(y)
        unit[:, i] = 1.0
        (g,) = torch.autograd.grad(y, x, unit, retain_graph=True, create_graph=twice)
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
