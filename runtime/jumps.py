"""Times of the jumps of Poisson processes: sums of exponential gaps, functions of (seed, stream, member).

The jumps are those of a process of rate 1 on a clock that runs at the rate, so that neither steps nor the
length of the run change them, and a little more rate moves each a little earlier.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from ndl.runtime.draws import draw
from ndl.runtime.errors import SettingError
from ndl.runtime.problem import Floats, Ints, Problem


class JumpTimes:
    """The jumps of one process for all members of a run, made as far as the run goes."""

    def __init__(self, problem: Problem, stream: str, period: Floats) -> None:
        if problem.sign < 0:
            raise SettingError("an equation with noise cannot be run backwards")
        if not (period > 0).all():
            raise SettingError(f"the rate of the noise `{stream}` is not above 0")
        self.t0, self.period = problem.t0, period
        self.seed, self.count = problem.seed, problem.count
        self.stream = int.from_bytes(hashlib.sha256(f"jumps {stream}".encode()).digest()[:4], "big")
        most = float((abs(problem.t1 - problem.t0) / period).max())
        self.clock = np.empty((self.count, 0))
        while not self.clock.shape[1] or self.clock[:, -1].min() <= most:
            self._extend(math.ceil(most + 8 * math.sqrt(most)) + 16)

    def _extend(self, size: int) -> None:
        """Make `size` more gaps for every member."""
        member = torch.arange(self.count)[:, None]
        turn = torch.arange(size)[None, :] + self.clock.shape[1]
        gaps = draw("exponential", (), 1.0, seed=self.seed, stream=self.stream, sample=member, turn=turn)
        last = self.clock[:, -1:] if self.clock.shape[1] else np.zeros((self.count, 1))
        self.clock = np.concatenate([self.clock, last + np.cumsum(gaps.numpy(), axis=1)], axis=1)

    def times(self) -> Floats:
        """All jumps `[B, K]` that are made."""
        found: Floats = self.t0 + self.clock * self.period[:, None]
        return found

    def at(self, ids: Ints, done: Ints) -> Floats:
        """The next jump `[b]` of the members `ids`, of which `done` have been."""
        place = np.minimum(done, self.clock.shape[1] - 1)
        found: Floats = self.t0 + self.clock[ids, place] * self.period[ids]
        return found
