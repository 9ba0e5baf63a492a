"""Running a printed kernel where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

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


@cache
def _triton(text: str) -> TritonKernel:
    return TritonKernel(text)
