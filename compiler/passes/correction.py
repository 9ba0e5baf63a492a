"""The Itô–Stratonovich correction of a drift as a function of its own, for solvers of either calculus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sympy as sp
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.calculus import correction
from ndl.compiler.symbolic.derivatives import leaf_writer, stacked
from ndl.compiler.symbolic.functions import NoDerivative
from ndl.compiler.symbolic.noise import noise_matrix, offsets


def with_correction(model: ModelIR) -> ModelIR:
    """The model with `correction` where the diffusion is a formula that depends on the state."""
    matrix = noise_matrix(model)
    if model.diffusion is None or matrix is None:
        return model
    calculus = matrix.calculus()
    try:
        terms = correction(matrix, calculus)
    except NoDerivative:
        return model
    if not terms:
        return model
    target = Rewriter(model.diffusion.graph)
    inputs = tuple(target.copy(node) for node in model.diffusion.inputs)
    writer = leaf_writer(target, matrix.reader, calculus.lets)
    starts, outputs = offsets(model), []
    for state in model.states:
        at = range(starts[state.name], starts[state.name] + state.size)
        cells = np.empty(state.size, dtype=object)
        for k, j in enumerate(at):
            cells[k] = writer.write(terms.get(j, sp.S.Zero))
        outputs.append((state.name, stacked(target, cells.reshape(state.type.extents))))
    old = model.diffusion
    doc = "What the Itô drift has more than the Stratonovich one."
    function = Function("correction", target.graph, inputs, tuple(outputs), old.params, old.parts, doc)
    return replace(model, correction=function)
