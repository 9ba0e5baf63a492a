"""What a kernel is told of chance: the keys of draws for each step or firing, the times of Poisson jumps."""

from __future__ import annotations

import numpy as np
import torch
from ndl.runtime.draws import DOMAIN, Chance, stream_of
from ndl.runtime.jumps import JumpTimes
from ndl.runtime.kernels.tables import reals
from ndl.runtime.philox import subkey
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.control import host
from torch import Tensor


def chances(problem: Problem, like: Tensor) -> dict[str, Tensor]:
    """The tables of `ndl.compiler.kernels.draws`, and of each Poisson event k its times `moments_k [K, B]`,
    of which the last ones are beyond the end of the run."""
    model, found = problem.model, {}
    moving = [d for d in model.DRAWS if d.per in ("step", "firing")]
    if moving:
        chance: Chance = model._given.get("chance", Chance())
        words = [w for d in moving for w in subkey(chance.seed, stream_of(d), DOMAIN)]
        numbers = np.array([*map(int, words), chance.first, chance.step], dtype=np.int64) & 0xFFFFFFFF
        found["draw_keys"] = torch.from_numpy(numbers.astype(np.uint32).view(np.int32).copy()).to(like.device)
    for k, event in enumerate(model.EVENTS):
        if event.kind == "poisson":
            value = host(model.period(k).to(torch.float64))
            period = np.broadcast_to(np.abs(value), (problem.count,))
            times = JumpTimes(problem, event.column or "", period).times()
            found[f"moments_{k}"] = reals(times.T.copy(), like)
    return found
