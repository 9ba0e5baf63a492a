"""Conditions on coordinates as functions of points: the shape of a domain, a part of its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Unknown, Value
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.geometry.implicit import Implicit, Reader
from ndl.compiler.ir.graph import Function, Graph
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.weights import Weights
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor


def implicit(cond: tree.Expr, coordinates: Sequence[str], scope: Scope) -> Implicit:
    """A condition as a shape. Raises `NDLError` for one that is no comparison or not known when compiling."""
    for node in walk(cond):
        if not isinstance(node, tree.Name) or node.id in coordinates:
            continue
        if isinstance(scope.find(node.id, node.primes), (Value, Unknown)):
            raise fail(
                "NDL445",
                f"`{node.id}` is not known when compiling, and the mesh is made then",
                node.span,
                help="a condition on the coordinates reads numbers, constants and functions",
            )
    reader = Reader()
    structure = reader.read(cond)
    builder = GraphBuilder(Graph(), Weights())
    ev = Evaluator(builder, Sink(), strict=True)
    inputs = {c: builder.add("input", [], Span(), type=Tensor(), name=c) for c in coordinates}
    inner = scope.child({c: Value(Tensor(), node) for c, node in inputs.items()})
    outputs = []
    for k, leaf in enumerate(reader.leaves):
        value = ev.value(ev.eval(leaf, inner), leaf.span)
        if not isinstance(value, Value) or value.type.rank:
            raise fail("NDL446", "a comparison of a shape is of numbers", leaf.span)
        outputs.append((f"f{k}", builder.node(value)))
    function = Function("shape", builder.graph, tuple(inputs.values()), tuple(outputs))
    evaluate = partial(_values, function, coordinates)
    return Implicit(len(coordinates), structure, evaluate, tuple(reader.closed))


def _values(function: Function, coordinates: Sequence[str], points: np.ndarray) -> np.ndarray:
    """The outputs at points `[n, d]`, as `[m, n]`."""
    import torch

    if not len(points):  # vmap has no trip of no samples
        return np.empty((len(function.outputs), 0))

    def at(p: torch.Tensor) -> torch.Tensor:
        found = interpret(function, {c: p[k] for k, c in enumerate(coordinates)})
        return torch.stack([found[name].to(torch.float64) for name, _ in function.outputs])

    with torch.no_grad():
        values = torch.func.vmap(at)(torch.from_numpy(np.ascontiguousarray(points, np.float64)))
    return values.numpy().T
