"""Runs of some cells of the matrix under Triton's interpreter.

`python triton_agreement_worker.py FOLDER` writes `agreement.npz` (`SOLVER PROBLEM K`: values, gradients).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from agreement import SOURCE, Ran, method_of
from test_agreement_interpreted import INTERPRETED, gradient_of

import ndl


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    program, found = ndl.loads(SOURCE), {}
    for kind, solver, problem in INTERPRETED:
        ran = Ran(program, problem, method_of(kind, solver, "h=0.5"), "triton", gradient_of(solver))
        for k, part in enumerate((ran.values, *ran.grads)):
            found[f"{solver} {problem} {k}"] = part.numpy()
    np.savez(folder / "agreement.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
