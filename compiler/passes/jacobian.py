"""The Jacobian of a model's drift as a function of its own, for implicit methods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.cost import total_cost
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.derivatives import Jacobian, jacobian, leaf_writer, stacked
from ndl.compiler.symbolic.rewrites import forms
from ndl.compiler.symbolic.shared import share
from ndl.compiler.symbolic.writer import Unprintable, Writer
from ndl.compiler.types import SCALAR

MOST_STATES = 32
"""Components of the state above which automatic differentiation and colouring take over."""

MOST_WORK = 20_000
"""Additions above which the formula is no gain over automatic differentiation."""

LARGEST_ENTRY = 200
"""Nodes of an entry above which it is not simplified."""


def with_jacobian(model: ModelIR) -> ModelIR:
    """The model with `jacobian` and `sparsity` where the drift has a symbolic derivative."""
    found = drift_jacobian(model)
    if found is None or model.drift is None:
        return model
    function = jacobian_function(model.drift, found)
    if function is None:
        return replace(model, sparsity=found.sparsity)
    return replace(model, jacobian=function, sparsity=found.sparsity)


def state_inputs(model: ModelIR, function: Function) -> list[Node]:
    """The input nodes of the states, in the model's order."""
    by_name = {node.attr("name"): node for node in function.inputs}
    return [by_name[state.name] for state in model.states]


def drift_jacobian(model: ModelIR) -> Jacobian | None:
    """The symbolic Jacobian of the drift, None for large models and drifts that are not formulas."""
    if model.drift is None or sum(state.size for state in model.states) > MOST_STATES:
        return None
    return jacobian(model.drift.graph, drift_outputs(model), state_inputs(model, model.drift))


def drift_outputs(model: ModelIR) -> list[Node]:
    """The drift's outputs in the order of the states they are named after, residuals in their place."""
    assert model.drift is not None
    return [node for _, node in model.drift.outputs]


def jacobian_function(drift: Function, found: Jacobian) -> Function | None:
    """One output `jacobian`, a matrix; its entries simplified, with shared subexpressions."""
    entries = {place: cheapest_form(found, expr) for place, expr in found.entries.items()}
    shared, reduced = share([*found.lets.values(), *entries.values()])
    lets = shared | dict(zip(found.lets, reduced))
    written = dict(zip(entries, reduced[len(found.lets) :]))
    target = Rewriter(drift.graph)
    inputs = tuple(target.copy(node) for node in drift.inputs)
    writer = leaf_writer(target, found.reader, lets)
    cells = np.empty((found.rows, found.columns), dtype=object)
    try:
        for place in np.ndindex(cells.shape):
            cells[place] = writer.write(written.get(place, sp.S.Zero))
    except Unprintable:
        return None
    output = stacked(target, cells)
    if total_cost(target.graph, target.graph.needed([output])) > MOST_WORK:
        return None
    return Function(
        "jacobian",
        target.graph,
        inputs,
        (("jacobian", output),),
        drift.params,
        drift.parts,
        "The derivative of the drift by the state, row by row.",
    )


def cheapest_form(found: Jacobian, expr: Any) -> Any:
    """The candidate that costs least when written alone; the first of equals."""
    if found.reader.size(expr) > LARGEST_ENTRY:
        return expr
    best, least = expr, None
    for candidate in forms(expr, LARGEST_ENTRY):
        price = price_of(candidate)
        if price is not None and (least is None or price < least):
            best, least = candidate, price
    return best


def price_of(expr: Any) -> int | None:
    """The cost of an expression whose symbols are free."""
    scratch = Rewriter(Graph())
    try:
        Writer(scratch, lambda symbol: scratch.add("input", type=SCALAR, name=symbol.name)).write(expr)
    except Unprintable:
        return None
    return total_cost(scratch.graph, scratch.graph)
