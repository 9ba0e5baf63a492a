"""Itô ↔ Stratonovich: the same process with the other reading of its noise.

    dx = f dt + g dW (Itô)   ⇔   dx = (f - c) dt + g ∘ dW (Stratonovich),
    c_j = 1/2 Σ_k Σ_i g_ik ∂g_jk/∂x_i

Kloeden, Platen, Numerical Solution of Stochastic Differential Equations, (4.9.11).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.calculus_by_graph import graph_correction
from ndl.compiler.symbolic.derivatives import Differentiator, leaf_writer, stacked
from ndl.compiler.symbolic.functions import NoDerivative
from ndl.compiler.symbolic.noise import NoiseMatrix, noise_matrix, offsets
from ndl.compiler.symbolic.rewrites import forms
from ndl.compiler.types import Tensor


def correction(matrix: NoiseMatrix, calculus: Differentiator) -> dict[int, Any]:
    """c_j for the components j of the state where it is not 0.

    Raises `NoDerivative` where g is not a formula.
    """
    found: dict[int, Any] = {}
    for (j, k), g_jk in matrix.entries.items():
        for (i, other), g_ik in matrix.entries.items():
            if other == k:
                slope = calculus.d(g_jk, matrix.states[i])
                if slope != 0:
                    found[j] = found.get(j, sp.S.Zero) + g_ik * slope / 2
    return {j: least(expr) for j, expr in found.items() if expr != 0}


def least(expr: Any) -> Any:
    """The form with the fewest operations that the rewrites give."""
    if sp.count_ops(expr) > 200:
        return expr
    return min(forms(expr, 400), key=sp.count_ops)


def in_calculus(model: ModelIR, wanted: str) -> ModelIR:
    """The model with the noise read as `ito` or `stratonovich` and its drift corrected to mean the same.

    Raises `NotDifferentiable` when an op of the diffusion has no derivative.
    """
    if model.calculus == wanted or model.diffusion is None or model.drift is None:
        return replace(model, calculus=wanted)
    sign = 1 if wanted == "ito" else -1
    matrix = noise_matrix(model)
    drift = by_formula(model, matrix, sign) if matrix is not None else None
    if drift is None:
        drift = by_graph(model, sign)
    return replace(model, drift=drift, calculus=wanted, jacobian=None, sparsity=None)


def by_formula(model: ModelIR, matrix: NoiseMatrix, sign: int) -> Function | None:
    """The corrected drift with symbolic terms, None when the diffusion is not a formula."""
    calculus = matrix.calculus()
    try:
        terms = correction(matrix, calculus)
    except NoDerivative:
        return None
    if not terms:
        return model.drift
    return corrected(model, matrix, calculus, {j: sign * term for j, term in terms.items()})


def by_graph(model: ModelIR, sign: int) -> Function:
    """The corrected drift with terms from forward derivatives of the graph."""
    assert model.drift is not None and model.diffusion is not None
    target = Rewriter(model.drift.graph)
    for node in model.drift.inputs:
        target.copy(node)
    outputs = {name: target.copy(node) for name, node in model.drift.outputs}
    beside = Rewriter(model.diffusion.graph, into=target.graph)
    diffusion = {name: beside.copy(node) for name, node in model.diffusion.outputs}
    for name, term in graph_correction(target.graph, model, diffusion).items():
        op = "add" if sign > 0 else "sub"
        outputs[name] = target.graph.add(op, [outputs[name], term])
    return target.function(model.drift, outputs.items())


def corrected(
    model: ModelIR, matrix: NoiseMatrix, calculus: Differentiator, terms: dict[int, Any]
) -> Function:
    """The drift plus a term for each component of the flat state."""
    assert model.drift is not None and model.diffusion is not None
    target = Rewriter(model.drift.graph)
    for node in model.drift.inputs:
        target.copy(node)
    outputs = {name: target.copy(node) for name, node in model.drift.outputs}
    # A second rewriter on the same graph: equal inputs and weights of both functions become one.
    beside = Rewriter(model.diffusion.graph, into=target.graph)
    writer = leaf_writer(beside, matrix.reader, calculus.lets)
    starts = offsets(model)
    for state in model.states:
        at = range(starts[state.name], starts[state.name] + state.size)
        if not any(j in terms for j in at):
            continue
        cells: list[Node] = [writer.write(terms.get(j, sp.S.Zero)) for j in at]
        shape = state.type.extents
        added = stacked(beside, np.array(cells, dtype=object).reshape(shape))
        old = outputs[state.name]
        assert isinstance(old.type, Tensor)
        outputs[state.name] = beside.add("add", [old, added], type=old.type, span=old.span)
    return target.function(model.drift, outputs.items())
