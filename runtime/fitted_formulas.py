"""Formulas judged by the loss of a whole training, after what is fitted beside them has been fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ndl.runtime.evolution import Genome
from ndl.runtime.formulas import Array, constants

Value = Callable[[Array], tuple[float, Array]]


def bfgs(value: Value, x: Array, steps: int) -> tuple[float, Array]:
    """The least value found, and where, by quasi-Newton steps; `value` gives a number and its gradient,
    infinity where it has none. Nocedal, Wright (2006), section 6.1."""
    f, g = value(x)
    inverse = None
    for _ in range(steps):
        if not (math.isfinite(f) and np.isfinite(g).all() and g.any()):
            break
        way = -g if inverse is None else -(inverse @ g)
        if way @ g >= 0:
            inverse, way = None, -g
        first = min(1.0, 1 / float(np.linalg.norm(g))) if inverse is None else 1.0
        size, lower, slope = along(value, x, way, f, float(way @ g), first)
        if not lower < f:
            break
        gain = f - lower
        s, r = size * way, slope - g
        x, f, g = x + s, lower, slope
        if gain <= 1e-12 * abs(f):
            break
        curve = float(s @ r)
        if curve > 0:
            start = np.eye(len(x)) * (curve / float(r @ r)) if inverse is None else inverse
            left = np.eye(len(x)) - np.outer(s, r) / curve
            inverse = left @ start @ left.T + np.outer(s, s) / curve
    return f, x


def along(
    value: Value, x: Array, way: Array, f: float, fall: float, size: float
) -> tuple[float, float, Array]:
    """A step along `way`, on which `f` falls at the rate `fall`, that meets the conditions of Wolfe: its
    size, the value and the gradient there; the best one tried where none does. Lewis, Overton (2013),
    section 4."""
    low, high = 0.0, math.inf
    best = (0.0, f, np.zeros(len(x)))
    for _ in range(12):
        lower, slope = value(x + size * way)
        if lower < best[1]:
            best = size, lower, slope
        if lower > f + 1e-4 * size * fall:
            high = size
        elif float(slope @ way) < 0.9 * fall:
            low = size
        else:
            break
        size = (low + high) / 2 if low else high / 4
        if high == math.inf:
            size = 2 * low
    return best


@dataclass
class Trained:
    """`value` gives the loss of a genome and its gradient by its constants and, behind them, by what else is
    fitted, which starts at `others` for each genome; `kept` has where it ended for each."""

    value: Callable[[Genome, Array], tuple[float, Array]]
    others: Array
    scale: float = 1.0
    kept: dict[Genome, tuple[float, Array]] = field(default_factory=dict)

    def loss(self, genome: Genome, c: Array) -> float:
        """With what else is fitted as it was kept."""
        return self.value(genome, np.concatenate([c, self.beside(genome)]))[0]

    def beside(self, genome: Genome) -> Array:
        """What else is fitted, as it is best for a genome."""
        return self.kept[genome][1] if genome in self.kept else self.others

    def fit(self, genome: Genome, start: Array, steps: int) -> tuple[float, Array]:
        count = sum(map(constants, genome))
        for near in (1.0, 0.1, 0.01):  # where the run fails, from constants nearer to 0
            begin = np.concatenate([near * start, self.others])
            if not count or math.isfinite(self.value(genome, begin)[0]):
                break
        found, z = bfgs(lambda z: self.value(genome, z), begin, steps)
        if genome not in self.kept or found < self.kept[genome][0]:
            self.kept[genome] = found, z[count:]
        return found, z[:count]
