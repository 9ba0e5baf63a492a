"""Running a printed kernel where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from ndl.runtime.kernels import cpu_engine
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.triton_engine import TritonKernel
from torch import Tensor

PROGRAMS = 1024
"""Programs of a Triton kernel that have sums of their own, at the most."""


def launch(program: Program, buffers: Mapping[str, Tensor], count: int) -> None:
    """Run `count` trajectories on buffers by name."""
    if program.target == "triton":
        _triton(program.text).run(count, buffers)
    else:
        cpu_engine.load(program).run(dict(buffers), count)


def portions(program: Program, count: int, rows: int) -> int:
    """How many portions of the trajectories have sums of `rows` rows of their own."""
    if program.target == "triton":
        return max(1, min(PROGRAMS, -(-count // 16), cpu_engine.ROOM // max(rows, 1)))
    return len(cpu_engine.portions_of(count, program.lanes, rows))


# By NumPy: torch would share so small a work among threads, which wait long for each other on a busy machine.


def zeros(many: int, rows: int, like: Tensor) -> Tensor:
    """Room `[many, rows]` for the sums of portions."""
    if like.device.type != "cpu":
        return like.new_zeros(many, rows)
    return torch.from_numpy(np.zeros((many, rows), like.numpy().dtype))


def summed(sums: Tensor) -> Tensor:
    """The sums `[rows]` of all portions."""
    return sums.sum(0) if sums.device.type != "cpu" else torch.from_numpy(sums.numpy().sum(0))


@cache
def _triton(text: str) -> TritonKernel:
    return TritonKernel(text)
