"""The real roots of a polynomial at each point of a grid, and the eigenvalues of matrices with more than
three different ones.

All roots are moved at once by Ehrlich's and Aberth's method (Aberth 1973, Math. Comp. 27, 339–344), which
converges with order three to simple roots: a fixed number of steps, so that it is arithmetic like any other,
with derivatives, in either precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.ops.adjoint import plain
from ndl.compiler.ops.adjoint import shape as shape_of

Square = list[list[Node]]
STEPS = 6
"""And two for each root: of thousands of random polynomials whose roots are 0.02 apart all are then exact to
1e-12."""
TINY = 1e-20
NEAR = 1e-24
"""Below the square of what is divided by: 1/v is taken as v/(v^2 + this)."""


def different_eigenvalues(p: Pointwise, b: Square, count: int) -> list[Node]:
    """The `count` different eigenvalues, in increasing order, of a matrix of trace 0 whose eigenvalues are
    real."""
    n = len(b)
    square = _trace(p, b, b)
    size = p.op("sqrt", p.most(square, p.number(TINY, square)))
    unit = [[p.div(x, size) for x in row] for row in b]
    sums = _power_sums(p, unit, n if count == n else 2 * count - 1)
    polynomial = _characteristic(p, sums) if count == n else _of_moments(p, sums, n, count)
    return [p.mul(size, x) for x in real_roots(p, polynomial)]


def _trace(p: Pointwise, a: Square, b: Square) -> Node:
    m = range(len(a))
    return p.add(*(p.mul(a[i][j], b[j][i]) for i in m for j in m))


def _power_sums(p: Pointwise, b: Square, most: int) -> list[Node]:
    """trace(b^k), k = 1 … most."""
    m = range(len(b))
    powers = [b]
    while 2 * len(powers) < most:
        last = powers[-1]
        powers.append([[p.add(*(p.mul(last[i][k], b[k][j]) for k in m)) for j in m] for i in m])
    first = p.add(*(b[i][i] for i in m))
    return [first, *(_trace(p, powers[(k + 1) // 2 - 1], powers[k // 2 - 1]) for k in range(2, most + 1))]


def _characteristic(p: Pointwise, sums: Sequence[Node]) -> list[Node]:
    """The coefficients below the highest, which is 1, from the constant on, by Newton's identities."""
    found: list[Node] = []  # those of x^(n-1), x^(n-2), …
    for k, s in enumerate(sums, 1):
        terms = [s, *(p.mul(c, sums[k - 2 - j]) for j, c in enumerate(found))]
        found.append(p.times(-1 / k, p.add(*terms)))
    return found[::-1]


def _of_moments(p: Pointwise, sums: Sequence[Node], n: int, count: int) -> list[Node]:
    """The polynomial whose roots are the points of a measure with these moments (times n), by the recurrence
    of its orthogonal polynomials: Chebyshev's algorithm (Gautschi 2004, "Orthogonal polynomials", 2.1.7)."""
    one, zero = p.number(1.0, sums[0]), p.number(0.0, sums[0])
    row = [one, *(p.times(1 / n, s) for s in sums)]
    before = [zero] * len(row)
    alpha, beta = row[1], one
    polynomials = [[one], [p.op("neg", alpha), one]]
    for k in range(1, count):
        here = {
            j: p.sub(p.sub(row[j + 1], p.mul(alpha, row[j])), p.mul(beta, before[j]) if k > 1 else zero)
            for j in range(k, 2 * count - k)
        }
        norm, last = _not_zero(p, here[k]), _not_zero(p, row[k - 1])
        alpha = p.sub(p.div(here[k + 1], norm), p.div(row[k], last))
        beta = p.div(norm, last)
        before, row = row, [here.get(j, zero) for j in range(2 * count)]
        high, low = polynomials[-1], polynomials[-2]
        made = [zero, *high]
        for j, c in enumerate(high):
            made[j] = p.sub(made[j], p.mul(alpha, c))
        for j, c in enumerate(low):
            made[j] = p.sub(made[j], p.mul(beta, c))
        polynomials.append(made)
    return polynomials[-1][:-1]


def _not_zero(p: Pointwise, x: Node) -> Node:
    """A norm, which rounding may make 0 or negative."""
    return p.most(x, p.number(TINY, x))


def real_roots(p: Pointwise, lower: Sequence[Node]) -> list[Node]:
    """In increasing order, those of a polynomial whose highest coefficient is 1 and the others `lower`, from
    the constant on; they lie between -1 and 1."""
    n, last = len(lower), len(shape_of(lower[0]))

    def together(parts: Sequence[Node]) -> Node:
        return p.graph.add("stack", list(parts), axis=last)

    starts = [0.97 * math.cos((2 * k + 1) * math.pi / (2 * n)) for k in range(n)]
    x = together([p.number(s, lower[0]) for s in starts])
    shape = tuple(map(plain, shape_of(x)))
    wide = [p.graph.add("expand", [c], shape=shape, axes=tuple(range(last))) for c in lower]
    for _ in range(STEPS + 2 * n):
        value, slope = p.number(1.0, x), p.number(0.0, x)
        for c in reversed(wide):
            slope = p.add(p.mul(slope, x), value)
            value = p.add(p.mul(value, x), c)
        each = [p.graph.add("index", [x], axis=last, at=k) for k in range(n)]
        others = [together([*each[k:], *each[:k]]) for k in range(1, n)]
        pull = p.add(*(_inverse(p, p.sub(x, y)) for y in others))
        x = p.sub(x, p.mul(value, _inverse(p, p.sub(slope, p.mul(value, pull)))))
    return _sorted(p, [p.graph.add("index", [x], axis=last, at=k) for k in range(n)])


def _inverse(p: Pointwise, v: Node) -> Node:
    square = p.square(v)
    return p.div(v, p.add(square, p.number(NEAR, square)))


def _sorted(p: Pointwise, values: list[Node]) -> list[Node]:
    """By exchanges of neighbours, in as many rounds as there are values."""
    for start in range(len(values)):
        for k in range(start % 2, len(values) - 1, 2):
            pair = values[k : k + 2]
            values[k : k + 2] = [p.least(*pair), p.most(*pair)]
    return values
