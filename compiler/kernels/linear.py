"""Systems of linear equations in registers: unrolled elimination with partial pivoting by selects.

G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed., section 3.4. A pivot is found by exchanging rows
two by two; an entry that is known to be 0 takes part in no operation, and a row whose entry in the pivot's
column is known to be 0 in no exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value

LARGEST = 16
"""Unknowns beyond which unrolled elimination is no longer what pays."""

Matrix = list[list[Value]]


@dataclass
class Factors:
    """P A = L U in one square, the unit diagonal of L left out; `swaps` are exchanges of rows (k, i) under a
    condition, None where it always holds; `inverse` are 1/U[k][k]."""

    code: Code
    a: Matrix
    swaps: list[tuple[int, int, Value | None]] = field(default_factory=list)
    inverse: list[Value] = field(default_factory=list)

    # ------------------------------------------------------------ solving

    def solve(self, b: Sequence[Value]) -> list[Value]:
        """A^-1 b."""
        code, n, y = self.code, len(self.a), list(b)
        at = 0
        for k in range(n):
            while at < len(self.swaps) and self.swaps[at][0] == k:
                _, i, condition = self.swaps[at]
                y[k], y[i] = exchanged(code, condition, y[k], y[i])
                at += 1
            for i in range(k + 1, n):
                y[i] = minus(code, y[i], self.a[i][k], y[k])
        for k in reversed(range(n)):
            for j in range(k + 1, n):
                y[k] = minus(code, y[k], self.a[k][j], y[j])
            y[k] = code.op("mul", y[k], self.inverse[k])
        return y

    def transposed(self, b: Sequence[Value]) -> list[Value]:
        """A^-T b."""
        code, n, y = self.code, len(self.a), list(b)
        for k in range(n):
            for j in range(k):
                y[k] = minus(code, y[k], self.a[j][k], y[j])
            y[k] = code.op("mul", y[k], self.inverse[k])
        at = len(self.swaps)
        for k in reversed(range(n)):
            for i in range(k + 1, n):
                y[k] = minus(code, y[k], self.a[i][k], y[i])
            while at and self.swaps[at - 1][0] == k:
                at -= 1
                _, i, condition = self.swaps[at]
                y[k], y[i] = exchanged(code, condition, y[k], y[i])
        return y


def factorised(code: Code, matrix: Sequence[Sequence[Value]]) -> Factors:
    """The factors of a square matrix. Raises `Unsupported` for a large one."""
    n = len(matrix)
    if n > LARGEST:
        raise Unsupported(f"its linear systems have {n} unknowns, more than {LARGEST}")
    made = Factors(code, [list(row) for row in matrix])
    a = made.a
    for k in range(n):
        for i in range(k + 1, n):
            if code.number(a[i][k]) == 0:
                continue
            condition = None
            if code.number(a[k][k]) != 0:
                condition = code.op("gt", code.op("abs", a[i][k]), code.op("abs", a[k][k]))
            made.swaps.append((k, i, condition))
            # the multipliers of earlier columns stay with the exchanges that come before them
            for j in range(k, n):
                a[k][j], a[i][j] = exchanged(code, condition, a[k][j], a[i][j])
        made.inverse.append(code.op("div", 1.0, a[k][k]))
        for i in range(k + 1, n):
            if code.number(a[i][k]) == 0:
                continue
            a[i][k] = code.op("mul", a[i][k], made.inverse[k])
            for j in range(k + 1, n):
                a[i][j] = minus(code, a[i][j], a[i][k], a[k][j])
    return made


def solved(code: Code, lu: Factors, matrix: Matrix, b: Sequence[Value]) -> list[Value]:
    """u = A^-1 b, whose derivative is that of the equation: with w = A^-T g, w for b and -w u^T for A."""
    since = code.made
    u = lu.solve(b)

    def pull(g: Sequence[Value]) -> list[tuple[Value, Value]]:
        w = lu.transposed(g)
        minus = [code.op("neg", v) for v in w]
        pairs = list(zip(b, w))
        for i, row in enumerate(matrix):
            pairs += [
                (a, code.op("mul", minus[i], u[j])) for j, a in enumerate(row) if code.number(a) is None
            ]
        return pairs

    code.derivative(u, since, pull)
    return u


def exchanged(code: Code, condition: Value | None, a: Value, b: Value) -> tuple[Value, Value]:
    """b, a where the condition holds, else a, b."""
    if condition is None:
        return b, a
    return code.op("select", condition, b, a), code.op("select", condition, a, b)


def minus(code: Code, a: Value, b: Value, c: Value) -> Value:
    """a - b c."""
    if code.number(b) == 0 or code.number(c) == 0:
        return a
    return code.op("fma", code.op("neg", b), c, a)
