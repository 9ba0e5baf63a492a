"""The order of a Runge–Kutta tableau, found from its coefficients by rooted trees.

A method has order p when Σ_i b_i Φ_i(t) = 1/γ(t) for every rooted tree t of at most p vertices
(Butcher 1963; Hairer, Nørsett, Wanner I, theorem II.2.13). Coefficients that are exact (short
fractions) are checked exactly. Others were rounded when they were published: each carries the
uncertainty of its last digit, and a condition holds when its residual lies within the uncertainty
that they leave in it. Pure Python: `ndl check` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from ndl.compiler.diagnostics import Diagnostic
from ndl.compiler.source import Span
from ndl.compiler.symbolic.rooted_trees import (
    GREATEST_ORDER,
    Tree,
    condition_text,
    density,
    tree_text,
    trees,
)
from ndl.compiler.syntax import tree as syntax

Coefficient = Fraction | float | int

LONGEST_EXACT = 10**8
"""Denominators above this are taken for rounded values, not for exact fractions."""

RELATIVE = 4e-16
"""Uncertainty of a float or a long fraction, relative: two units in the last place."""

SAFETY = 8.0
"""Residuals up to this multiple of the propagated uncertainty are accepted."""


@dataclass(frozen=True)
class Coefficients:
    """A tableau as a full matrix: c[s], a[s][s], b[s] and, when it has one, the embedded b_hat[s]."""

    c: tuple[Coefficient, ...]
    a: tuple[tuple[Coefficient, ...], ...]
    b: tuple[Coefficient, ...]
    b_hat: tuple[Coefficient, ...] | None = None

    @property
    def explicit(self) -> bool:
        return all(v == 0 for i, row in enumerate(self.a) for v in row[i:])


@dataclass(frozen=True)
class Violation:
    """The first order condition that fails: its tree, the left side's value and the right side."""

    tree: Tree
    value: Coefficient
    target: Fraction

    def __str__(self) -> str:
        shown = str(self.value) if isinstance(self.value, Fraction) else f"{float(self.value):.9g}"
        return f"`{condition_text(self.tree)}` (tree {tree_text(self.tree)}) has the left side {shown}"


@dataclass(frozen=True)
class Verdict:
    """`order` is the greatest p ≤ the limit whose conditions all hold; `violated` is None at the limit."""

    order: int
    violated: Violation | None = None


# ---------------------------------------------------------------- elementary weights


@dataclass(frozen=True)
class Rounded:
    """A value with a bound of its error: running error analysis, to first order."""

    value: float
    error: float

    def __add__(self, other: Rounded) -> Rounded:
        total = self.value + other.value
        return Rounded(total, self.error + other.error + abs(total) * 1.2e-16)

    def __mul__(self, other: Rounded) -> Rounded:
        product = self.value * other.value
        return Rounded(
            product,
            abs(self.value) * other.error + abs(other.value) * self.error + abs(product) * 1.2e-16,
        )


def uncertainty(v: Coefficient) -> float:
    """A unit of the last decimal written, or the relative one of a float; 0 for exact values."""
    if isinstance(v, float):
        return 0.0 if v.is_integer() else abs(v) * RELATIVE
    denominator = Fraction(v).denominator
    if denominator <= LONGEST_EXACT:
        return 0.0
    decimals = _decimals(denominator)
    floor = abs(float(v)) * RELATIVE
    return max(floor, 10.0**-decimals) if decimals is not None else floor


def _decimals(denominator: int) -> int | None:
    """Digits after the point of a fraction with this denominator, None if they do not end."""
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    return max(twos, fives) if denominator == 1 else None


T = TypeVar("T", Fraction, Rounded)


class _Weights(Generic[T]):
    """Elementary weights of one tableau in one arithmetic, each subtree computed once."""

    def __init__(self, a: Sequence[Sequence[T]], one: T, zero: T) -> None:
        # Zeros are left out: half of an explicit tableau is.
        self.rows: list[list[tuple[int, T]]] = [[(j, v) for j, v in enumerate(row) if v != zero] for row in a]
        self.one: T = one
        self.zero: T = zero
        self.known: dict[Tree, list[T]] = {}

    def inner(self, tree: Tree) -> list[T]:
        """Φ_i(t) at each stage: the product over the root's subtrees of Σ_j a_ij Φ_j."""
        if tree not in self.known:
            stages = [self.one] * len(self.rows)
            if tree:
                # The first subtree splits off: what remains is a smaller tree, known already.
                rest, child = self.inner(tree[1:]), self.inner(tree[0])
                for i, row in enumerate(self.rows):
                    stages[i] = rest[i] * self.dot(row, child)
            self.known[tree] = stages
        return self.known[tree]

    def dot(self, row: Sequence[tuple[int, T]], values: Sequence[T]) -> T:
        total = self.zero
        for j, v in row:
            total = total + v * values[j]
        return total


def order_of(
    a: Sequence[Sequence[Coefficient]], b: Sequence[Coefficient], limit: int = GREATEST_ORDER
) -> Verdict:
    """The order of the method (A, b), at most `limit` ≤ 8, and the first condition that it violates."""
    entries = [v for row in a for v in row] + list(b)
    if all(not isinstance(v, float) and uncertainty(v) == 0 for v in entries):
        return _exact_order(a, b, limit)
    return _rounded_order(a, b, limit)


