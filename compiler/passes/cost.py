"""A model of what operations cost, in additions: good enough to choose between two forms."""

from __future__ import annotations

from collections.abc import Iterable

from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.types import Tensor

FREE = frozenset({"const", "input", "param", "path", "index", "stop_gradient", "reshape", "slice"})

CHEAP = frozenset(
    {"add", "sub", "mul", "neg", "abs", "sign", "maximum", "minimum", "relu", "select"}
    | {"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "floor", "ceil", "round"}
    | {"expand", "permute", "stack", "concat", "gather"}
)

DIVISION, ROOT, FUNCTION = 4, 6, 16


def cost_of(graph: Graph, node: Node) -> int:
    """Additions that an operation is worth, its operands not counted."""
    components = 1
    if isinstance(node.type, Tensor):
        for n in node.type.shape:
            components *= n.constant or 1
    return components * unit_cost(graph, node)


def unit_cost(graph: Graph, node: Node) -> int:
    if node.op in FREE:
        return 0
    if node.op in CHEAP:
        return 1
    if node.op in ("div", "floordiv", "mod"):
        return DIVISION
    if node.op == "sqrt":
        return ROOT
    if node.op == "pow":
        exponent = graph.operands(node)[1].attr("value")
        if isinstance(exponent, int | float) and float(exponent).is_integer() and 0 < exponent <= 64:
            # Squarings and products of a binary power.
            return int(exponent).bit_length() + int(exponent).bit_count() - 2
        return 2 * FUNCTION
    return FUNCTION


def total_cost(graph: Graph, nodes: Iterable[Node]) -> int:
    """The cost of nodes, each once."""
    return sum(cost_of(graph, node) for node in nodes)
