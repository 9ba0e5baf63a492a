"""When the jump of a derivative comes back: after sums of delays, up to as many as a method sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ndl.runtime.problem import Floats, Ints

AT_ONCE = 4_000_000
"""Sums that are made at once."""


@dataclass(frozen=True)
class Echoes:
    """Of members `B`, the times `spans [J, B]` after a jump at which it is felt, in order, infinity behind
    the last one, and `counts [J, B, D]`: how many of each delay they are made of; of delays that are equal,
    the first."""

    spans: Floats
    counts: Ints

    @staticmethod
    def make(lag: Floats, depth: int, room: float, slack: float) -> Echoes:
        """Of delays `lag [D, B]` (nan: one that changes, which has no such times), the sums of one to `depth`
        that are shorter than `room`; times within `slack` are one."""
        known = np.nan_to_num(lag, nan=-1.0)
        distinct, group = np.unique(known, axis=1, return_inverse=True)
        usable = _usable(distinct)
        lags = np.where(usable, distinct, 0.0)
        sums = _combinations(lags, usable, depth, room)
        size = max(1, AT_ONCE // max(1, len(sums)))
        parts = [
            _in_order(sums, lags[:, k : k + size], usable[:, k : k + size], room - slack, slack)
            for k in range(0, lags.shape[1], size)
        ]
        most = max(len(spans) for spans, _ in parts)
        spans = np.full((most, lags.shape[1]), np.inf)
        counts = np.zeros((most, *distinct.T.shape), np.int64)
        for k, (some, made) in enumerate(parts):
            columns = slice(k * size, k * size + some.shape[1])
            spans[: len(some), columns], counts[: len(some), columns] = some, made
        group = group.reshape(-1)
        return Echoes(spans[:, group], counts[:, group])

    def of(self, member: int) -> tuple[Floats, Ints]:
        """The times `[j]` of a member and what they are made of `[j, D]`."""
        many = int(np.isfinite(self.spans[:, member]).sum())
        return self.spans[:many, member], self.counts[:many, member]


def _usable(lag: Floats) -> np.ndarray:
    """Which delays `[D, B]` make such times: those that stay the same, once each."""
    usable = lag > 0
    for k in range(1, len(lag)):
        usable[k] &= (lag[:k] != lag[k]).all(axis=0)
    return usable


def _combinations(lags: Floats, usable: np.ndarray, depth: int, room: float) -> Ints:
    """How many of each delay the sums have `[M, D]`, those of few delays first, that are short enough for
    some member."""
    unit = np.eye(len(lags), dtype=np.int64)
    shortest = np.where(usable, lags, np.inf).min(axis=1)
    unit, shortest = unit[np.isfinite(shortest)], np.where(np.isfinite(shortest), shortest, 0.0)
    level = np.zeros((1, len(lags)), np.int64)
    found = [level[:0]]
    for _ in range(depth):
        level = np.unique((level[:, None] + unit[None]).reshape(-1, len(lags)), axis=0)
        level = level[level @ shortest < room]
        found.append(level)
    return np.concatenate(found)


def _in_order(made: Ints, lags: Floats, usable: np.ndarray, room: float, slack: float) -> tuple[Floats, Ints]:
    """`spans [J, b]` and `counts [J, b, D]` of some members."""
    sums = made @ lags
    sums[((made > 0).astype(float) @ ~usable > 0) | (sums >= room)] = np.inf
    order = np.argsort(sums, axis=0, kind="stable")
    sums = np.take_along_axis(sums, order, 0)
    with np.errstate(invalid="ignore"):
        own = np.isfinite(sums) & (np.diff(sums, axis=0, prepend=-np.inf) > slack)
    first = np.argsort(~own, axis=0, kind="stable")[: own.sum(axis=0).max(initial=0)]
    spans = np.where(np.take_along_axis(own, first, 0), np.take_along_axis(sums, first, 0), np.inf)
    return spans, made[np.take_along_axis(order, first, 0)]
