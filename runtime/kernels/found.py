"""What a run by a kernel leaves, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

from ndl.runtime.kernels.lease import Lease
from ndl.runtime.kernels.stretches import Way
from torch import Tensor


class NoKernel(Exception):
    """Why a run goes by torch."""


@dataclass
class Found:
    """What a run leaves: `saved [B, S, n]`, `last [B, n]`, counts `[B]`; with a tape, the accepted steps and
    what it keeps of them (in memory that may be `lent`, as long as this object lives), `kept` arrays of nets
    among that, which stand attempt by attempt where each trajectory has steps of its own (`turns` of them at
    most); where each trajectory goes at its own time, its last time and step `ended [2, B]` and its
    events."""

    last: Tensor
    saved: Tensor
    report: Tensor
    tape: dict[str, Tensor]
    lent: Lease | None = None
    kept: Lease | None = None
    ended: Tensor | None = None
    events: dict[str, Tensor] = field(default_factory=dict)
    way: Way | None = None
    turns: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    """The tables of weights that the run read; its derivative is by the same values."""
