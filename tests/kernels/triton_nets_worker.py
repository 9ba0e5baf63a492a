"""Runs kernels with arrays under Triton's interpreter, and solves with nets by two backends.

`python triton_nets_worker.py FOLDER` writes `arrays.npz` (what kernels leave) and `nets.npz` (values and
gradients, `NAME/BACKEND/K`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from ndl.compiler.backends.triton import print_module
from ndl.compiler.kernels.fuse import fuse
from ndl.runtime.kernels.triton_engine import TritonKernel
from test_arrays import buffers, kernel
from test_convolution_kernels import SOURCE as CONVOLVED
from test_convolution_kernels import run as convolved
from test_nets import MIXED, PLAIN, run, start

import ndl

SHAPES = ((1, 1), (5, 3), (13, 17))
COUNT = 37
"""Three tiles for two programs."""

PLAN = {"plain": ("rk4(steps=2)", "dopri5(rtol=1e-3)"), "mixed": ("rk4(steps=2)",)}
"""The interpreter takes its time: few steps."""


def arrays_of(rows: int, columns: int, even: bool, precision: str) -> dict[str, np.ndarray]:
    """The buffers after a run."""
    given = {k: torch.from_numpy(v) for k, v in buffers(rows, columns, COUNT, precision).items()}
    given["grad"] = torch.zeros(2, given["grad"].numel(), dtype=given["grad"].dtype)
    TritonKernel(print_module(fuse(kernel(rows, columns, precision, even)))).run(COUNT, given)
    return {"out": given["out"].numpy(), "grad": given["grad"].sum(0).numpy()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, np.ndarray] = {}
    for rows, columns in SHAPES:
        for even in (True, False):
            for precision in ("f64", "f32"):
                left = arrays_of(rows, columns, even, precision)
                found |= {f"{rows}-{columns}-{even}-{precision}-{k}": v for k, v in left.items()}
    np.savez(folder / "arrays.npz", **found)
    found = {}
    for name, model, size in (
        ("plain", ndl.loads(PLAIN.format(width=24, act="tanh")).Node(), 8),
        ("mixed", ndl.loads(MIXED).Mixed(), 3),
    ):
        for method in PLAN[name]:
            for backend in ("triton", "cpu"):
                for k, v in enumerate(run(model, start(16, size), backend, method)):
                    found[f"{name} by {method}/{backend}/{k}"] = v.numpy()
    model, method = ndl.loads(CONVOLVED).OnPlane(seed=1), "midpoint(steps=1)"
    for backend in ("triton", "cpu"):
        for k, v in enumerate(convolved(model, backend, method)):
            found[f"convolved by {method}/{backend}/{k}"] = v.numpy()
    np.savez(folder / "nets.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
