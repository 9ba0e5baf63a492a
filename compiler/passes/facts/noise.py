"""The kind of a model's noise, read off its diffusion matrix."""

from __future__ import annotations

from typing import Any

import sympy as sp
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.facts.facts import Fact
from ndl.compiler.symbolic.calculus import correction
from ndl.compiler.symbolic.derivatives import Differentiator
from ndl.compiler.symbolic.functions import NoDerivative
from ndl.compiler.symbolic.noise import NoiseMatrix, noise_matrix
from ndl.compiler.symbolic.rewrites import forms
from ndl.compiler.symbolic.text import expr_text

MOST_PAIRS = 400
"""Lie brackets that are computed to decide commutativity."""


def noise_kind(model: ModelIR) -> Fact[str]:
    """additive, scalar, diagonal, commutative or general, the most special first."""
    if model.diffusion is None or not model.diffusion.outputs:
        return Fact("none", "no equation has a noise in it")
    matrix = noise_matrix(model)
    if matrix is None and model.noise_kind == "additive":
        return Fact("additive", "no coefficient of a noise depends on a state")
    if matrix is None:
        return Fact("general", "the diffusion is too large to look into")
    states = set(matrix.states)
    reading = {
        place: sorted(s.name for s in matrix.reader.leaves.support(expr) & states)
        for place, expr in matrix.entries.items()
    }
    if not any(reading.values()):
        return Fact("additive", "no coefficient of a noise depends on a state")
    reader = next(name for names in reading.values() for name in names)
    if matrix.columns == 1:
        return Fact("scalar", f"one noise drives the model, with a coefficient that depends on `{reader}`")
    return structured(matrix) or commuting(matrix)


def structured(matrix: NoiseMatrix) -> Fact[str] | None:
    """Diagonal: each component has a noise of its own, with a coefficient of that component alone."""
    rows = [i for i, _ in matrix.entries]
    columns = [k for _, k in matrix.entries]
    if len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        return None
    states = set(matrix.states)
    for (i, _), expr in matrix.entries.items():
        if matrix.reader.leaves.support(expr) & states - {matrix.states[i]}:
            return None
    return Fact("diagonal", "each component has its own noise, with a coefficient of that component alone")


def commuting(matrix: NoiseMatrix) -> Fact[str]:
    """Commutative when Σ_i g_ij ∂g_lk/∂x_i = Σ_i g_ik ∂g_lj/∂x_i for all j, k and l.

    Kloeden, Platen (10.3.13).
    """
    calculus = matrix.calculus()
    columns = range(matrix.columns)
    if matrix.columns**2 * len(matrix.states) > MOST_PAIRS:
        return Fact("general", f"{matrix.columns} noises are too many to check whether they commute")
    try:
        for j in columns:
            for k in range(j):
                for l in range(len(matrix.states)):
                    bracket = lie(matrix, calculus, l, j, k)
                    if not vanishes(bracket):
                        return Fact(
                            "general",
                            f"the noises do not commute: their bracket for `{matrix.states[l].name}` is "
                            f"`{expr_text(bracket)}`",
                        )
    except NoDerivative as e:
        return Fact("general", f"`{e}` in the diffusion has no symbolic derivative")
    return Fact("commutative", "the noises commute: Σ g_ij ∂g_lk/∂x_i is symmetric in j and k")


def lie(matrix: NoiseMatrix, calculus: Differentiator, l: int, j: int, k: int) -> Any:
    """Component l of the bracket of columns j and k."""

    def along(a: int, b: int) -> Any:
        target = matrix.entries.get((l, b), sp.S.Zero)
        return sp.Add(
            *(
                expr * calculus.d(target, matrix.states[i])
                for (i, column), expr in matrix.entries.items()
                if column == a
            )
        )

    return along(j, k) - along(k, j)


def vanishes(expr: Any) -> bool:
    """Is an expression 0 in one of the forms that the bounded rewrites give?"""
    return any(candidate == 0 for candidate in forms(expr, 400))


def drift_correction(model: ModelIR) -> Fact[tuple[tuple[str, str], ...] | None]:
    """The term that separates Itô from Stratonovich, for each component where it is not 0."""
    other = "stratonovich" if model.calculus == "ito" else "ito"
    matrix = noise_matrix(model)
    if model.diffusion is None or not model.diffusion.outputs:
        return Fact((), "without noise the two calculi are one")
    if matrix is None:
        return Fact(None, "the diffusion is too large for a symbolic correction")
    try:
        calculus = matrix.calculus()
        terms = correction(matrix, calculus)
    except NoDerivative as e:
        return Fact(None, f"`{e}` in the diffusion has no symbolic derivative")
    if not terms:
        return Fact((), f"the {other} drift is the same: the noise does not depend on the states it drives")
    sign = -1 if other == "stratonovich" else 1
    found = tuple((matrix.states[j].name, expr_text(sign * term)) for j, term in sorted(terms.items()))
    shown = ", ".join(f"`{text}` to the rate of `{name}`" for name, text in found)
    return Fact(found, f"a solver for the {other} calculus adds {shown}")
