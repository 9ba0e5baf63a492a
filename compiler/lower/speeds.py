"""The largest speed of waves: the spectral radius of the Jacobian of a flux, at each point.

One unknown: |f'|. Two and three: the roots of the characteristic polynomial, which are real where the system
is hyperbolic. More: from the trace of the eighth power of the Jacobian less its mean eigenvalue, an upper
bound that m unknowns make at most m^(1/8) times too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import networkx as nx
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.real_roots import different_eigenvalues

Matrix = list[list["Node | None"]]
TINY = 1e-20
HOW = {
    1: "absolute value of its derivative",
    2: "eigenvalues in closed form",
    3: "eigenvalues in closed form",
}


def blocks(matrix: Matrix) -> list[list[int]]:
    """Unknowns that depend on each other; the eigenvalues are those of these diagonal blocks."""
    net: nx.DiGraph[int] = nx.DiGraph()
    net.add_nodes_from(range(len(matrix)))
    net.add_edges_from((i, j) for i, row in enumerate(matrix) for j, x in enumerate(row) if x is not None)
    return sorted(sorted(part) for part in nx.strongly_connected_components(net))


def radius(p: Pointwise, matrix: Matrix, like: Node) -> Node | None:
    """The spectral radius at each point; None where the matrix is 0."""
    found = []
    for block in blocks(matrix):
        part = [[matrix[i][j] for j in block] for i in block]
        if any(x is not None for row in part for x in row):
            full = [[x if x is not None else p.number(0.0, like) for x in row] for row in part]
            found.append(_of_block(p, full))
    return p.most(*found) if found else None


def eigenvalues(p: Pointwise, a: list[list[Node]]) -> list[Node]:
    """The eigenvalues of a matrix of up to three rows in increasing order, where they are real."""
    if len(a) == 1:
        return [a[0][0]]
    mean, b = _centred(p, a)
    if len(a) == 2:
        spread = _root(p, p.add(p.square(b[0][0]), p.mul(b[0][1], b[1][0])))
        return [p.sub(mean, spread), p.add(mean, spread)]
    root, phi = _angle(p, b)
    turns = (2 * math.pi / 3, 4 * math.pi / 3, 0.0)
    return [p.add(mean, p.mul(root, p.op("cos", p.add(phi, p.number(t, phi))))) for t in turns]


def few_eigenvalues(p: Pointwise, a: list[list[Node]], count: int) -> list[Node]:
    """The eigenvalues in increasing order of a matrix of which `count` are different.

    More than three are approached. Two or three have a closed form: the traces of the powers of the matrix
    are the moments of a measure on these points, whose orthogonal polynomials have a recurrence with a matrix
    of so many rows: Gauss quadrature (Golub and Welsch 1969, Math. Comp. 23).
    """
    if len(a) <= count <= 3:
        return eigenvalues(p, a)
    mean, b = _centred(p, a)
    if count > 3:
        return [p.add(mean, x) for x in different_eigenvalues(p, b, count)]
    m = range(len(b))

    def product(one: list[list[Node]], two: list[list[Node]]) -> list[list[Node]]:
        return [[p.add(*(p.mul(one[i][k], two[k][j]) for k in m)) for j in m] for i in m]

    def at_least(x: Node) -> Node:
        return p.most(x, p.number(TINY, x))

    square = product(b, b)
    p2, p3 = at_least(_trace(p, b, b)), _trace(p, square, b)
    one, zero = p.number(1.0, p2), p.number(0.0, p2)
    beta, alpha = p.times(1 / len(b), p2), p.div(p3, p2)
    if count == 2:
        return [p.add(mean, x) for x in eigenvalues(p, [[zero, beta], [one, alpha]])]
    cube = product(square, b)
    p4, p5 = _trace(p, square, square), _trace(p, cube, square)

    def less(high: Node, middle: Node, low: Node) -> Node:
        return p.sub(p.sub(high, p.mul(alpha, middle)), p.mul(beta, low))

    norm = at_least(less(p4, p3, p2))
    beta2, alpha2 = p.div(norm, p2), p.sub(p.div(less(p5, p4, p3), norm), alpha)
    rows = [[zero, beta, zero], [one, alpha, beta2], [zero, one, alpha2]]
    return [p.add(mean, x) for x in eigenvalues(p, rows)]


def _centred(p: Pointwise, a: list[list[Node]]) -> tuple[Node, list[list[Node]]]:
    """The mean eigenvalue, and the matrix less it."""
    m = len(a)
    mean = p.times(1 / m, p.add(*(a[i][i] for i in range(m))))
    return mean, [[p.sub(x, mean) if i == j else x for j, x in enumerate(row)] for i, row in enumerate(a)]


def _of_block(p: Pointwise, a: list[list[Node]]) -> Node:
    if len(a) == 1:
        return p.op("abs", a[0][0])
    m = len(a)
    mean, b = _centred(p, a)
    if m == 2:
        spread = _root(p, p.add(p.square(b[0][0]), p.mul(b[0][1], b[1][0])))
        return p.add(p.op("abs", mean), spread)
    if m == 3:
        return _of_three(p, mean, b)
    return p.add(p.op("abs", mean), _by_powers(p, b))


def _root(p: Pointwise, a: Node) -> Node:
    """A root that has a derivative where rounding makes its argument negative."""
    return p.op("sqrt", p.most(a, p.number(TINY, a)))


def _of_three(p: Pointwise, mean: Node, b: list[list[Node]]) -> Node:
    """The largest size of the roots of the cubic polynomial of a matrix, b of trace 0."""
    root, phi = _angle(p, b)
    ends = [p.op("cos", phi), p.op("cos", p.add(phi, p.number(2 * math.pi / 3, phi)))]
    return p.most(*(p.op("abs", p.add(mean, p.mul(root, e))) for e in ends))


def _angle(p: Pointwise, b: list[list[Node]]) -> tuple[Node, Node]:
    """2 sqrt(q) and phi of the eigenvalues 2 sqrt(q) cos(phi + 2 pi k/3) of b, of trace 0."""
    trace = _trace(p, b, b)
    q = p.most(p.times(1 / 6, trace), p.number(TINY, trace))
    root = p.op("sqrt", q)
    cosine = p.div(p.times(0.5, _determinant(p, b)), p.mul(q, root))
    edge = 1 - 1e-12
    inside = p.least(p.most(cosine, p.number(-edge, cosine)), p.number(edge, cosine))
    return p.times(2.0, root), p.times(1 / 3, p.op("acos", inside))


def _determinant(p: Pointwise, b: list[list[Node]]) -> Node:
    def minor(j: int) -> Node:
        k, m = [x for x in range(3) if x != j]
        return p.sub(p.mul(b[1][k], b[2][m]), p.mul(b[1][m], b[2][k]))

    return p.add(p.sub(p.mul(b[0][0], minor(0)), p.mul(b[0][1], minor(1))), p.mul(b[0][2], minor(2)))


def _trace(p: Pointwise, a: Sequence[Sequence[Node]], b: Sequence[Sequence[Node]]) -> Node:
    m = range(len(a))
    return p.add(*(p.mul(a[i][j], b[j][i]) for i in m for j in m))


def _by_powers(p: Pointwise, b: list[list[Node]]) -> Node:
    """trace(b^8)^(1/8), which is no less than the largest eigenvalue where all are real."""
    m = range(len(b))
    for _ in range(2):
        b = [[p.add(*(p.mul(b[i][k], b[k][j]) for k in m)) for j in m] for i in m]
    return _root(p, _root(p, _root(p, _trace(p, b, b))))
