"""Whole solves of equations with delays by kernels, each trajectory with its own past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource
from ndl.runtime.kernels.tables import reals
from ndl.runtime.problem import Floats, Problem
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
        delays = Delays(bound, stepper)
        self.tables["echoes"] = reals(_columns(delays.times), self.like)
        if problem.model.EVENTS:
            lags = [delays.spans(member) for member in range(problem.count)]
            self.tables["echo_lags"] = reals(_columns(lags), self.like)


def _columns(times: Sequence[Floats]) -> Floats:
    """Times of each member, one that never comes after them."""
    rows = np.full((max(map(len, times)) + 1, len(times)), np.inf)
    for member, found in enumerate(times):
        rows[: len(found), member] = found
    return rows
