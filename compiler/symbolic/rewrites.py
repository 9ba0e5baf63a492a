"""The rewrites that simplification tries, by name and in this order; each bounded by its own test.

Never sympy's `simplify`: what it does depends on time, version and luck. A rewrite here is a named
identity; whether its result is kept is for the cost model to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.simplify.fu import TR5

Rewrite = Callable[[Any], Any]


@dataclass(frozen=True)
class Named:
    """`applies` keeps the work of `rewrite` small; both look at one expression of bounded size.
    `gain` is how much cheaper the result must be to stand in place of what the user wrote."""

    name: str
    applies: Callable[[Any], bool]
    rewrite: Rewrite
    gain: int = 1


def pythagoras(expr: Any) -> Any:
    """sin² + cos² = 1."""
    return sp.expand_mul(TR5(expr))


def has_squares_of_both(expr: Any) -> bool:
    """sin(a)² and cos(a)² of one argument, in a sum without high powers."""
    squares = {p.base for p in expr.atoms(sp.Pow) if p.exp == 2}
    sines = {f.args[0] for f in squares if isinstance(f, sp.sin)}
    return any(isinstance(f, sp.cos) and f.args[0] in sines for f in squares) and powers_below(expr, 5)


def hyperbolic_pythagoras(expr: Any) -> Any:
    """cosh² - sinh² = 1."""
    squared = expr.replace(
        lambda e: e.is_Pow and e.exp == 2 and isinstance(e.base, sp.cosh),
        lambda e: 1 + sp.sinh(e.base.args[0]) ** 2,
    )
    return sp.expand_mul(squared)


def has_hyperbolic_squares(expr: Any) -> bool:
    squares = {p.base for p in expr.atoms(sp.Pow) if p.exp == 2}
    sines = {f.args[0] for f in squares if isinstance(f, sp.sinh)}
    return any(isinstance(f, sp.cosh) and f.args[0] in sines for f in squares) and powers_below(expr, 5)


def powers_below(expr: Any, limit: int) -> bool:
    """No integer power of a sum at or above the limit, so that expanding stays small."""
    return all(
        not p.exp.is_Integer or abs(int(p.exp)) < limit or not p.base.is_Add for p in expr.atoms(sp.Pow)
    )


def is_small_quotient(expr: Any) -> bool:
    """A rational function of few symbols and low degree: where a gcd is quick."""
    symbols = expr.free_symbols
    if not 0 < len(symbols) <= 4 or sp.count_ops(expr) > 40:
        return False
    if not any(p.exp.is_Integer and p.exp < 0 for p in expr.atoms(sp.Pow)):
        return False
    return bool(expr.is_rational_function(*symbols)) and all(
        p.exp.is_Integer and abs(int(p.exp)) <= 4 for p in expr.atoms(sp.Pow)
    )


def expands(expr: Any) -> bool:
    """A sum with products of sums inside, whose terms may cancel."""
    return bool(expr.is_Add) and powers_below(expr, 4) and len(expr.atoms(sp.Add)) <= 8


def always(expr: Any) -> bool:
    return True


REWRITES: tuple[Named, ...] = (
    Named("collect equal powers", always, lambda e: sp.powsimp(e, combine="exp")),
    Named("sin² + cos² = 1", has_squares_of_both, pythagoras),
    Named("cosh² - sinh² = 1", has_hyperbolic_squares, hyperbolic_pythagoras),
    Named("cancel common factors", is_small_quotient, sp.cancel),
    Named("expand products", expands, sp.expand_mul),
    Named("take out common factors", always, lambda e: sp.factor_terms(e, sign=False), gain=2),
)


def candidates(expr: Any, limit: int) -> list[tuple[Any, int]]:
    """Other forms of an expression with the gain that each must bring, the same ones every time.

    None has more than `limit` operations.

    Each rewrite is applied to the original and to the result of the one before.
    """
    found = {expr: 1}
    current = expr
    for named in REWRITES:
        for start in dict.fromkeys((expr, current)):
            if named.applies(start):
                result = named.rewrite(start)
                if result not in found and sp.count_ops(result) <= limit:
                    found[result] = named.gain
                    current = result
    return list(found.items())


def forms(expr: Any, limit: int) -> list[Any]:
    """The candidates alone, where there is no form of the user's to keep."""
    return [form for form, _ in candidates(expr, limit)]
