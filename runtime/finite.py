"""Whether numbers are numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def all_finite(x: Tensor) -> bool:
    """Whether no entry is infinite or NaN. The sum says so in one pass, but where it is beyond what a number
    can be."""
    x = x.detach()
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
