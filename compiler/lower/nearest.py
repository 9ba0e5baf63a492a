"""Of a shape by a condition its curves with their derivatives, for Newton's method for the nearest point."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Value
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.geometry.implicit import Reader
from ndl.compiler.ir.autodiff import jacobian
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.weights import Weights
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor


def curves(cond: tree.Expr, coordinates: Sequence[str], scope: Scope) -> Function:
    """Of each curve f, its first derivatives and the second ones by x_i and x_j, i <= j, in one function of
    the coordinates."""
    reader = Reader()
    reader.read(cond)
    graph, weights = Graph(), Weights()
    builder = GraphBuilder(graph, weights)
    ev = Evaluator(builder, Sink(), strict=True)
    inputs = [builder.add("input", [], Span(), type=Tensor(), name=f"x{k}") for k in range(len(coordinates))]
    inner = scope.child({c: Value(Tensor(), node) for c, node in zip(coordinates, inputs)})
    outputs: list[Node] = []
    for leaf in reader.leaves:
        value = ev.value(ev.eval(leaf, inner), leaf.span)
        if not isinstance(value, Value) or value.type.rank:
            raise fail("NDL446", "a comparison of a shape is of numbers", leaf.span)
        f = builder.node(value)
        slopes = [jacobian(graph, f, x, {}) for x in inputs]
        bends = [jacobian(graph, slopes[i], x, {}) for i in range(len(inputs)) for x in inputs[i:]]
        outputs += [f, *slopes, *bends]
    named = tuple((f"y{k}", node) for k, node in enumerate(outputs))
    return Function("Curves", graph, tuple(inputs), named)


__all__ = ["curves"]
