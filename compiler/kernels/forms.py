"""Places of values on a grid, seen from a point, and weighted sums of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ndl.compiler.kernels.ir import Value


@dataclass(frozen=True)
class Coord:
    """A grid axis and the offset from the point along it."""

    axis: int
    offset: int = 0


Position = tuple[Coord | int, ...]


@dataclass(frozen=True)
class Form:
    """A sum of values with numbers as weights, and a number."""

    terms: Mapping[Value, float] = field(default_factory=dict)
    constant: float = 0.0

    def plus(self, other: Form, factor: float = 1.0) -> Form:
        terms = dict(self.terms)
        for value, weight in other.terms.items():
            terms[value] = terms.get(value, 0.0) + factor * weight
        kept = {v: w for v, w in terms.items() if w != 0}
        return Form(kept, self.constant + factor * other.constant)

    def times(self, factor: float) -> Form:
        return Form().plus(self, factor)
