"""Gradients by checkpoints from Triton kernels, interpreted.

`python triton_checkpoints_worker.py FOLDER` writes `found.npz`: values and gradients, `NAME/BACKEND/K`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from test_checkpoints import SOURCE, run

import ndl

PLAN = (("Node", "rk4(steps=4)"), ("Node", "bosh3(rtol=3e-3)"), ("Scalar", "milstein(steps=4)"))
"""The interpreter takes its time: few steps."""


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    program, found = ndl.loads(SOURCE), {}
    for name, method in PLAN:
        for backend, gradient in (("triton", "checkpoint(2)"), ("cpu", "discrete")):
            s, grads = run(program, name, method, gradient, backend=backend, count=16, save="every 0.5")
            for k, v in enumerate([s.x.values.detach(), *grads]):
                found[f"{name} by {method}/{backend}/{k}"] = v.numpy()
    np.savez(folder / "found.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
