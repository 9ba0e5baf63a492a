"""Whole solves of equations with delays by kernels, each trajectory with its own past."""

from __future__ import annotations

import numpy as np
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource
from ndl.runtime.kernels.tables import reals
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.delays import Delays, delaying
from ndl.runtime.stepping.stepper import Stepper


class DelayedRun(KernelRun):
    """One run: steps end where the jump of a derivative at the start comes back. Raises `SettingError` for
    runs that have no past."""

    def __init__(
        self, problem: Problem, stepper: Stepper, source: KernelSource, target: str, watch: bool = True
    ) -> None:
        bound = delaying(problem, stepper)
        super().__init__(bound, stepper, source, target, True)
        times = Delays(bound, stepper).times
        longest = max(map(len, times))
        rows = np.full((longest + 1, problem.count), np.inf)
        for member, found in enumerate(times):
            rows[: len(found), member] = found
        self.tables["echoes"] = reals(rows, self.like)
