"""Mini-batches whose order is a pure function of (seed, epoch): a resumed run needs only its step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from ndl.runtime.errors import SettingError
from torch import Tensor

MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Batch:
    """What a loss is told of its step. `index` [batch] selects samples; None is all of them.

    `step` counts from 0 over the whole run of `total` steps; `training` is False in validation; `phase` is
    the number of the phase; `other` says that the samples are those of other data, to validate on.
    """

    step: int
    total: int
    epoch: int = 0
    index: Tensor | None = None
    training: bool = True
    phase: int = 0
    other: bool = False


@dataclass(frozen=True)
class Batches:
    """The batches of a stretch of training: `chosen` [samples] are shuffled anew for each epoch."""

    chosen: Tensor | None
    size: int | None
    seed: int
    portion: int | None = None
    """Samples that are read together: portions are shuffled, and samples within each."""

    def __post_init__(self) -> None:
        if self.size is not None and self.chosen is None:
            raise SettingError(
                "`batch` is given, but the data is a single sample",
                help="leave `batch` out, or give data with an axis of samples",
            )

    @property
    def count(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        if self.chosen is None or self.size is None:
            return 1
        return math.ceil(len(self.chosen) / self.size)

    def at(self, step: int) -> tuple[int, Tensor | None]:
        """Epoch and sample indices of a step, which counts from the stretch's start."""
        if self.chosen is None or self.size is None:
            return step, self.chosen
        epoch, turn = divmod(step, self.count)
        order = permutation(len(self.chosen), self.seed, epoch)
        if self.portion is not None:
            order = by_portion(order, self.chosen[order] // self.portion, self.seed, epoch)
        return epoch, self.chosen[order[turn * self.size : (turn + 1) * self.size]]


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """A random order of range(n) that belongs to (seed, epoch), on the CPU."""
    generator = torch.Generator().manual_seed((seed * MIX + epoch * 2654435761 + 1) % 2**63)
    return torch.randperm(n, generator=generator)


def by_portion(order: Tensor, portions: Tensor, seed: int, epoch: int) -> Tensor:
    """The same order with the samples of a portion one after the other, portions in an order of their own;
    `portions` numbers those of the samples in `order`."""
    if not len(portions):
        return order
    rank = permutation(int(portions.max()) + 1, seed + 1, epoch)
    return order[torch.argsort(rank[portions], stable=True)]


def split(samples: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to train on and to hold out, both increasing; at least one of each."""
    if samples < 2:
        raise SettingError(
            f"`validate` holds out samples, but the data has {samples}",
            help="give data with several samples, or a table of its own to validate on",
        )
    out = min(max(1, round(samples * fraction)), samples - 1)
    order = permutation(samples, seed, -1)
    return order[out:].sort().values, order[:out].sort().values


def chunks(index: Tensor | None, size: int | None) -> list[Tensor | None]:
    """Samples in their order, cut into batches; everything at once without an index or a size."""
    if index is None or size is None:
        return [index]
    return list(torch.split(index, size))
