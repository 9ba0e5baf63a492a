"""Functions of whole tensors in formulas of a training, and their twins for values with missing entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Masks = Sequence[Any]


def entropies(x: Tensor, y: Tensor) -> Tensor:
    """-log of the share of the class y in softmax(x), the classes on the last axis."""
    return x.logsumexp(-1) - x.gather(-1, y.long()[..., None])[..., 0]


def hits(x: Tensor, y: Tensor) -> Tensor:
    """1 where the largest of x is at y."""
    return (x.argmax(-1) == y.long()).to(x.dtype)


def bent(x: Tensor, y: Tensor) -> Tensor:
    """Huber's loss of width 1: half the square of a small gap, |x - y| - 1/2 of a large one."""
    gap = (x - y).abs()
    return torch.where(gap < 1, gap * gap / 2, gap - 0.5)


def quantile(x: Tensor, q: Tensor) -> Tensor:
    """The sorted entries at the place q (n - 1), by a straight line between the two next to it. As
    `torch.quantile`, which has no rule for `vmap`."""
    ordered = torch.sort(x.reshape(-1)).values
    place = q * (ordered.numel() - 1)
    low = place.floor()
    below, above = ordered[low.long()], ordered[place.ceil().long()]
    found = below + (place - low) * (above - below)
    return torch.where(torch.isnan(x).any(), torch.full_like(found, torch.nan), found)


def covariance(there: Tensor | None, x: Tensor, y: Tensor | None = None) -> Tensor:
    """The mean over the first axis of the products of the gaps from the means, as `var` of the whole number:
    `x [n, *a]` and `y [n, *b]` (or x again) give `[*a, *b]`. Only rows that are `there [n]` count."""

    def gaps(v: Tensor) -> Tensor:
        v = v if v.ndim else v[None]
        if there is None:
            return v - v.mean(0)
        counts = there.reshape(-1, *(1,) * (v.ndim - 1))
        v = torch.where(counts, v, torch.zeros_like(v))
        return torch.where(counts, v - v.sum(0) / number, torch.zeros_like(v))

    number = (x.shape[0] if x.ndim else 1) if there is None else there.sum().clamp(min=1)
    left = gaps(x)
    right = left if y is None else gaps(y)
    found: Tensor = torch.tensordot(left, right.conj(), dims=([0], [0])) / number
    return found


def interpolated(xs: Tensor, ys: Tensor, x: Tensor) -> Tensor:
    """The values at `x [*q]` on the straight lines between `ys [n, *a]` at the increasing `xs [n]`, beyond
    them the first and the last: `[*q, *a]`."""
    k = (torch.searchsorted(xs.contiguous(), x.contiguous(), right=True) - 1).clamp(0, xs.shape[-1] - 2)
    share = ((x - xs[k]) / (xs[k + 1] - xs[k])).clamp(0, 1)
    low, high = ys[k], ys[k + 1]
    return low + share[(..., *(None,) * (ys.ndim - 1))] * (high - low)


def real(x: Tensor) -> Tensor:
    """Whole numbers as real ones, which means and roots need."""
    return x if x.is_floating_point() or x.is_complex() else x.double()


def of_reals(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: function(*(real(x) for x in tensors))


PLAIN: Mapping[str, Callable[..., Tensor]] = {
    "sort": lambda x: torch.sort(x).values,
    "cumsum": lambda x: torch.cumsum(x, 0),
    "median": of_reals(lambda x: quantile(x, x.new_tensor(0.5))),
    "quantile": of_reals(lambda x, q: quantile(x, q.to(x.dtype))),
    "rms": of_reals(lambda x: torch.sqrt(torch.mean(x * x))),
    "cov": of_reals(lambda x, y=None: covariance(None, x, y)),
    "interpolate": of_reals(interpolated),
    "isnan": torch.isnan,
    "cross_entropy": lambda x, y: entropies(real(x), y).mean(),
    "accuracy": lambda x, y: hits(x, y).mean(),
    "smooth_l1": of_reals(lambda x, y: bent(x, y).mean()),
    "rel_l2": of_reals(lambda x, y: (x - y).norm() / y.norm()),
}


def _mean(x: Tensor, there: Tensor) -> Tensor:
    """The mean of what is there, 0 of nothing."""
    return torch.where(there, x, torch.zeros_like(x)).sum() / there.sum().clamp(min=1)


def _joint(masks: Masks) -> Tensor:
    found: Tensor | None = None
    for m in masks:
        if m is not None:
            found = m if found is None else found & m
    assert found is not None
    return found


def _labelled(masks: Masks, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where scores and label are there, and labels that are classes everywhere."""
    scores = None if masks[0] is None else masks[0].all(-1)
    there = _joint((scores, masks[1]))
    return there, torch.where(there, y, torch.zeros_like(y))


def _entropy(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
    there, safe = _labelled(masks, y)
    return _mean(entropies(x, safe), there)


def _accuracy(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
    there, safe = _labelled(masks, y)
    return _mean(hits(x, safe), there)


def _rms(masks: Masks, x: Tensor) -> Tensor:
    found: Tensor = _mean(x * x, masks[0]).sqrt()
    return found


def _rel_l2(masks: Masks, x: Tensor, y: Tensor) -> Tensor:
    there = _joint(masks)
    nothing = torch.zeros_like(y)
    gap, size = torch.where(there, x - y, nothing), torch.where(there, y, nothing)
    found: Tensor = gap.norm() / size.norm()
    return found


def _cov(masks: Masks, x: Tensor, y: Tensor | None = None) -> Tensor:
    """Of the rows that are there as a whole, in both."""
    rows = [None if m is None else m.reshape(m.shape[0], -1).all(1) for m in masks]
    return covariance(_joint(rows), x, y)


GAPPY: Mapping[str, Callable[..., Tensor]] = {
    "isnan": lambda masks, x: ~masks[0] | torch.isnan(x),
    "cross_entropy": _entropy,
    "accuracy": _accuracy,
    "smooth_l1": lambda masks, x, y: _mean(bent(x, y), _joint(masks)),
    "cov": _cov,
    "rms": _rms,
    "rel_l2": _rel_l2,
}
"""(masks, *tensors): the same of what is there; a mask is None where nothing is missing."""
