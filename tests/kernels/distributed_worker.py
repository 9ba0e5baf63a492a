"""One of two processes that train together."""

from __future__ import annotations

from pathlib import Path

import torch
from test_drop_in import SOURCE, Layer, batch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import ndl


def train(rank: int, folder: Path) -> None:
    """Writes the gradients after a step to `RANK.pt`."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "meet"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    layer = Layer(ndl.loads(SOURCE))
    together = DistributedDataParallel(layer)  # which must live until the gradients are there
    together(batch().chunk(2)[rank]).square().mean().backward()
    grads = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    torch.save(grads, folder / f"{rank}.pt")
    # a process that leaves cuts off what the other still reads of it
    store.set(f"done {rank}", "")
    store.wait([f"done {1 - rank}"])
    distributed.destroy_process_group()
