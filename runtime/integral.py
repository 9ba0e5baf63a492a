"""The driver of integral equations of the second kind, Volterra and Fredholm, linear and not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.failures import SolveFailure
from ndl.runtime.integral_operator import IntegralOperator
from ndl.runtime.iteration import Iterated, iterate
from ndl.runtime.methods import StepSolver
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.quadrature import read_rule
from ndl.runtime.recorder import Saved
from ndl.runtime.second_order import rooted
from ndl.runtime.solution import Events, Solution, Stats, Steps
from torch import Tensor

MOST = 500
"""Iterations allowed."""


@dataclass
class NystromInterpolant:
    """y at any time by the equation itself, from the values at the nodes."""

    operator: IntegralOperator
    y: Tensor

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        unique, back = np.unique(t, return_inverse=True)
        values = self.operator.at(unique, self.y)
        return {"x": values[torch.from_numpy(back.reshape(-1)), torch.from_numpy(ids)]}


def solve_integral(problem: Problem) -> Solution:
    """Solve `y(t) = …`. Raises `SettingError` for a method of another kind, `SolveFailure` when the
    iteration does not converge.

    The saved times are the quadrature's nodes in the span (`save = steps`), or those asked for."""
    model, method = problem.model, problem.method
    solver = method.solver
    if not model.INTEGRALS:
        raise SettingError(f"`{method.name}` solves integral equations, and `{model.NAME}` is none")
    if not isinstance(solver, StepSolver) or solver.KIND != "integral":
        raise SettingError(
            f"`{method.name}` does not solve the integral equation `{model.NAME}`",
            help="use `picard(quadrature=trapezoid(400))` or `nystrom(quadrature=gauss(24))`",
        )
    rule = read_rule(method.options.get("quadrature", solver.options.get("quadrature", "gauss(32)")))
    x0 = problem.x0
    operator = IntegralOperator(model, rule, problem.t0, problem.t1, problem.count, x0)
    start = torch.zeros(problem.count, operator.places * problem.size, dtype=x0.dtype, device=x0.device)
    found = equilibrium(problem, solver, operator, start)
    return solution_of(problem, operator, found)


def equilibrium(problem: Problem, solver: StepSolver, operator: IntegralOperator, start: Tensor) -> Iterated:
    """y = K(y). With `gradient = adjoint` the derivative is the implicit function theorem's, else that
    of the iterations done."""
    implicit = problem.gradient == "adjoint"
    with torch.set_grad_enabled(problem.taped and not implicit):
        found = iterate(solver, operator, start, MOST)
    if not bool(found.done.all()):
        member = int((~found.done).nonzero()[0])
        raise SolveFailure(
            "newton",
            model=problem.model.NAME,
            time=problem.t0,
            member=member if problem.ensemble else None,
            detail=f"`{problem.method.name}` did not converge in {int(found.steps[member])} iterations",
            advice="`nystrom` converges for every linear equation that has one solution",
        )
    if not implicit:
        return found
    y = found.x.detach()
    with torch.no_grad():
        unit = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        slope = operator.jacobian(y) - unit
    y = rooted(lambda y: operator(y) - y, y, lambda r: torch.linalg.solve(slope, r[..., None])[..., 0])
    return Iterated(y, found.done, found.steps)


def solution_of(problem: Problem, operator: IntegralOperator, found: Iterated) -> Solution:
    """The solution at the times to be saved."""
    plan, y, b = problem.save, found.x, problem.count
    low, high = sorted((problem.t0, problem.t1))
    if plan.kind == "steps":
        slack = 1e-12 * max(abs(low), abs(high))
        inside = (operator.nodes >= low - slack) & (operator.nodes <= high + slack)
        times = operator.nodes[inside]
        if not len(times):
            raise SettingError("no node of the quadrature lies in the span; give `save` a list of times")
        nodes = y.reshape(b, operator.places, problem.size)[:, torch.from_numpy(np.flatnonzero(inside))]
        values = nodes if problem.sign > 0 else nodes.flip(1)
        times = times if problem.sign > 0 else times[::-1].copy()
    else:
        times = plan.times
        values = operator.at(times, y).transpose(0, 1)
    last = operator.at(np.array([problem.t1]), y)[0]
    shape = (b, len(times))
    saved = Saved(np.broadcast_to(times, shape).copy(), np.ones(shape, dtype=bool), {"x": values})
    steps = found.steps
    counts = (
        [steps, torch.zeros_like(steps), steps] if problem.ensemble else [int(steps[0]), 0, int(steps[0])]
    )
    nothing = values.new_empty((b, 0) if problem.ensemble else (0,))
    return Solution(
        problem,
        saved,
        {"x": last},
        np.full(b, problem.t1),
        Stats(*counts),
        Steps(lambda: (nothing, nothing), lambda: nothing),
        Events(nothing, nothing.to(torch.int64)),
        NystromInterpolant(operator, y),
    )
