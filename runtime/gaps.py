"""Series with missing values: each channel's gaps are filled before a path goes through them.

Missing entries are nan. A channel's values before its first and after its last entry are these entries; a
channel without any entry is 0 throughout. `xs` is [members, k, *shape] with k times, as `ts` [k]; the results
are differentiable by what is there.
"""

from __future__ import annotations

import torch
from torch import Tensor


def held(xs: Tensor) -> Tensor:
    """Each gap filled with the last entry before it."""
    last, first = _neighbours(~torch.isnan(xs))
    before = last >= 0
    return torch.where(before, _taken(xs, last), _or_zero(_taken(xs, first)))


def straight(ts: Tensor, xs: Tensor) -> Tensor:
    """Each gap filled by the straight line between the entries beside it."""
    last, first = _neighbours(~torch.isnan(xs))
    count = xs.shape[1]
    left, right = _or_zero(_taken(xs, last)), _or_zero(_taken(xs, first))
    time = ts.reshape(1, -1, *(1,) * (xs.ndim - 2)).expand(xs.shape)
    t0, t1 = (torch.gather(time, 1, i.clamp(0, count - 1)) for i in (last, first))
    width = torch.where(t1 > t0, t1 - t0, 1.0)
    line = left + (time - t0) / width * (right - left)
    return torch.where(last < 0, right, torch.where(first >= count, left, line))


def _neighbours(there: Tensor) -> tuple[Tensor, Tensor]:
    """The index of the last entry up to each time (-1: none) and of the next one from it on (k: none)."""
    count = there.shape[1]
    number = torch.arange(count, device=there.device).reshape(1, -1, *(1,) * (there.ndim - 2))
    last = torch.where(there, number, -1).cummax(1).values
    ahead = torch.where(there, number, count).flip(1).cummin(1).values.flip(1)
    return last, ahead


def _taken(xs: Tensor, index: Tensor) -> Tensor:
    return torch.gather(xs, 1, index.clamp(0, xs.shape[1] - 1))


def _or_zero(x: Tensor) -> Tensor:
    return torch.where(torch.isnan(x), 0.0, x)
