"""Whole solves of differential-algebraic equations by kernels, which start from consistent values."""

from __future__ import annotations

import torch
from ndl.runtime.kernels.found import Found
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.consistent import tied
from ndl.runtime.stepping.stepper import Stepper
from torch import Tensor


class TiedRun(KernelRun):
    """One run. The consistent start is torch's, by Newton's iteration with the derivative of the implicit
    function theorem; from there on steps keep the equations. Raises `SolveFailure` where there is none."""

    def __init__(
        self, problem: Problem, stepper: Stepper, source: KernelSource, target: str, watch: bool = False
    ) -> None:
        with torch.set_grad_enabled(problem.taped):
            t = problem.x0.new_full((problem.count,), problem.t0)
            x0, self.begun = tied(problem, problem.model, problem.x0, t)
        super().__init__(problem.on(x0=x0), stepper, source, target, watch)

    def forward(self, x0: Tensor, values: list[Tensor]) -> Found:
        found = super().forward(x0, values)
        found.report[2] += torch.from_numpy(self.begun).to(found.report)
        return found
