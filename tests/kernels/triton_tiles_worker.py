"""Runs kernels under Triton's interpreter by several tiles, and solves by Triton, torch and the CPU.

`python triton_tiles_worker.py FOLDER` writes `tiles.npz` (`CASE/BLOCK/BUFFER`), `clock.npz` (what the queue
does) and `solves.npz` (`NAME/BACKEND/K`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from ensembles import lorenz
from ndl.compiler.backends.triton import print_module
from ndl.runtime.kernels.tiles import Tile
from ndl.runtime.kernels.triton_engine import TritonKernel
from test_taylor_kernel import SOURCE
from triton_cases import Case, clock, collatz, fibonacci, nested
from triton_cases import lorenz as lorenz_kernel

import ndl
from ndl.host import kernels

BLOCKS = (2, 16, 64)
CASES = {
    "collatz": collatz("f64"),
    "nested": nested("f32"),
    "fibonacci": fibonacci("f64"),
    "lorenz": lorenz_kernel("f64"),
}
SOLVES = {
    "tsit5": ("tsit5(rtol=1e-3)", "cpu", True),
    "rk4": ("rk4(h=0.05)", "cpu", True),
    "rosenbrock23": ("rosenbrock23(rtol=1e-3)", "cpu", False),
    "taylor": ("taylor(order=4, rtol=1e-5)", "torch", True),
}
"""The method, what Triton is compared with, and whether gradients are."""


def left(text: str, case: Case, block: int) -> dict[str, np.ndarray]:
    """The buffers after a run."""
    buffers = {k: torch.from_numpy(v.copy()) for k, v in case.buffers.items()}
    TritonKernel(text).run(case.count, buffers, Tile(block, 1))
    return {k: v.numpy() for k, v in buffers.items()}


def tiles() -> dict[str, np.ndarray]:
    found = {}
    for name, case in CASES.items():
        for parked, limits in (("", {}), ("-parked", {"limit": 0, "room": 4})):
            text = print_module(case.kernel, **limits)
            for block in BLOCKS:
                after = left(text, case, block)
                found |= {f"{name}{parked}/{block}/{k}": v for k, v in after.items()}
    return found


def queue(programs: int, block: int) -> dict[str, np.ndarray]:
    """What the clock shows when each trajectory ends, in a persistent grid of so many programs."""
    case = clock()
    buffers = {k: torch.from_numpy(v.copy()) for k, v in case.buffers.items()}
    kernel = TritonKernel(print_module(case.kernel))
    kernel.module.launch(case.count, *buffers.values(), programs=programs, BLOCK=block)
    return {k: v.numpy() for k, v in buffers.items()}


def solves() -> dict[str, np.ndarray]:
    """Values, counts of steps and gradients by two backends; Triton's threads have little room."""
    kernels.triton_text = lambda kernel, tf32: print_module(kernel, limit=0, room=20)
    program, found = ndl.loads(SOURCE), {}
    for name, (method, other, graded) in SOLVES.items():
        for backend in ("triton", other):
            model, leaves = lorenz(program, graded)
            s = ndl.solve(
                model, span=(0, 0.1), method=method, save="every 0.04", backend=backend,
                gradient="discrete" if graded else "none",
            )  # fmt: skip
            values = [s[k].values for k in s.names()]
            got = [torch.stack(values).detach(), s.stats.steps, s.stats.rejected]
            if graded:
                got += torch.autograd.grad(sum((v**2).sum() for v in values), leaves)
            found |= {f"{name}/{backend}/{k}": np.asarray(v) for k, v in enumerate(got)}
    return found


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    np.savez(folder / "tiles.npz", **tiles())
    np.savez(folder / "clock.npz", **queue(1, 2))
    np.savez(folder / "solves.npz", **solves())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
