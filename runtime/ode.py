"""The driver of ordinary and differential-algebraic equations: which gradient route runs the loop."""

from __future__ import annotations

import torch
from ndl.runtime.problem import Problem
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.delays import delaying
from ndl.runtime.stepping.drawn import drawing
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import solution_of
from ndl.runtime.stepping.fixed import FixedRun, plain
from ndl.runtime.stepping.loop import Loop


def solve_ode(problem: Problem) -> Solution:
    """Solve by the problem's method and gradient route."""
    stepper = stepper_of(problem)
    problem = delaying(problem, stepper)
    stepper = drawing(problem, stepper)
    if problem.gradient in ("none", "discrete") and plain(problem, stepper):
        assert isinstance(stepper, ExplicitRK)
        with torch.set_grad_enabled(problem.taped):
            return FixedRun(problem, stepper).solve()
    if problem.taped:
        from ndl.runtime.gradients import solve_with_gradient

        return solve_with_gradient(problem, stepper)
    with torch.no_grad():
        outcome = Loop(problem, stepper, keep=problem.save.kind != "end").run()
        return solution_of(problem, stepper, outcome)
