"""Iterative solvers: a step repeated until its own condition holds, for every member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ndl.runtime.methods import StepSolver
from ndl.runtime.stepping.calling import call_merit, call_step, call_until
from torch import Tensor

SETTLED = 64
"""A step of so many roundings of the unknown is none."""

ENOUGH = 1e-4
"""The share of a move by which the merit has to fall at least (Armijo's alpha)."""

HALVINGS = 24
"""How often a move is halved."""


@dataclass(frozen=True)
class Iterated:
    """The last `x [B, n]`, which members came to their end, and the steps that each took; `stuck` are those
    whose merit no move made smaller."""

    x: Tensor
    done: Tensor
    steps: Tensor
    stuck: Tensor | None = None


def iterate(
    solver: StepSolver,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    most: int = 200,
    settles: bool = False,
    **extras: Any,
) -> Iterated:
    """Repeat the solver's step from x `[B, n]`; members that are done stay as they are.

    `function` is the F of a root solver, the A of a linear one (whose b is an extra), the K of an integral
    one; `x` their unknown by whatever name. With
    `settles` a member is done as well when its step is no more than rounding.
    """
    callee, unknown = solver.ARGUMENTS[0], next(a for a in solver.ARGUMENTS[1:] if a not in ("n", "b"))
    offered: dict[str, Any] = {callee: function, **extras}
    own = {callee: function} | ({} if unknown == "x" else {unknown: x})
    states = solver.initial_states(function, x, x.new_zeros(()), **own, **extras)
    past = {name: [_first(name, unknown, x, states)] * k for name, k in solver.PREVIOUS.items()}
    done = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
    steps = torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device)
    stuck = torch.zeros_like(done)
    damped = solver.merit is not None and bool(solver.options.get("damped", True))
    for n in range(most):
        # a carried state is assigned in the step: one step earlier is what it was before
        seen = {
            name: [states[name], *values[:-1]] if name in states else values for name, values in past.items()
        }
        given = {**offered, unknown: x, "n": x.new_tensor(float(n)), **states, "prev": seen}
        new, _, carried = call_step(solver, given)
        keep = done[..., None]
        new = torch.where(keep, x, new)
        gone = torch.linalg.vector_norm((new - x).detach(), dim=-1)
        size = torch.linalg.vector_norm(new.detach(), dim=-1)
        settled = (gone <= SETTLED * torch.finfo(x.dtype).eps * size) & settles
        if damped:
            # near a root rounding alone may keep the merit from falling
            sure = done | (gone <= torch.finfo(x.dtype).eps ** 0.5 * (1e-8 + size))
            new, stuck = shortened(solver, {**offered, **states, "n": given["n"]}, unknown, x, new, sure)
            done = done | stuck
        now = {unknown: x, **states}
        states = {**states, **carried}
        past = {name: [now[name], *values[:-1]] for name, values in past.items()}
        x, steps = new, steps + (~done).to(torch.int64)
        ended = call_until(
            solver, {**offered, unknown: x, "n": x.new_tensor(n + 1.0), **states, "prev": past}
        )
        bounded = torch.isfinite((x.detach() ** 2).sum(-1))  # beyond, every condition on norms holds
        done = done | ((ended.detach().expand(done.shape) | settled) & bounded)
        if bool(done.all()):
            break
        if not bool((bounded | done).any()):
            break
    return Iterated(x, done & ~stuck, steps, stuck)


def shortened(
    solver: StepSolver, offered: dict[str, Any], unknown: str, x: Tensor, new: Tensor, sure: Tensor
) -> tuple[Tensor, Tensor]:
    """Moves from x to `new`, halved until the merit falls: Armijo's rule, Kelley (1995), section 8.1. Those
    that are `sure [B]` are taken whole; the members that no move helps are returned as well, at x."""
    with torch.no_grad():
        before = call_merit(solver, {**offered, unknown: x.detach()})
        scale = torch.ones_like(before)
        for _ in range(HALVINGS):
            trial = x.detach() + scale[..., None] * (new - x).detach()
            now = call_merit(solver, {**offered, unknown: trial})
            if solver.KIND == "energy":  # which has no size of its own
                bad = ~(now <= before + SETTLED * torch.finfo(x.dtype).eps * before.abs()) & ~sure
            else:
                bad = ~(now <= (1 - ENOUGH * scale) * before) & ~sure
            if not bool(bad.any()):
                break
            scale = torch.where(bad, scale / 2, scale)
    part = torch.where((scale < 1)[..., None], x + scale[..., None] * (new - x), new)
    return torch.where(bad[..., None], x, part), bad


def _first(name: str, unknown: str, x: Tensor, states: dict[str, Tensor]) -> Tensor:
    return x if name == unknown else states[name]
