"""How many cells away the residuals of a field problem on a mesh read, for sparse Jacobians."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Tensor

EVERYWHERE = -1


def mesh_reach(model: ModelIR) -> int:
    """The most cells between a residual's node and one that it reads, -1 where it may read any.

    A node of the graph keeps the axis of the mesh in front; from the nodes to points of quadrature and back
    is one cell."""
    assert model.drift is not None
    graph, outputs = model.drift.graph, [n for _, n in model.drift.outputs]
    names = {s.name for s in model.states}
    found: dict[int, int] = {}
    for node in graph.needed(outputs):
        if node.op == "input" and node.attr("name") in names:
            found[node.id] = 0
            continue
        known = [found[i] for i in node.inputs if i in found]
        if known:
            reading = [k for k, i in enumerate(node.inputs) if i in found]
            far = EVERYWHERE in known or not _stays(node, reading)
            found[node.id] = EVERYWHERE if far else max(known) + _more(node)
    reaches = [found[n.id] for n in outputs if n.id in found]
    return EVERYWHERE if EVERYWHERE in reaches else max(reaches, default=0)


def _more(node: Node) -> int:
    return 1 if node.op == "mesh_apply" and node.attr("transposed") else 0


def _stays(node: Node, reading: Sequence[int]) -> bool:
    """Whether what stands at one place of the front axis comes from that place, or from one cell;
    `reading` are the operands that depend on states."""
    if node.op == "mesh_apply":
        return bool(node.attr("axis") == 0)
    if node.op == "neg" or lookup(node.op).scalar is not None:
        return True
    if node.op == "expand":
        return bool(node.attr("axes")[:1] == (0,))
    if node.op in ("index", "slice", "stack", "concat"):
        return bool(node.attr("axis") > 0)
    if node.op in ("sum", "mean") and isinstance(node.type, Tensor):
        axes = node.attr("axes")
        return axes is not None and min(axes, default=0) > 0
    if node.op == "einsum":
        terms, _, result = node.attr("equation").partition("->")
        letter = result[:1]
        own = [t for k, t in enumerate(terms.split(",")) if k in reading]
        return bool(letter) and all(t.startswith(letter) for t in own)
    return False
