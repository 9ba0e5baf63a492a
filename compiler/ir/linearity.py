"""Whether a value is linear in another one, by what the ops are linear in."""

from __future__ import annotations

from ndl.compiler.ir.autodiff import dependents
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.ops.table import lookup


def is_linear(graph: Graph, y: Node, x: Node) -> bool:
    """Whether y is proved to be linear in x: each op on the way is so in what comes from x, and what is added
    to that is 0."""
    needed = graph.needed([y])
    moving = dependents(graph, [x], needed)
    return all(n.id == x.id or _step(graph, n, moving) for n in needed if n.id in moving) and y.id in moving


def _step(graph: Graph, node: Node, moving: set[int]) -> bool:
    entry, operands = lookup(node.op), graph.operands(node)
    from_x = [k for k, o in enumerate(operands) if o.id in moving]
    if node.op == "apply_transposed" or node.op == "apply":
        return len(operands) == 1
    if entry.multilinear:
        return len(from_x) == 1
    others = [operands[k] for k in entry.linear if k < len(operands) and k not in from_x]
    return set(from_x) <= set(entry.linear) and all(_is_zero(o) for o in others)


def _is_zero(node: Node) -> bool:
    value = node.attr("value") if node.op == "const" else None
    return isinstance(value, (int, float)) and value == 0


__all__ = ["is_linear"]
