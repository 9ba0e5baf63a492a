"""Grids: where a field is stored, one axis a coordinate; and the exact rational weights of differences on
them.

Coordinates along an axis are counted in steps from its first point. Weights are `Fraction`s; they hold for a
step of one, so that a derivative of degree k is the weighted sum over h^k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import pi

Row = tuple[Fraction, ...]
FREE, VALUE, SLOPE = "free", "value", "slope"
"""What is known at an end of an axis: nothing, the field, or its derivative along the axis."""
LIMITED = ("minmod", "vanleer", "mc")
SCHEMES = ("central", "upwind", *LIMITED, "weno5")
"""How what carries fields along an axis is discretised."""


@dataclass(frozen=True)
class GridAxis:
    """One axis: `n` points of a `kind` (`uniform`, `fourier`, `chebyshev`) in `lower`..`upper`.

    Points of a uniform axis are nodes, both ends included, or the middles of `cells`; a periodic axis
    leaves out its upper end. `order` is that of its differences."""

    coordinate: str
    kind: str
    n: int
    lower: float
    upper: float
    periodic: bool = False
    order: int = 2
    cells: bool = False
    scheme: str = "central"
    """How what carries fields along it is discretised."""
    characteristic: bool = False
    """Whether fluxes of systems are reconstructed wave by wave."""
    kept: int | None = None
    """The highest Fourier mode of fields and their rates; None for all that the points have."""

    @property
    def step(self) -> float:
        """The distance of neighbours on a uniform axis."""
        return (self.upper - self.lower) / (self.n if self.periodic or self.cells else self.n - 1)

    @property
    def first(self) -> Fraction:
        """The lower end in steps from the first point."""
        return Fraction(-1, 2) if self.cells else Fraction(0)

    @property
    def layout(self) -> tuple[str, int, float, float]:
        """What tells the points: `nodes`, `ring`, `cells` or `chebyshev`, how many, and the ends."""
        kind = "ring" if self.periodic else "cells" if self.cells else "nodes"
        return ("chebyshev" if self.kind == "chebyshev" else kind, self.n, self.lower, self.upper)


def wave_count(layout: tuple[str, int, float, float], ends: tuple[str | float, str | float]) -> int:
    """How many of the waves of `ndl.runtime.waves` the points of an axis tell apart; Chebyshev points those
    with pi or more points to a period."""
    kind, n = layout[:2]
    if kind == "chebyshev":
        return max(1, int(2 * (n - 1) / pi))
    return n - ends.count(VALUE) if kind == "nodes" else n


@dataclass(frozen=True)
class Grid:
    """The grid of one domain."""

    domain: str
    axes: tuple[GridAxis, ...]
    reach: tuple[int, ...] = ()
    """How far residuals read along each axis (-1: everywhere); not known where it is empty. On a mesh, how
    many cells away."""

    mesh: MeshGrid | None = None
    """In place of axes: elements on a mesh."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(a.n for a in self.axes) if self.mesh is None else (self.mesh.n,)


@dataclass(frozen=True)
class MeshGrid:
    """Elements on a mesh: their key in `ndl.compiler.geometry.store`, the coordinates, the number of
    nodes; `alone`: these are a set of points, without elements."""

    key: str
    coordinates: tuple[str, ...]
    n: int
    alone: bool = False


def solve_exactly(rows: Sequence[Sequence[Fraction]], right: Sequence[Fraction]) -> Row:
    """The solution of a square system with rational entries. Raises ZeroDivisionError for a singular one."""
    n = len(rows)
    table = [[*map(Fraction, row), Fraction(b)] for row, b in zip(rows, right)]
    for k in range(n):
        pivot = next((i for i in range(k, n) if table[i][k]), None)
        if pivot is None:
            raise ZeroDivisionError
        table[k], table[pivot] = table[pivot], table[k]
        head = table[k][k]
        table[k] = [x / head for x in table[k]]
        for i in range(n):
            factor = table[i][k]
            if i != k and factor:
                table[i] = [x - factor * y for x, y in zip(table[i], table[k])]
    return tuple(row[n] for row in table)


