"""Functions of small square matrices, written out: systems of equations, inverses, determinants, roots."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.ir.graph import Node
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.linear import LARGEST, minus, solved

if TYPE_CHECKING:
    from ndl.compiler.kernels.scalars import Scalars, Values

LARGEST_DETERMINANT = 8
"""Rows of a determinant, whose expansion takes n 2^(n - 1) products."""


def solve(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """A^-1 b, of a vector or of each column."""
    return _solved(s, *operands)


def inverse(s: Scalars, node: Node, operands: list[Values]) -> Values:
    (a,) = operands
    n = len(a)
    one = [[s.code.const(float(i == j)) for j in range(n)] for i in range(n)]
    return _solved(s, a, np.array(one, dtype=object))


def _solved(s: Scalars, a: Values, b: Values) -> Values:
    lu, matrix = s.factors(a), [list(row) for row in a]
    columns = b.reshape(len(b), -1).T
    found = [solved(s.code, lu, matrix, list(column)) for column in columns]
    return np.array(found, dtype=object).T.reshape(b.shape)


def determinant(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """By minors of the first rows, each found once: a polynomial, with the derivative of one."""
    return np.array(_minors(s, operands[0]), dtype=object)


def log_determinant(s: Scalars, node: Node, operands: list[Values]) -> Values:
    return np.array(s.code.op("log", s.code.op("abs", _minors(s, operands[0]))), dtype=object)


def _minors(s: Scalars, a: Values) -> Value:
    n = len(a)
    if n > LARGEST_DETERMINANT:
        raise Unsupported(f"its determinants have {n} rows, more than {LARGEST_DETERMINANT}")
    known: dict[tuple[int, ...], Value] = {(): s.code.const(1.0)}
    for k in range(n):
        above, known = known, {}
        for columns in combinations(range(n), k + 1):
            terms = []
            for at, c in enumerate(columns):
                rest = above[columns[:at] + columns[at + 1 :]]
                signed = a[k, c] if (at + k) % 2 == 0 else s.code.op("neg", a[k, c])
                terms.append((signed, rest))
            known[columns] = s.dot([t for t in terms if s.code.number(t[0]) != 0])
    return known[tuple(range(n))]


def cholesky(s: Scalars, node: Node, operands: list[Values]) -> Values:
    """L with A = L L^T, from the lower half of A; NaN where A is not positive definite."""
    (a,), code = operands, s.code
    n = len(a)
    if n > LARGEST:
        raise Unsupported(f"its matrices have {n} rows, more than {LARGEST}")
    found = np.full((n, n), code.const(0.0), dtype=object)
    for j in range(n):
        for i in range(j, n):
            rest = a[i, j]
            for k in range(j):
                rest = minus(code, rest, found[i, k], found[j, k])
            found[i, j] = code.op("sqrt", rest) if i == j else code.op("div", rest, found[j, j])
    return found


MATRICES: dict[str, Callable[[Any, Node, list[Any]], Any]] = {
    "solve": solve,
    "inv": inverse,
    "det": determinant,
    "logdet": log_determinant,
    "cholesky": cholesky,
}
