"""The driver of equations without time: models that have only `0 = …`, solved by a root solver."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ndl.runtime import sparse
from ndl.runtime.colouring import colouring, components
from ndl.runtime.energy import Energy
from ndl.runtime.errors import SettingError
from ndl.runtime.failures import SolveFailure
from ndl.runtime.implicit import jacobian, solve
from ndl.runtime.iteration import Iterated, iterate
from ndl.runtime.krylov import KrylovInverse
from ndl.runtime.linearized import free_places
from ndl.runtime.methods import StepSolver
from ndl.runtime.problem import Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.second_order import rooted
from ndl.runtime.solution import Events, Solution, Stats, Steps
from ndl.runtime.sparse import Inverse
from torch import Tensor

MOST = 1000
"""Iterations allowed."""

KRYLOV = ("gmres", "bicgstab")
"""Methods that make no matrix of the Jacobian."""

DENSE = 64
"""States up to which matrices of field problems are dense."""


class Residual:
    """F(x) at a time: the residuals of the equations, `[B, n]`."""

    inverse: KrylovInverse | SparseInverse | None = None
    """Of (x, b), the solution of a system with the Jacobian at x, where it is sparse."""

    def __init__(self, problem: Problem) -> None:
        self.model = problem.model
        self.t = problem.x0.new_full((problem.count,), problem.t0)
        if problem.method.name in KRYLOV:
            self.inverse = KrylovInverse(problem, self.t)
        elif any(g.reach for g in problem.model.GRIDS) and problem.size > DENSE:
            self.inverse = SparseInverse(problem, self)

    def __call__(self, x: Tensor) -> Tensor:
        return self.model.vector_field(self.t, x)

    def jacobian(self, x: Tensor) -> Tensor:
        return self.model.state_jacobian(self.t, x)

    def system(self, x: Tensor, method: str) -> tuple[System, Tensor]:
        """A and b of F(x) = A x - b. Raises `SettingError` for an F that is not linear."""
        A = System(self, x)
        probe = torch.cos(torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)).expand(x.shape)
        start, image = self(x), A(probe)
        apart = (self(x + probe) - start - image).abs().amax()
        if not bool(apart <= 1e-6 * (image.abs().amax() + start.abs().amax())):
            raise SettingError(
                f"`{method}` solves linear equations, and those of `{self.model.NAME}` are not",
                help="use `newton(tol=…)`",
            )
        return A, A(x) - start


class System:
    """The derivative of F at x, by derivatives along vectors, and its transpose."""

    def __init__(self, F: Residual, x: Tensor) -> None:
        self.F, self.x = F, x

    def __call__(self, v: Tensor) -> Tensor:
        image: Tensor = torch.func.jvp(self.F, (self.x,), (v,))[1]
        return image

    def transposed(self, w: Tensor) -> Tensor:
        """A.T w among the values that no condition gives: there both are 0."""
        free = self.free.to(w.device)
        (back,) = torch.func.vjp(self.F, self.x)[1](torch.where(free, w, 0.0))
        return torch.where(free, back, 0.0)

    @cached_property
    def free(self) -> Tensor:
        """`[n]`."""
        return free_places(self.F.model, self, self.x)


class SparseInverse:
    """J(x)^-1 b for each member, by the linear solver that the method's name says."""

    def __init__(self, problem: Problem, F: Residual) -> None:
        self.problem, self.F = problem, F
        (self.grid,) = problem.model.GRIDS
        self.components = components(self.grid, problem.model.STATES)
        self.colours = colouring(self.grid, self.components)

    def __call__(self, x: Tensor, b: Tensor) -> Tensor:
        return self.at(x)(b)

    def at(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """b -> J(x)^-1 b, with its derivative by b."""

        def residuals(y: Tensor) -> Tensor:
            return self.F.model.vector_field(self.F.t.expand(y.shape[:-1]), y)

        with torch.no_grad():
            matrices = self.colours.matrices(residuals, x.detach())
        inverses = [Inverse(J, self._solver) for J in matrices]
        return lambda b: torch.stack([inverse(row) for inverse, row in zip(inverses, b)])

    def _solver(self, J: Any) -> Any:
        name, tol = self.problem.method.name, float(self.problem.method.options.get("tol") or 1e-10)
        if name == "cg":
            return sparse.conjugate_gradients(J, tol * 1e-2)
        if name == "multigrid":
            if self.grid.mesh:
                raise SettingError(
                    "`multigrid` is for evenly spaced points", help="use `cg(tol=…)` or `direct()`"
                )
            if len(self.components) > 1:
                raise SettingError("`multigrid` solves for one field", help="use `newton` or `direct()`")
            return sparse.multigrid(J, self.grid, self.components[0], tol * 1e-2)
        return sparse.direct(J)


def solve_steady(problem: Problem) -> Solution:
    """A root near the states' first guesses, at the start of the span. Raises `SettingError` for a model with
    rates, `SolveFailure` when the iteration does not converge.

    The derivative is the implicit function theorem's."""
    model, method, solver = problem.model, problem.method, problem.method.solver
    moving = [s.name for s in model.STATES if not s.algebraic]
    if moving:
        raise SettingError(
            f"`{method.name}` solves equations `0 = …`, and `{moving[0]}` of `{model.NAME}` has a rate"
        )
    assert isinstance(solver, StepSolver)
    F = Residual(problem)
    linear, energy = solver.KIND == "linear", solver.KIND == "energy"
    with torch.no_grad():
        x = problem.x0.contiguous()
        if linear:
            A, right = F.system(x, method.name)
            most = MOST * max(1, problem.size // 100)
            found = iterate(solver, A, x, most, settles=bool(model.GRIDS), b=right)
        elif energy:
            E = Energy(problem, F)
            found = iterate(solver, E, E.start(x), MOST, laplacian=E.laplacian, weights=E.weights)
        else:
            found = iterate(solver, F, x, MOST, settles=bool(model.GRIDS))
    if not bool(found.done.all()):
        raise not_converged(problem, F, found)
    x = found.x
    if problem.taped:
        x = rooted(F, x, F.inverse.at(x) if F.inverse is not None else dense_inverse(F, x))
    b = problem.count
    saved = Saved(np.full((b, 1), problem.t0), np.ones((b, 1), dtype=bool), {"x": x[:, None]})
    steps = found.steps
    counts = (
        [steps, torch.zeros_like(steps), steps] if problem.ensemble else [int(steps[0]), 0, int(steps[0])]
    )
    nothing = x.new_empty((b, 0) if problem.ensemble else (0,))
    return Solution(
        problem,
        saved,
        {"x": x},
        np.full(b, problem.t0),
        Stats(*counts),
        Steps(lambda: (nothing, nothing), lambda: nothing),
        Events(nothing, nothing.to(torch.int64)),
    )


def dense_inverse(F: Residual, x: Tensor) -> Callable[[Tensor], Tensor]:
    """r -> J(x)^-1 r."""
    with torch.no_grad():
        J = jacobian(F, x)
    return lambda r: solve(J, r)


def _without_level(problem: Problem, F: Residual, x: Tensor) -> str | None:
    """A field whose residuals do not feel a constant that is added to it."""
    if not problem.model.GRIDS:
        return None
    with torch.no_grad():
        r = F(x)
        for s in problem.model.STATES:
            moved = x.clone()
            moved[..., s.places] += 1
            if bool((F(moved) - r).abs().amax() <= 1e-8 * r.abs().amax()):
                return s.name
    return None


def not_converged(problem: Problem, F: Residual, found: Iterated) -> SolveFailure:
    """Which equation is farthest from holding, of the first member that came to no end."""
    member, name = int((~found.done).nonzero()[0]), problem.method.name
    with torch.no_grad():
        x = found.x.detach()
        r = F(x)[member]
    size = torch.where(torch.isfinite(r), r.abs(), torch.inf)
    place = int(size.argmax())
    state = problem.state_name(place)
    much = f"the residual of `{state}` is {float(r[place]):.3g}, the norm of all {float(r.norm()):.3g}"
    why = f"`{name}` did not converge in {int(found.steps[member])} iterations: {much}"
    advice = "start nearer to a solution"
    if found.stuck is not None and bool(found.stuck[member]):
        why = f"`{name}` finds no move, however short, that makes the residual smaller: {much}"
        advice = "there may be no solution near: start elsewhere, or change a parameter in steps"
        level = _without_level(problem, F, x)
        if level is not None:
            why = f"a constant can be added to `{level}`: no condition says at which level it is"
            advice = (
                f"give `{level}` a value on a part of the boundary, or take `lap^-1 @ f`, whose mean is 0"
            )
    elif not bool(torch.isfinite(r).all()):
        advice = "start nearer to a solution, or leave `damped` at true"
    elif name != "newton":
        advice += ", or use `newton`"
    return SolveFailure(
        "newton",
        model=problem.model.NAME,
        time=problem.t0,
        member=member if problem.ensemble else None,
        state=state,
        values={state: float(x[member, place])},
        detail=why,
        advice=advice,
    )
