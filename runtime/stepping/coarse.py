"""Logarithms and powers to three digits, for step sizes.

A step's size needs no more, kernels take them in a fifth of the instructions of the exact functions, and both
are continuous and made of exact operations and a cubic, so that a step's size is the same wherever it is
computed, but for rounding.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]

LOG2 = (1.4228653753659204, -0.5820855645527687, 0.15922018918684828)
"""log2(1 + m) ~ m (a + m (b + m c)) on 0..1: the least largest error (8.8e-4) with a + b + c = 1."""

EXP2 = (0.9999280778506029, 0.6932609373184284, 0.24261113093780257, 0.05517187895310009)
"""2^f on -1/2..1/2: the least largest relative error (7.5e-5) of a cubic that doubles from end to end."""


def log2_coarse(x: Floats) -> Floats:
    """log2 of an array of normal x > 0, error below 9e-4."""
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    exponent = (bits >> 52) - 1023
    m = ((bits & ((1 << 52) - 1)) | (1023 << 52)).view(np.float64) - 1.0
    a, b, c = LOG2
    found: Floats = exponent + m * (a + m * (b + m * c))
    return found


def exp2_coarse(x: Floats) -> Floats:
    """2^x where that is a normal number, relative error below 8e-5."""
    n = np.rint(x)
    f = x - n
    a, b, c, d = EXP2
    found: Floats = np.ldexp(a + f * (b + f * (c + f * d)), n.astype(np.int32))
    return found


def coarse_power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """x^exponent of normal numbers x > 0; of 0 the limit, nan of what is infinite or below 0."""
    half, whole = torch.frexp(x)
    m = 2 * half - 1
    a, b, c = LOG2
    log = whole - 1 + m * (a + m * (b + m * c))
    log = torch.where(x > 0, log, torch.where(x == 0, -math.inf, math.nan)) + (x - x)
    least = math.log2(torch.finfo(x.dtype).tiny)
    y = (exponent * log).clamp(least, 1 - least)
    n = y.round()
    f, (a, b, c, d) = y - n, EXP2
    return torch.ldexp(a + f * (b + f * (c + f * d)), n)
