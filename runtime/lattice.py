"""The points of time at which Brownian paths are made, and the cells between them.

A root cell is 2^8 units of time (or one, a step of the noise); a leaf is 1/LEAVES of a unit. Points of the
lattice, whole numbers of leaves, come in levels: level i has all multiples of `SPACING[i]`. First units by
halves, then those parts of a unit that steps are likely to be, decimal and binary, from coarse to fine, at
last halves down to the leaves. The cell of a time at level i lies between the nearest points of the levels
0..i on either side of it; the levels are such that each has at most one point inside any cell of those
before. So every cell has one point that splits it, and steps of 0.1, 0.01, 1/64 or 0.001 need less than two
splits each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ndl.runtime.problem import Floats, Ints, Problem

HALVINGS = 8
"""A root cell is 2^HALVINGS units long."""

LEAVES = 625 << 14
"""Leaves of a unit: fewer than 2^24, so that numbers of leaves are exact in single precision."""

PARTS = (
    *(2, 4, 5, 10, 8, 20, 16, 25, 50, 100, 64, 200, 128, 256, 250, 500, 1000, 512, 1024, 2000, 2048),
    *(2500, 5000, 10000),
    *(625 << k for k in range(5, 15)),
)
"""Into how many parts the levels below a unit divide it."""

SPACING: Ints = np.array([LEAVES << k for k in range(HALVINGS - 1, -1, -1)] + [LEAVES // q for q in PARTS])
"""The distance of the points of each level, in leaves."""

NEAR = 4 * 2.0**-52
"""By which part of its size a time may miss a point that it is taken for."""


@dataclass(frozen=True)
class Unit:
    """The unit of time of a run: 100^`power`, so that decimal steps lie on the lattice; or a `step` of its
    noise, of which each is a root cell."""

    power: int
    step: float | None = None

    @staticmethod
    def of(span: float, step: float | None = None) -> Unit:
        """1, and for spans below 2^-8 or above 2^20 a power of 100 near the span; a `step` that is given."""
        if step is not None or 2.0**-8 <= span <= 2.0**20 or span == 0:
            return Unit(0, step)
        return Unit(math.floor(math.log10(span)) // 2)

    @property
    def halvings(self) -> int:
        """A root cell is 2^halvings units long."""
        return HALVINGS if self.step is None else 0

    @property
    def length(self) -> float:
        return float(100.0**self.power) if self.step is None else self.step

    @property
    def root(self) -> float:
        """The root of its length."""
        return float(10.0**self.power) if self.step is None else math.sqrt(self.step)

    @property
    def count(self) -> float:
        """How many there are in one of the caller's units."""
        return float(100.0**-self.power) if self.step is None else 1 / self.step


@dataclass(frozen=True)
class Places:
    """Root cell, leaf in it and place in the leaf, in 0..1, of times `[T]`."""

    root: Ints
    leaf: Ints
    theta: Floats

    @staticmethod
    def of(times: Floats, unit: Unit, start: float) -> Places:
        """Times of a run from `start`. One that misses a point by its rounding, or by that of the start,
        counts as the point: t0 + 3 h is one for h = 0.001."""
        units = times * unit.count
        whole = np.floor(units)
        leaves = (units - whole) * LEAVES
        near = np.rint(leaves)
        slack = (np.abs(units) + abs(start * unit.count)) * (NEAR * LEAVES)
        meant = np.abs(leaves - near) <= slack
        below = np.where(meant, near, np.floor(leaves))
        full = below >= LEAVES  # a time just below a unit's end
        whole, below = whole + full, np.where(full, 0.0, below)
        root = np.floor(whole * 2.0**-unit.halvings)
        leaf = (whole - root * 2.0**unit.halvings) * LEAVES + below
        return Places(
            root.astype(np.int64), leaf.astype(np.int64), np.where(meant | full, 0.0, leaves - below)
        )


@dataclass(frozen=True)
class Ways:
    """How cells are split on the way from the root to times `[T]`, for each level `[L, T]`.

    `point` splits the cell of the level above, `left` and `right` of it (in leaves) are its parts, and the
    way goes on in the right one where `goes_right`. `needed` says where there is a split: a time at the left
    end of its cell needs no finer one. `low` and `high` bound the cells after it, `[L + 1, T]`.
    """

    point: Ints
    left: Ints
    right: Ints
    goes_right: np.ndarray
    needed: np.ndarray
    low: Ints
    high: Ints

    @staticmethod
    def to(leaf: Ints, theta: Floats, halvings: int = HALVINGS) -> Ways:
        space = SPACING[HALVINGS - halvings :, None]
        below = leaf // space * space
        first = np.zeros((1, len(leaf)), dtype=np.int64)
        low = np.maximum.accumulate(np.concatenate([first, below]))
        high = np.minimum.accumulate(np.concatenate([first + (LEAVES << halvings), below + space]))
        goes_right = low[1:] > low[:-1]
        point = np.where(goes_right, low[1:], high[1:])
        needed = (goes_right | (high[1:] < high[:-1])) & ((low[:-1] < leaf) | (theta > 0))
        return Ways(point, point - low[:-1], high[:-1] - point, goes_right, needed, low, high)


def leaf_of(problem: Problem) -> float:
    """The time in which the paths of a run are smooth, 0 without noise."""
    unit = Unit.of(abs(problem.t1 - problem.t0), problem.noise_step)
    return unit.length / LEAVES if problem.model.NOISES else 0.0


def shapes(left: Ints, right: Ints) -> Floats:
    """What the split of cells of space-time Levy area into `left` and `right` leaves needs, on a last axis:
    u, w, 6 u w, 2 m, g, g/sqrt(3), u^2, w^2 and the length of the left part in units, where u and w are the
    parts of the whole h, m = 1 - 3 u w and g = sqrt(h u w/m)/2. See `BrownianPath._split`."""
    h = (left + right) / LEAVES
    u, w = left / (left + right), right / (left + right)
    product = u * w
    m = 1 - 3 * product
    g = 0.5 * np.sqrt(h * product / m)
    return np.stack([u, w, 6 * product, 2 * m, g, g / math.sqrt(3), u * u, w * w, left / LEAVES], -1)
