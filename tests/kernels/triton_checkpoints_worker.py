"""Gradients by checkpoints from Triton kernels, interpreted.

`python triton_checkpoints_worker.py FILE` writes values and gradients, `NAME/BACKEND/K`.
"""

from __future__ import annotations

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from test_checkpoints import SOURCE, run

import ndl

PLAN = (("Node", "rk4(steps=4)"), ("Node", "bosh3(rtol=3e-3)"), ("Scalar", "milstein(steps=4)"))
"""The interpreter takes its time: few steps."""


def main(file: str) -> None:
    torch.set_num_threads(1)
    program, found = ndl.loads(SOURCE), {}
    for name, method in PLAN:
        for backend, gradient in (("triton", "checkpoint(2)"), ("cpu", "discrete")):
            s, grads = run(program, name, method, gradient, backend=backend, count=16, save="every 0.5")
            for k, v in enumerate([s.x.values.detach(), *grads]):
                found[f"{name} by {method}/{backend}/{k}"] = v.numpy()
    np.savez(file, **found)


if __name__ == "__main__":
    main(sys.argv[1])
