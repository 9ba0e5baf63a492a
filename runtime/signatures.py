"""Log-signatures of polygons: what the log-ODE method reads of a path over a window.

The signature of a straight piece of increment v is exp(v) in the truncated tensor algebra; pieces multiply
(Chen's identity). Its logarithm is told by the coefficients of the Lyndon words: the increments, then for
i < j the areas 1/2 int (X_i - X_i(r)) dX_j - (X_j - X_j(r)) dX_i, then those of longer words (Reizenstein &
Graham 2020, ACM TOMS 46). For neural rough equations see Morrill, Salvi, Kidger, Foster (2021), ICML.
"""

from __future__ import annotations

from functools import cache, reduce
from itertools import pairwise, product

import torch
from torch import Tensor

Levels = list[Tensor]
"""Levels 1 to depth of a tensor series: [..., v], [..., v, v], …; level 0 is 1 or 0 by context."""


@cache
def lyndon_words(letters: int, depth: int) -> tuple[tuple[int, ...], ...]:
    """The words that come before all of their rotations, the short ones first."""
    return tuple(
        word
        for length in range(1, depth + 1)
        for word in product(range(letters), repeat=length)
        if all(word < word[k:] + word[:k] for k in range(1, length))
    )


def log_signature(xs: Tensor, depth: int) -> Tensor:
    """[..., k, v], values at the corners -> [..., words], the log-signature over all of them."""
    steps = xs.diff(dim=-2)
    signature = [torch.zeros_like(e) for e in _exponential(steps[..., 0, :], depth)]
    for k in range(steps.shape[-2]):
        signature = _times(signature, _exponential(steps[..., k, :], depth))
    logarithm = _logarithm(signature)
    return torch.stack([_at(logarithm[len(w) - 1], w) for w in lyndon_words(xs.shape[-1], depth)], -1)


def windows(ts: Tensor, xs: Tensor, depth: int, window: int) -> tuple[Tensor, Tensor]:
    """The knots [m + 1] of windows of `window` pieces and, at them, the sums [..., m + 1, words] of the
    windows' log-signatures from the start: the polygon through these has the rates of the log-ODE method."""
    ends = [*range(0, len(ts) - 1, window), len(ts) - 1]
    found = [log_signature(xs[..., a : b + 1, :], depth) for a, b in pairwise(ends)]
    sums = torch.stack(found, -2).cumsum(-2)
    return ts[ends], torch.cat([torch.zeros_like(sums[..., :1, :]), sums], -2)


def _at(level: Tensor, word: tuple[int, ...]) -> Tensor:
    for letter in reversed(word):
        level = level[..., letter]
    return level


def _exponential(v: Tensor, depth: int) -> Levels:
    levels = [v]
    for k in range(2, depth + 1):
        levels.append(_outer(levels[-1], v, k - 1, 1) / k)
    return levels


def _times(a: Levels, b: Levels) -> Levels:
    """(1 + a)(1 + b) - 1."""
    return [p + x + y for p, x, y in zip(_product(a, b), a, b)]


def _logarithm(s: Levels) -> Levels:
    """log(1 + s) = s - s^2/2 + s^3/3 - …"""
    total, power = list(s), list(s)
    for k in range(2, len(s) + 1):
        power = _product(power, s)
        total = [t + (-1) ** (k + 1) * p / k for t, p in zip(total, power)]
    return total


def _product(a: Levels, b: Levels) -> Levels:
    """a b, where neither has a level 0."""
    return [
        reduce(
            torch.add,
            (_outer(a[i - 1], b[n - i - 1], i, n - i) for i in range(1, n)),
            torch.zeros_like(a[n - 1]),
        )
        for n in range(1, len(a) + 1)
    ]


def _outer(a: Tensor, b: Tensor, rank_a: int, rank_b: int) -> Tensor:
    lead = a.ndim - rank_a
    return a.reshape(*a.shape, *(1,) * rank_b) * b.reshape(*b.shape[:lead], *(1,) * rank_a, *b.shape[lead:])
