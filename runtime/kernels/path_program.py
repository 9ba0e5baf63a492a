"""The program of splits by which a kernel goes along a Brownian path from one time to the next; its form is
that of `ndl.compiler.kernels.path.GridPath`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.runtime.lattice import LEAVES, Places, Ways, shapes
from ndl.runtime.problem import Floats, Ints

NOW, NEW = -1, -2
"""The splits of a time start in the cell of the time before, or in a new root cell."""


@dataclass(frozen=True)
class PathProgram:
    """Tables by name, and how many slots there are for cells that are kept."""

    whole: dict[str, Any]
    real: dict[str, Floats]
    slots: int


def program(places: Places, ways: bool) -> PathProgram:
    """For times that rise or fall; `ways`: with the whole way to each."""
    many = len(places.leaf)
    way = Ways.to(places.leaf, places.theta)
    levels = len(way.needed)
    start = _starts(places, way)
    # a time's own splits are those below the level where it starts
    own = way.needed & (np.arange(levels)[:, None] > start.level)
    at, level = np.nonzero(own.T)
    first = np.concatenate([[0], np.cumsum(own.sum(0))])
    row = np.full((levels, many), -1)
    row[level, at] = np.arange(len(at))
    # the row that split the cell in which a time is, at each level
    last = np.maximum.accumulate(row, axis=1)
    kept = np.flatnonzero(start.kept)
    turn = way.goes_right[level, at].astype(np.int64)
    used, slot = np.unique(start.level[kept], return_inverse=True)
    slot = slot.reshape(-1) + 1
    turn[last[start.level[kept], kept]] += 2 * slot
    source = np.where(start.new, NEW, NOW)
    source[kept] = slot
    point = way.point[level, at]
    parts = np.stack([way.left[level, at], way.right[level, at]], -1)
    kinds, shape = np.unique(parts, axis=0, return_inverse=True)
    whole = {
        "root": places.root,
        "first": first,
        "from": source,
        "unit": point // LEAVES,
        "leaf": point % LEAVES,
        "shape": shape.reshape(-1),
        "turn": turn,
    }
    if ways:
        whole |= _ways(way, last)
    real = {"theta": places.theta, "shapes": shapes(kinds[:, 0], kinds[:, 1]).reshape(-1)}
    return PathProgram(whole, real, len(used) + 1)


@dataclass(frozen=True)
class _Starts:
    """Where each time starts: below `level`; in a part that is `kept`, or in a `new` root cell."""

    level: Ints
    kept: np.ndarray
    new: np.ndarray


def _starts(places: Places, way: Ways) -> _Starts:
    levels = len(way.needed)
    numbers = np.arange(levels)[:, None]
    deepest = np.where(way.needed, numbers, -1).max(0, initial=-1)
    same = (way.low[1:, 1:] == way.low[1:, :-1]) & (way.high[1:, 1:] == way.high[1:, :-1])
    common = same.sum(0) - 1  # cells are nested
    new = np.ones(len(deepest), dtype=bool)
    new[1:] = places.root[1:] != places.root[:-1]
    kept = np.zeros_like(new)
    kept[1:] = ~new[1:] & (common < deepest[:-1])
    level = np.full(len(deepest), -1)
    level[1:] = np.where(new[1:], -1, np.where(kept[1:], common + 1, deepest[:-1]))
    return _Starts(level, kept, new)


def _ways(way: Ways, last: Ints) -> dict[str, Any]:
    """The rows of the splits from the root cell to each time, in order, and the bits for right."""
    code = np.where(way.needed, 2 * last + way.goes_right, -1)
    order = np.argsort(~way.needed, axis=0, kind="stable")
    longest = max(int(way.needed.sum(0).max(initial=0)), 1)
    found = np.take_along_axis(code, order, 0)[:longest].T.reshape(-1)
    return {"way": found, "longest": [longest]}
