"""The tables that all trajectories of a run share: its times, its tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.stepping.control import Tolerances
from ndl.runtime.stepping.corners import stops_of
from ndl.runtime.stepping.trail import StepTable
from torch import Tensor

LONGEST = float(np.finfo(np.float32).max)
"""A step that is not bounded."""

FEW = 4096
"""Numbers up to which a table is kept for the next run."""


def reals(values: Any, like: Tensor) -> Tensor:
    """Numbers in a run's precision; a table has one row at least."""
    found = torch.as_tensor(values, dtype=torch.float64).to(like.device, like.dtype).contiguous()
    return found if found.numel() else like.new_zeros(1)


def wholes(values: Any, like: Tensor) -> Tensor:
    """Whole numbers."""
    return torch.as_tensor(np.asarray(values), dtype=torch.int32).to(like.device).contiguous()


def shared(values: Sequence[float] | Floats, like: Tensor) -> Tensor:
    """`reals` that nobody may write into: runs with the same few numbers share them."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size > FEW:
        return reals(numbers, like)
    return _shared(numbers.tobytes(), like.dtype, like.device)


@lru_cache(maxsize=128)
def _shared(numbers: bytes, dtype: torch.dtype, device: torch.device) -> Tensor:
    return reals(np.frombuffer(numbers).copy(), torch.empty(0, dtype=dtype, device=device))


@lru_cache(maxsize=128)
def few_wholes(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Few whole numbers that nobody may write into: runs share them."""
    return torch.tensor(values, dtype=torch.int32, device=device)


def fixed_tables(p: Problem, table: StepTable, times: Floats, like: Tensor) -> dict[str, Tensor]:
    """Those of fixed steps (`ndl.compiler.kernels.ode_fixed`), for the saved `times`. Nobody may write into
    them: runs with the same few steps share them."""
    steps = int(table.many[0])
    parts = table.t[:steps], table.end[:steps], table.h[:steps], times
    if steps + len(times) > FEW:
        return _fixed_tables(p.t0, p.sign, *parts, like)
    return {**_few_steps(p.t0, p.sign, *(v.tobytes() for v in parts), like.dtype, like.device)}


@lru_cache(maxsize=64)
def _few_steps(
    t0: float,
    sign: float,
    starts: bytes,
    ends: bytes,
    sizes: bytes,
    times: bytes,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Tensor]:
    t, end, h, saved = (np.frombuffer(v).copy() for v in (starts, ends, sizes, times))
    return _fixed_tables(t0, sign, t, end, h, saved, torch.empty(0, dtype=dtype, device=device))


def _fixed_tables(
    t0: float, sign: float, starts: Floats, ends: Floats, sizes: Floats, times: Floats, like: Tensor
) -> dict[str, Tensor]:
    steps = len(starts)
    until = np.searchsorted(sign * times, sign * np.append(t0, ends), side="right")
    step_of = np.clip(np.searchsorted(until, np.arange(len(times)), side="right") - 1, 0, steps - 1)
    theta = (times - starts[step_of]) / sizes[step_of]
    theta = np.where(times == ends[step_of], 1.0, theta)
    return {
        "times": reals(starts, like),
        "sizes": reals(sizes, like),
        "thetas": reals(theta, like),
        "until": wholes(until, like),
        "counts": wholes([steps, len(times)], like),
    }


def adaptive_tables(
    p: Problem, tol: Tolerances, wide: int, pace: Sequence[float], times: Floats, like: Tensor
) -> dict[str, Tensor]:
    """Those of runs in which each trajectory has its own time (`ndl.compiler.kernels.ode_adaptive`): of
    tolerances `wide` numbers each, of the `pace` the longest step and the first (0: to be chosen)."""
    longest, first = pace
    settings = [p.t0, p.t1, min(longest, LONGEST), first]
    for value in (tol.rtol, tol.atol):
        numbers = value.reshape(-1).tolist() if isinstance(value, Tensor) else [value]
        settings += numbers * wide if len(numbers) == 1 else numbers
    # a last saved time that never comes ends the search for due ones
    never = [*times.tolist(), p.sign * np.inf]
    found = {"settings": shared(settings, like), "times": shared(never, like)}
    if any(i.on_time for i in p.model.INPUTS):
        found["stops"] = shared([*stops_of(p).tolist(), *[p.sign * np.inf] * 2], like)
    return found
