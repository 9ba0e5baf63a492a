"""Averages of the weights along a training: exponential (EMA) and stochastic weight averaging (SWA).

    ema(d)      a <- d*a + (1 - d)*w after each step; a starts as the weights after the first step
    swa(s)      the plain mean of the weights at the ends of the epochs of the last 1 - s of the run
                (Izmailov and others, 2018, arXiv:1803.05407, algorithm 1)

The averages are of what the optimiser moves: of a constrained parameter, its unconstrained image. The memory
of nets (running statistics) is not averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from ndl.runtime.errors import SettingError
from torch import Tensor


@dataclass(frozen=True)
class AveragePlan:
    """`kind` is `ema` with its `decay`, or `swa` that begins at the share `start` of the run."""

    kind: str = "ema"
    decay: float = 0.999
    start: float = 0.75

    def __post_init__(self) -> None:
        if self.kind not in ("ema", "swa"):
            raise SettingError(
                f"there is no average `{self.kind}`", code="NDL534", help="averages are `ema` and `swa`"
            )
        if not 0 <= self.decay < 1:
            raise SettingError(
                f"the decay of the `average` by `ema` is {self.decay:g}; it is at least 0 and below 1",
                code="NDL534",
                help="write `average = ema(0.999)`",
            )
        if not 0 <= self.start < 1:
            raise SettingError(
                f"the `average` by `swa` starts at the share {self.start:g}; it is at least 0 and below 1",
                code="NDL534",
                help="write `average = swa(start=0.75)`",
            )


@dataclass
class Average:
    """The average so far of `parameters` (leaves by name); `count` sets of weights are in it."""

    plan: AveragePlan
    parameters: Mapping[str, Tensor]
    weights: dict[str, Tensor] = field(default_factory=dict)
    count: int = 0

    def update(self, step: int, total: int, epoch_ends: bool) -> None:
        """After step number `step` (from 1) of `total`."""
        if self.plan.kind == "swa" and (not epoch_ends or step <= self.plan.start * total):
            return
        if not self.count:
            self.weights = {n: p.detach().clone() for n, p in self.parameters.items()}
        share = 1 - self.plan.decay if self.plan.kind == "ema" else 1 / (self.count + 1)
        for name, a in self.weights.items():
            if a.is_floating_point() or a.is_complex():
                a.lerp_(self.parameters[name].detach(), share)
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters are the average inside of it, where there is one yet."""
        if not self.count:
            yield
            return
        own = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.put(self.weights)
        try:
            yield
        finally:
            self.put(own)

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Set the parameters."""
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)