def _exact_order(a: Sequence[Sequence[Coefficient]], b: Sequence[Coefficient], limit: int) -> Verdict:
    weights = _Weights([[Fraction(v) for v in row] for row in a], Fraction(1), Fraction(0))
    outer = [(i, Fraction(v)) for i, v in enumerate(b) if v]
    for order in range(1, min(limit, GREATEST_ORDER) + 1):
        for tree in trees(order):
            value, target = weights.dot(outer, weights.inner(tree)), Fraction(1, density(tree))
            if value != target:
                return Verdict(order - 1, Violation(tree, value, target))
    return Verdict(min(limit, GREATEST_ORDER))


def _rounded_order(a: Sequence[Sequence[Coefficient]], b: Sequence[Coefficient], limit: int) -> Verdict:
    def enter(v: Coefficient) -> Rounded:
        return Rounded(float(v), max(uncertainty(v), abs(float(v)) * 1.2e-16))

    weights = _Weights([[enter(v) for v in row] for row in a], Rounded(1.0, 0.0), Rounded(0.0, 0.0))
    outer = [(i, enter(v)) for i, v in enumerate(b) if v]
    for order in range(1, min(limit, GREATEST_ORDER) + 1):
        for tree in trees(order):
            got, target = weights.dot(outer, weights.inner(tree)), Fraction(1, density(tree))
            if not abs(got.value - float(target)) <= SAFETY * got.error + 1e-16:
                return Verdict(order - 1, Violation(tree, got.value, target))
    return Verdict(min(limit, GREATEST_ORDER))


def row_sum_error(c: Coefficient, row: Sequence[Coefficient]) -> bool:
    """Does c_i = Σ_j a_ij fail, beyond what rounding of the coefficients explains?"""
    allowed = uncertainty(c) + sum(map(uncertainty, row))
    if allowed == 0 and not any(isinstance(v, float) for v in (c, *row)):
        return Fraction(c) != sum(Fraction(v) for v in row)
    total = sum(Fraction(v) for v in row)
    return abs(float(Fraction(c) - total)) > SAFETY * allowed + 1e-15


# ---------------------------------------------------------------- a written tableau


def coefficients(tableau: syntax.Tableau) -> Coefficients | Diagnostic:
    """A written tableau as full matrices; rows of an explicit one may stop before the diagonal."""
    stages = len(tableau.stages)
    for row in tableau.stages:
        if len(row.a) > stages:
            return _misshapen(row, f"the row has {len(row.a)} coefficients, the tableau {stages} stages")
    for i, row in enumerate(tableau.stages):
        if len(row.a) not in range(i, stages + 1):
            return _misshapen(row, f"row {i + 1} needs {i} coefficients (explicit) or {stages}")
    if not 1 <= len(tableau.outputs) <= 2:
        return Diagnostic(
            "NDL452",
            f"a tableau has one or two rows below its line, not {len(tableau.outputs)}",
            tableau.span,
            notes=("the first is the solution, the second the embedded one",),
        )
    for row in tableau.outputs:
        if len(row.a) != stages:
            return _misshapen(row, f"an output row needs {stages} coefficients, one for each stage")
    a = tuple(row.a + (Fraction(0),) * (stages - len(row.a)) for row in tableau.stages)
    outputs = [row.a for row in tableau.outputs]
    c = tuple(row.c if row.c is not None else Fraction(0) for row in tableau.stages)
    return Coefficients(c, a, outputs[0], outputs[1] if len(outputs) == 2 else None)


def _misshapen(row: syntax.TableauRow, why: str) -> Diagnostic:
    return Diagnostic("NDL452", "a row of the tableau does not fit", row.span, why)


def check_tableau(
    name: str,
    order: float,
    embedded: float | None,
    tableau: syntax.Tableau,
    order_span: Span,
    embedded_span: Span | None = None,
) -> list[Diagnostic]:
    """What is wrong with the tableau of the solver `name`, which claims `order`(`embedded`).

    `order_span` is where the order is claimed; the rows' own spans serve for the rest.
    """
    read = coefficients(tableau)
    if isinstance(read, Diagnostic):
        return [read]
    found = []
    for i, row in enumerate(tableau.stages):
        if row_sum_error(read.c[i], read.a[i]):
            total = sum(Fraction(v) for v in read.a[i])
            shown = str(total) if total.denominator <= LONGEST_EXACT else f"{float(total):.9g}"
            found.append(
                Diagnostic(
                    "NDL451",
                    f"row {i + 1} of the tableau of `{name}` does not sum to its node",
                    row.span,
                    f"the coefficients sum to {shown}, the node is {read.c[i]}",
                    notes=("a stage takes its state and its `t` at one time: c_i = Σ_j a_ij",),
                )
            )
    found.extend(_claim(name, "", order, read.a, read.b, order_span))
    if embedded is not None and read.b_hat is not None:
        where = embedded_span or order_span
        found.extend(_claim(name, "embedded ", embedded, read.a, read.b_hat, where))
    elif embedded is not None:
        found.append(
            Diagnostic(
                "NDL452",
                f"`{name}` claims an embedded order, but its tableau has only one row below its line",
                embedded_span or order_span,
                help="add the embedded row, or leave the second order out",
            )
        )
    return found


def _claim(
    name: str,
    which: str,
    order: float,
    a: Sequence[Sequence[Coefficient]],
    b: Sequence[Coefficient],
    span: Span,
) -> list[Diagnostic]:
    verdict = order_of(a, b, min(int(order), GREATEST_ORDER))
    if verdict.violated is None:
        return []
    row = "the embedded row of its tableau" if which else "its tableau"
    return [
        Diagnostic(
            "NDL450",
            f"`{name}` claims {which}order {order:g} but {row} has order {verdict.order}",
            span,
            f"the coefficients give order {verdict.order}",
            notes=(f"the order condition {verdict.violated}",),
            help=f"correct a coefficient, or claim order {verdict.order}",
        )
    ]
