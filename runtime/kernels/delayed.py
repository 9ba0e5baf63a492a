"""Whole solves of equations with delays by kernels, each trajectory with its own past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource
from ndl.runtime.kernels.sde import NoisyRun
from ndl.runtime.kernels.tables import reals
from ndl.runtime.problem import Floats, Ints, Problem
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

        def echoes(member: int) -> tuple[Floats, Ints, Ints]:
            spans, counts = delays.parts(member)
            since = delays.times[member] - bound.t0
            near = np.abs(spans[None] - since[:, None]).argmin(1) if len(spans) else slice(None)
            return spans, counts, counts[near]

        spans, counts, starts = zip(*delays.for_each(echoes), strict=True)
        self.tables["echo_lags"] = reals(_columns(spans), self.like)
        self.tables["start_counts"] = reals(_rows(starts), self.like)
        self.tables["echo_counts"] = reals(_rows(counts), self.like)


class DelayedNoisyRun(NoisyRun, DelayedRun):
    """The same under noise."""


def _columns(times: Sequence[Floats]) -> Floats:
    """Times of each member, one that never comes after them."""
    rows = np.full((max(map(len, times)) + 1, len(times)), np.inf)
    for member, found in enumerate(times):
        rows[: len(found), member] = found
    return rows


def _rows(counts: Sequence[Ints]) -> Floats:
    """How many of each delay `[J, D]` a time is made of, of each member, one column for each."""
    most = max(map(len, counts)) + 1
    rows = np.zeros((most * counts[0].shape[1], len(counts)))
    for member, found in enumerate(counts):
        rows[: found.size, member] = found.reshape(-1)
    return rows
