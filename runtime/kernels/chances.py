"""What a kernel is told beforehand: the keys of draws for each step or firing, times of jumps and data."""

from __future__ import annotations

import numpy as np
import torch
from ndl.runtime.draws import DOMAIN, Chance, stream_of
from ndl.runtime.events import EventWatch
from ndl.runtime.kernels.tables import reals
from ndl.runtime.philox import subkey
from ndl.runtime.problem import Problem
from torch import Tensor


def chances(problem: Problem, like: Tensor) -> dict[str, Tensor]:
    """The tables of `ndl.compiler.kernels.draws`, and of each event k of a Poisson process or of data its
    times `moments_k [K, B]`, of which the last one is beyond the end of the run."""
    model, found = problem.model, {}
    moving = [d for d in model.DRAWS if d.per in ("step", "firing")]
    if moving:
        chance: Chance = model._given.get("chance", Chance())
        words = [w for d in moving for w in subkey(chance.seed, stream_of(d), DOMAIN)]
        numbers = np.array([*map(int, words), chance.first, chance.step], dtype=np.int64) & 0xFFFFFFFF
        found["draw_keys"] = torch.from_numpy(numbers.astype(np.uint32).view(np.int32).copy()).to(like.device)
    kinds = [e.kind for e in model.EVENTS]
    if {"poisson", "sample"} & set(kinds):
        watch = EventWatch(problem)
        for k, kind in enumerate(kinds):
            if kind in ("poisson", "sample"):
                found[f"moments_{k}"] = reals(watch.given_times(k).T.copy(), like)
    return found
