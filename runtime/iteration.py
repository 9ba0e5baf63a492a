"""Iterative solvers: a step repeated until its own condition holds, for every member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ndl.runtime.methods import StepSolver
from ndl.runtime.stepping.calling import call_step, call_until
from torch import Tensor

SETTLED = 64
"""A step of so many roundings of the unknown is none."""


@dataclass(frozen=True)
class Iterated:
    """The last `x [B, n]`, which members came to their end, and the steps that each took."""

    x: Tensor
    done: Tensor
    steps: Tensor


def iterate(
    solver: StepSolver,
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    most: int = 200,
    settles: bool = False,
    **extras: Any,
) -> Iterated:
    """Repeat the solver's step from x `[B, n]`; members that are done stay as they are.

    `function` is the F of a root solver, the K of an integral one; `x` their unknown by whatever name. With
    `settles` a member is done as well when its step is no more than rounding.
    """
    callee, unknown = solver.ARGUMENTS[0], next(a for a in solver.ARGUMENTS[1:] if a != "n")
    offered: dict[str, Any] = {callee: function, **extras}
    own = {callee: function} | ({} if unknown == "x" else {unknown: x})
    states = solver.initial_states(function, x, x.new_zeros(()), **own, **extras)
    past = {name: [_first(name, unknown, x, states)] * k for name, k in solver.PREVIOUS.items()}
    done = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
    steps = torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device)
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
    return Iterated(x, done, steps)


def _first(name: str, unknown: str, x: Tensor, states: dict[str, Tensor]) -> Tensor:
    return x if name == unknown else states[name]
