"""Runs kernels with views under Triton's interpreter.

`python triton_views_worker.py FOLDER` writes `views.npz`, what each leaves in `out`, by NAME/PRECISION.
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
from test_views import COUNT, VIEWS, buffers, kernel


def left(name: str, precision: str) -> np.ndarray:
    given = {k: torch.from_numpy(v) for k, v in buffers(name, precision).items()}
    TritonKernel(print_module(fuse(kernel(name, precision)))).run(COUNT, given)
    return given["out"].numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {f"{name}/{p}": left(name, p) for name in VIEWS for p in ("f64", "f32")}
    np.savez(Path(sys.argv[1]) / "views.npz", **found)