def _power(x: Fraction, q: int, derivative: int) -> Fraction:
    """The derivative of x^q."""
    factor = 1
    for j in range(derivative):
        factor *= q - j
    return factor * x ** (q - derivative) if factor else Fraction(0)


@cache
def weights(data: tuple[tuple[Fraction, int], ...], at: Fraction, degree: int) -> Row:
    """Weights of data (place, derivative) that give the derivative of `degree` at a place, exact for
    polynomials of degree below `len(data)`."""
    count = len(data)
    rows = [[_power(x, q, d) for x, d in data] for q in range(count)]
    return solve_exactly(rows, [_power(at, q, degree) for q in range(count)])


@dataclass(frozen=True)
class Stencil:
    """The derivative along an axis: `center` weights from `offset` on inside, a row of weights of the first
    (last) points for each of the first (last) places; `low_data` and `high_data` are the weights of what is
    known at an end, from that end inwards."""

    offset: int
    center: Row
    low: tuple[Row, ...] = ()
    high: tuple[Row, ...] = ()
    low_data: Row = ()
    high_data: Row = ()


def central(degree: int, order: int) -> tuple[int, Row]:
    """The offset and weights of the central difference."""
    half = (degree + 1) // 2 - 1 + order // 2
    data = tuple((Fraction(j), 0) for j in range(-half, half + 1))
    return -half, weights(data, Fraction(0), degree)


def _closure(degree: int, order: int, first: Fraction, known: str, i: int) -> tuple[Row, Fraction]:
    """The weights at place i near a lower end, and that of what is known there.

    With a slope, or a value between points, one condition less: where the equation is of second order that
    keeps its order, and the standard ghost point is the case of order 2."""
    if known == FREE or (known == VALUE and not first):
        data = tuple((Fraction(j), 0) for j in range(degree + order))
        return weights(data, Fraction(i), degree), Fraction(0)
    # as many points as keep every place of the central difference's half width inside
    count = max(degree + order - 2, i + 1)
    data = (*((Fraction(j), 0) for j in range(count)), (first, 0 if known == VALUE else 1))
    found = weights(data, Fraction(i), degree)
    return found[:-1], found[-1]


@cache
def stencil(degree: int, order: int, periodic: bool, first: Fraction, low: str, high: str) -> Stencil:
    """The difference of even `order` for the derivative of `degree` on a uniform axis."""
    offset, center = central(degree, order)
    if periodic:
        return Stencil(offset, center)
    rows: list[tuple[Row, ...]] = []
    data: list[Row] = []
    for known in (low, high):
        closures = [_closure(degree, order, first, known, i) for i in range(-offset)]
        rows.append(tuple(c for c, _ in closures))
        data.append(() if known == FREE else tuple(d for _, d in closures))
    # the upper end is the lower one in a mirror
    sign = (-1) ** degree
    high_rows = tuple(tuple(sign * w for w in reversed(row)) for row in reversed(rows[1]))
    slope = -sign if high == SLOPE else sign
    return Stencil(offset, center, rows[0], high_rows, data[0], tuple(slope * w for w in data[1]))


@cache
def end_weights(order: int, cells: bool) -> Row:
    """What the sum over all points has too much or too little at an end: Gregory's corrections."""
    from math import comb

    count = order - 1
    bernoulli = [Fraction(1)]
    for m in range(1, count + 1):
        bernoulli.append(-sum((comb(m + 1, k) * b for k, b in enumerate(bernoulli)), Fraction(0)) / (m + 1))

    def polynomial(m: int, x: Fraction) -> Fraction:
        return sum((comb(m, k) * bernoulli[k] * x ** (m - k) for k in range(m + 1)), Fraction(0))

    first = Fraction(1, 2) if cells else Fraction(0)
    rows = [[_power(j + first, q, 0) for j in range(count)] for q in range(count)]
    return solve_exactly(rows, [polynomial(q + 1, first) / (q + 1) for q in range(count)])
