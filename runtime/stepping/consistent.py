"""Consistent values of algebraic states: Newton on the algebraic equations with the others held."""

from __future__ import annotations

import numpy as np
import torch
from ndl.runtime.failures import SolveFailure
from ndl.runtime.linear_maps import diagonal, jacobian_map
from ndl.runtime.methods import VectorField
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem, field_of
from ndl.runtime.second_order import rooted
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.systems import Solve
from torch import Tensor

AFTER = "the algebraic equations have no solution near the values after an event"


def algebraic_places(problem: Problem) -> Tensor:
    """The flat places `[m]` of algebraic states."""
    return torch.nonzero(problem.mass() == 0).reshape(-1)


def consistent(
    problem: Problem,
    f: VectorField,
    x: Tensor,
    t: Floats,
    ids: Ints | None = None,
    rows: np.ndarray | None = None,
) -> tuple[Tensor, Ints]:
    """x `[b, n]` with its algebraic entries moved so that their equations hold, and evaluations `[b]`.

    Each member stops at its own convergence; those that are not among `rows` stay what they are. `ids` names
    the members. Raises `SolveFailure` where there is no convergence.
    """
    places = algebraic_places(problem)
    at = clock(t, x)
    going = np.ones(x.shape[0], dtype=bool) if rows is None else rows.copy()
    count = np.zeros(x.shape[0], dtype=np.int64)
    eps = torch.finfo(x.dtype).eps
    for _ in range(30):
        residual = f(x, at)[:, places]
        count += going
        J = f.jacobian(x, at)[:, places][:, :, places]
        move, _ = torch.linalg.solve_ex(J, residual)
        mask = torch.from_numpy(going).to(x.device)[:, None]
        x = x.index_add(1, places, torch.where(mask, -move, torch.zeros_like(move)))
        size = host((move.abs() / (x[:, places].abs() + 1e-8)).amax(-1))
        going = going & ~(size <= 64 * eps)
        if not going.any():
            return x, count
        if not np.isfinite(size[going]).all():
            break
    # an iteration that only rounding keeps moving has converged
    slow = going & ~(size <= 1e3 * eps**0.75)
    if not slow.any():
        return x, count
    i = int(np.nonzero(slow)[0][0])
    raise SolveFailure(
        "initial",
        model=problem.model.NAME,
        time=float(t[i]),
        member=(i if ids is None else int(ids[i])) if problem.ensemble else None,
        state=problem.state_name(int(places[0])),
        detail=None if t[i] == problem.t0 else AFTER,
        advice="give a first guess nearer to a solution: `state z = …`; an algebraic state must be fixed by "
        "its equation when the others are known (index 1)",
    )


def tied(problem: Problem, model: Model, x: Tensor, t: Tensor) -> tuple[Tensor, Ints]:
    """Consistent algebraic values with the derivative of the implicit function theorem, and evaluations."""
    f, places = field_of(model, problem.mass()), algebraic_places(problem)
    with torch.no_grad():
        solved, count = consistent(problem, f, x.detach(), host(t))
        J = f.jacobian(solved, t.detach())[:, places][:, :, places]

    def residual(z: Tensor) -> Tensor:
        return f(torch.index_copy(x, 1, places, z), t)[:, places]

    def solve(r: Tensor) -> Tensor:
        move: Tensor = torch.linalg.solve(J, r[..., None])[..., 0]
        return move - move.detach()

    return torch.index_copy(x, 1, places, rooted(residual, solved[:, places], solve)), count


def slopes(f: VectorField, x: Tensor, t: Tensor, known: Tensor | None = None) -> Tensor:
    """dx/dt `[..., n]`, also of algebraic states, whose equation g(x, t) = 0 is differentiated in t."""
    rate = f(x, t) if known is None else known
    if f.mass is None or bool((f.mass != 0).all()):
        return rate
    places = torch.nonzero(f.mass == 0).reshape(-1)
    others = torch.nonzero(f.mass != 0).reshape(-1)
    J = f.jacobian(x, t)[..., places, :]
    right = f.time_derivative(x, t)[..., places]
    right = right + (J[..., others] @ rate[..., others, None])[..., 0]
    moved, _ = torch.linalg.solve_ex(J[..., places], right)
    return torch.index_copy(rate, -1, places, -moved)


def smooth_slopes(f: VectorField, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """dx/dt `[b, n]` for continuous output of stiff equations, where f(x, t) itself magnifies the error of x.

    Three refinements s <- s + W^-1 (f - M s) with W = M - h/2 J from s = 0: a smooth component is right
    to O(h^3), the error of a stiff one no more than 6/h times that of x. Rows of algebraic states ask for
    J s = -f_t.
    """
    rate, half = f(x, t), 0.5 * h[:, None]
    mass = torch.ones_like(x[0]) if f.mass is None else f.mass
    bound = half * f.time_derivative(x, t) if f.mass is not None else torch.zeros_like(x)
    apply, solve = _shifted(f, x, t, mass, half)
    s = torch.zeros_like(x)
    for _ in range(3):
        tied = bound + half * apply(s)
        r = torch.where(mass > 0, rate - s, tied)
        s = s + solve(r)
    return s


def _shifted(f: VectorField, x: Tensor, t: Tensor, mass: Tensor, half: Tensor) -> tuple[Solve, Solve]:
    """v -> J v and b -> (M - half J)^-1 b, with their derivatives."""
    if f.sparse is not None:
        J = jacobian_map(f.function, f.sparse(x, t), x, t)
        W = diagonal(mass) - J * half[:, 0]
        return J.matvec, W.solve
    matrix = f.jacobian(x, t)
    factors, pivots, _ = torch.linalg.lu_factor_ex(torch.diag(mass) - half[:, :, None] * matrix)
    return (
        lambda v: (matrix @ v[:, :, None])[:, :, 0],
        lambda b: torch.linalg.lu_solve(factors, pivots, b[:, :, None])[:, :, 0],
    )
