"""Running a printed kernel where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ndl.runtime.kernels import cpu_engine
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.triton_engine import TritonKernel
from torch import Tensor


def launch(program: Program, buffers: Mapping[str, Tensor], count: int) -> None:
    """Run `count` trajectories on buffers by name."""
    if program.target == "triton":
        _triton(program.text).run(count, buffers)
    else:
        cpu_engine.load(program).run(dict(buffers), count)


@cache
def _triton(text: str) -> TritonKernel:
    return TritonKernel(text)
