"""Whole solves of equations with delays by kernels, each trajectory with its own past."""

from __future__ import annotations

import numpy as np
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource
from ndl.runtime.kernels.sde import NoisyRun
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
        found = Delays(bound, stepper).echoes
        spans = np.pad(found.spans, ((0, 1), (0, 0)), constant_values=np.inf)
        self.tables["echo_lags"] = reals(spans, self.like)
        self.tables["echoes"] = reals(problem.t0 + spans, self.like)
        # a row of each delay for each time
        counts = np.pad(found.counts, ((0, 1), (0, 0), (0, 0)))
        rows = counts.transpose(0, 2, 1).reshape(-1, problem.count).astype(np.float64)
        self.tables["echo_counts"] = reals(rows, self.like)


class DelayedNoisyRun(NoisyRun, DelayedRun):
    """The same under noise."""
