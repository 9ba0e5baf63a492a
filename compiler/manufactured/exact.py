"""Smooth solutions for the states of a model: what its forced problem has as its answer.

Along a periodic coordinate a wave of one period, between ends a piece of a sine that has neither value nor
slope 0 at them; where a natural condition stands, a cosine without slope there. Times a factor in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp
from ndl.compiler.check.values import DomainV

Cells = npt.NDArray[Any]
TIME = sp.Symbol("t", real=True)


@dataclass(frozen=True)
class Range:
    """Values that a state may have: `lower` < u < `upper`, None where it is not bounded."""

    lower: float | None = None
    upper: float | None = None


def coordinate(name: str) -> Any:
    """The symbol of a coordinate."""
    return sp.Symbol(name, real=True)


def number(value: Any) -> Any:
    """A number that is known when compiling, with pi where it is a multiple of it."""
    found = sp.nsimplify(value, [sp.pi], tolerance=1e-13, rational=None)
    return (
        found if abs(float(found) - float(value)) <= 1e-12 * max(1.0, abs(float(value))) else sp.Float(value)
    )


def chosen(
    shape: tuple[int, ...],
    domain: DomainV | None,
    ends: Mapping[str, tuple[Any, Any]],
    allowed: Range,
    start: int,
    steady: bool,
    flat: frozenset[str] = frozenset(),
) -> Cells:
    """The solution of one state, an array of its components. `start` numbers the states, so that no two of
    them are alike; along the coordinates `flat` it has no slope at the ends."""
    cells = np.empty(shape, dtype=object)
    for k, place in enumerate(np.ndindex(shape)):
        middle, reach = _scale(allowed, start + k)
        wave: Any = sp.S.One if domain is not None else sp.sin(sp.Rational(1, 2) + start + k + TIME)
        for j, name in enumerate(domain.coordinates if domain is not None else ()):
            shape_ = _flat if name in flat else _wave
            periodic = domain is not None and domain.periodic[j]
            wave *= shape_(coordinate(name), *ends[name], periodic, start + k + j)
        if domain is not None and not steady:
            wave *= sp.cos(TIME + sp.Rational(start + k, 3))
        cells[place] = middle + reach * wave
    return cells


def _scale(allowed: Range, k: int) -> tuple[Any, Any]:
    """The middle of a solution and how far it goes from there."""
    low, high = allowed.lower, allowed.upper
    if low is not None and high is not None:
        return sp.nsimplify((low + high) / 2), sp.nsimplify(0.4 * (high - low))
    shift = sp.Rational(7 + k % 3, 10)
    reach = sp.Rational(2, 5)
    if low is not None:
        return sp.nsimplify(low) + shift, reach
    if high is not None:
        return sp.nsimplify(high) - shift, reach
    return shift, reach


def _wave(x: Any, lower: Any, upper: Any, periodic: bool, k: int) -> Any:
    length = upper - lower
    if periodic:
        return sp.sin(2 * sp.pi / length * (x - lower) + sp.Rational(2 * k + 1, 5))
    return sp.sin(5 / length * (x - lower) + sp.Rational(2 + k % 3, 5))


def _flat(x: Any, lower: Any, upper: Any, periodic: bool, k: int) -> Any:
    if periodic:
        return _wave(x, lower, upper, periodic, k)
    return sp.cos(sp.pi / (upper - lower) * (x - lower))
