"""Facts that are algebra on the rates: linear parts and conserved sums."""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm
from typing import Any

import sympy as sp
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.facts.facts import Conserved, Fact, LinearPart
from ndl.compiler.passes.facts.view import View
from ndl.compiler.symbolic.noise import noise_matrix
from ndl.compiler.symbolic.rewrites import powers_below
from ndl.compiler.symbolic.text import expr_text
from sympy.core.sorting import default_sort_key

MOST_TERMS = 2000
"""Terms of all rates together up to which conserved sums are looked for."""


def expanded(expr: Any) -> Any:
    """A sum of products, where multiplying out stays small."""
    return sp.expand(expr, deep=False) if powers_below(expr, 6) and sp.count_ops(expr) <= 200 else expr


def terms_of(expr: Any) -> list[Any]:
    return sorted(sp.Add.make_args(expanded(expr)), key=default_sort_key)


def linear_parts(view: View) -> tuple[Fact[tuple[LinearPart, ...] | None], Fact[bool | None]]:
    """Each rate as terms `constant * state` and the rest; and whether no rest depends on a state."""
    states = set(view.symbols)
    found, bent = [], []
    for name, rate in zip(view.names, view.rates):
        linear: list[Any] = []
        rest: list[Any] = []
        for term in terms_of(rate):
            (linear if is_linear(view, term, states) else rest).append(term)
        if any(view.reader.leaves.support(term) & states for term in rest):
            bent.append(name)
        found.append(LinearPart(name, expr_text(sp.Add(*linear)), expr_text(sp.Add(*rest))))
    if not bent:
        why = "every rate is linear in the states, with constant coefficients"
    elif any(part.linear != "0" for part in found):
        places = ("equation" if algebraic else "rate" for algebraic in view.algebraic)
        told = (
            f"`{part.linear}` in the {place} of `{part.state}`"
            for part, place in zip(found, places)
            if part.linear != "0"
        )
        shown = ", ".join(told)
        why = f"linear with constant coefficients: {shown}; the rest is not"
    else:
        why = "no rate has a term that is linear in the states with a constant coefficient"
    sentence = why if not bent else f"the rate of `{bent[0]}` is not linear in the states"
    return Fact(tuple(found), why), Fact(not bent, sentence)


def is_linear(view: View, term: Any, states: set[Any]) -> bool:
    """A constant times one component of the state."""
    factors = [f for f in sp.Mul.make_args(term) if view.reader.leaves.support(f)]
    return len(factors) == 1 and factors[0] in states


# ---------------------------------------------------------------- conserved sums


def conserved_sums(view: View) -> Fact[tuple[Conserved, ...]]:
    """Constant vectors c with Σ c_i f_i = 0 (and Σ c_i g_ik = 0 for every noise) identically.

    Terms of the rates are taken for independent, so that what is found holds, and a sum that holds only by
    an identity among them is not found.
    """
    earlier = {s.name for s in view.model.states if s.source is not None}
    kept = [i for i, name in enumerate(view.owners) if not view.algebraic[i] and name not in earlier]
    columns = [dict(view_terms(view.rates[i])) for i in kept]
    noise = noise_terms(view.model)
    if noise is None:
        return Fact((), "the diffusion is too large to look into")
    for column, i in zip(columns, kept):
        column.update(noise.get(i, {}))
    if sum(map(len, columns)) > MOST_TERMS:
        return Fact((), "the rates have too many terms to look for conserved sums")
    keys = sorted({k for column in columns for k in column}, key=lambda k: (k[0], default_sort_key(k[1])))
    rows = [[Fraction(column.get(key, Fraction(0))) for column in columns] for key in keys]
    found = []
    for vector in nullspace(rows, len(kept)):
        full = [Fraction(0)] * len(view.names)
        for i, c in zip(kept, vector):
            full[i] = c
        total = sp.Add(*(sp.Rational(c.numerator, c.denominator) * s for c, s in zip(full, view.symbols)))
        found.append(Conserved(tuple(full), expr_text(total)))
    if not found:
        return Fact((), "no sum of states with constant coefficients is kept")
    shown = ", ".join(f"`{c.text}`" for c in found)
    return Fact(tuple(found), f"the rates cancel in {shown}")


def view_terms(rate: Any) -> list[tuple[tuple[int, Any], Fraction]]:
    """Terms of a rate without their rational coefficients, and these; -1 marks the drift."""
    found = []
    for term in terms_of(rate):
        coefficient, rest = term.as_coeff_Mul(rational=True)
        if coefficient != 0:
            found.append(((-1, rest), Fraction(int(coefficient.p), int(coefficient.q))))
    return found


def noise_terms(model: ModelIR) -> dict[int, dict[tuple[int, Any], Fraction]] | None:
    """The terms of each row of the diffusion, marked by the column they belong to."""
    if model.diffusion is None:
        return {}
    matrix = noise_matrix(model)
    if matrix is None:
        return None
    found: dict[int, dict[tuple[int, Any], Fraction]] = {}
    for (i, k), expr in matrix.entries.items():
        for (_, rest), coefficient in view_terms(expr):
            found.setdefault(i, {})[k, rest] = coefficient
    return found


def nullspace(rows: list[list[Fraction]], width: int) -> list[tuple[Fraction, ...]]:
    """Vectors c with M c = 0, as small integers, by exact elimination; in the order of the free columns."""
    matrix = [row[:] for row in rows]
    pivots: list[int] = []
    for column in range(width):
        below = next((r for r in range(len(pivots), len(matrix)) if matrix[r][column]), None)
        if below is None:
            continue
        top = len(pivots)
        matrix[top], matrix[below] = matrix[below], matrix[top]
        lead = matrix[top][column]
        matrix[top] = [v / lead for v in matrix[top]]
        for r, row in enumerate(matrix):
            if r != top and row[column]:
                factor = row[column]
                matrix[r] = [a - factor * b for a, b in zip(row, matrix[top])]
        pivots.append(column)
    return [basis_vector(matrix, pivots, free, width) for free in range(width) if free not in pivots]


def basis_vector(
    matrix: list[list[Fraction]], pivots: list[int], free: int, width: int
) -> tuple[Fraction, ...]:
    """The solution with 1 in one free column, scaled to integers whose first entry is positive."""
    vector = [Fraction(0)] * width
    vector[free] = Fraction(1)
    for row, pivot in enumerate(pivots):
        vector[pivot] = -matrix[row][free]
    scale = Fraction(lcm(*(v.denominator for v in vector)), gcd(*(v.numerator for v in vector)) or 1)
    first = next(v for v in vector if v)
    return tuple(v * scale * (1 if first > 0 else -1) for v in vector)
