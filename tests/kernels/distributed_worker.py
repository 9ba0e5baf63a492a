"""One of two processes that train together: `python distributed_worker.py FOLDER RANK` writes the gradients
after a step to `RANK.pt`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from test_drop_in import SOURCE, Layer, batch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import ndl


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    layer = Layer(ndl.loads(SOURCE))
    together = DistributedDataParallel(layer)  # which must live until the gradients are there
    together(batch().chunk(2)[rank]).square().mean().backward()
    grads = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    torch.save(grads, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
