"""Simplified Newton iterations for the stages of implicit methods, a batch at a time.

E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., section IV.8. A member whose
iteration has converged is left alone, so that it ends where it would have ended by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.problem import Floats
from ndl.runtime.stepping.control import host
from torch import Tensor

ITERATIONS = 10
ENOUGH = 1e-3
"""The iteration's error against the tolerance of the step (kappa)."""

UNITS = 4.0
"""Units of rounding of the unknown below which a move says nothing."""


@dataclass(frozen=True)
class Solved:
    """The root `[b, n]`; where the iteration converged `[b]`; its slowest rate `[b]`; iterations."""

    z: Tensor
    ok: np.ndarray
    rate: Floats
    iterations: Floats


def simplified_newton(
    residual: Callable[[Tensor], Tensor],
    solve: Callable[[Tensor], Tensor],
    z: Tensor,
    size: Callable[[Tensor], Tensor],
    enough: float,
) -> Solved:
    """A root of `residual` near z, with the fixed approximate inverse Jacobian `solve`; `size` is the scaled
    norm `[b]`. Stops a member when rate/(1 - rate) times its last move is below `enough`."""
    b = z.shape[0]
    going, ok = np.ones(b, dtype=bool), np.zeros(b, dtype=bool)
    old, rate = np.full(b, np.nan), np.zeros(b)
    many = np.zeros(b)
    # moves at the level of rounding have no meaningful rate
    still = np.maximum(1e-4 * enough, rounding(z, size))
    for k in range(ITERATIONS):
        move = solve(residual(z))
        if not going.all():
            move = torch.where(torch.from_numpy(going).to(z.device)[:, None], move, torch.zeros_like(move))
        z = z - move
        many += going
        now = host(size(move))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if k:
                theta = np.where(old > 0, now / old, 0.0)
                rate = np.where(going, np.maximum(rate, theta), rate)
                left = ITERATIONS - 1 - k
                done = (theta < 1) & (theta / (1 - theta) * now <= enough)
                hopeless = ~(theta < 1) | (theta**left / (1 - theta) * now > enough)
                done |= now <= still
            else:
                done, hopeless = now <= still, ~np.isfinite(now)
        ok |= going & done
        going &= ~(done | hopeless)
        old = now
        if not going.any():
            break
    return Solved(z, ok, rate, many)


def full_newton(
    move_at: Callable[[Tensor], Tensor],
    z: Tensor,
    size: Callable[[Tensor], Tensor],
    enough: float,
    most: int = 25,
) -> Solved:
    """As `simplified_newton`, with a new Jacobian in every iteration: for fixed steps, where a failure cannot
    be answered by a smaller one. `move_at(z)` is Newton's move, nan where the Jacobian is singular."""
    b = z.shape[0]
    going, many = np.ones(b, dtype=bool), np.zeros(b)
    # quadratic convergence: a move this small leaves an error far below the tolerance
    small = np.maximum(1e-2 * enough**0.5, rounding(z, size))
    for _ in range(most):
        move = move_at(z)
        usable = torch.from_numpy(going).to(z.device) & torch.isfinite(move).all(-1)
        z = torch.where(usable[:, None], z - move, z)
        many += going
        now = host(size(move))
        going &= ~(now <= small)
        if not going.any():
            break
    return Solved(z, ~going, np.ones(b), many)


def rounding(z: Tensor, size: Callable[[Tensor], Tensor]) -> Floats:
    """A few units of rounding of z in the scaled norm, `[b]`."""
    found: Floats = UNITS * torch.finfo(z.dtype).eps * host(size(z))
    return np.where(np.isfinite(found), found, 0.0)
