"""Runs printed kernels under Triton's interpreter, which a process must choose before it imports Triton.

`python triton_worker.py FOLDER`: for every `NAME.npz` (the buffers, `count`, `block`) run `NAME.py` and write
the buffers afterwards to `out/NAME.npz`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from ndl.runtime.kernels.tiles import Tile
from ndl.runtime.kernels.triton_engine import TritonKernel


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    (folder / "out").mkdir()
    for file in sorted(folder.glob("*.npz")):
        given = dict(np.load(file))
        count, block = int(given.pop("count")), int(given.pop("block"))
        buffers = {name: torch.from_numpy(values) for name, values in given.items()}
        TritonKernel(file.with_suffix(".py").read_text()).run(count, buffers, Tile(block, 1))
        np.savez(folder / "out" / file.name, **{name: b.numpy() for name, b in buffers.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
