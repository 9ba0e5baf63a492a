"""The values whose change of sign is a discontinuity of a right-hand side, as a function of their own.

A comparison `a < b` changes where a - b does, `max(a, b)` where a - b does, `abs(a)` and `sign(a)` at a = 0,
`floor(a)` where a passes a whole number, which `sin(pi a)` sees.
"""

from __future__ import annotations

import math

from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.facts.breaks import LOGIC
from ndl.compiler.types import Tensor

DIFFERENCES = frozenset({"lt", "le", "gt", "ge", "maximum", "minimum"})
ZEROS = frozenset({"abs", "sign", "relu", "elu"})
STEPS = frozenset({"floor", "ceil", "round", "floordiv", "mod"})


def breaks_of(drift: Function, smooth: frozenset[int] = frozenset()) -> Function | None:
    """`drift`'s inputs to its break values; None when it has none. `smooth` are nodes that opted out."""
    graph = Graph()
    image: dict[int, Node] = {}
    moving: set[int] = set()
    found: list[Node] = []
    for node in drift.graph.needed([n for _, n in drift.outputs] + list(drift.inputs)):
        operands = [image[i] for i in node.inputs]
        copy = graph.add(
            node.op, operands, type=node.type, span=node.span, hint=node.hint, **dict(node.attrs)
        )
        image[node.id] = copy
        if node.op in ("input", "path") or any(i in moving for i in node.inputs):
            moving.add(node.id)
        if node.id not in moving or node.id in smooth or not lookup(node.op).breaks or node.op in LOGIC:
            continue
        value = break_value(graph, node.op, operands)
        if value is not None:
            found.append(value)
    if not found:
        return None
    inputs = tuple(image[n.id] for n in drift.inputs)
    outputs = tuple((f"break{k}", v) for k, v in enumerate(found))
    return eliminate_dead_code(
        Function("breaks", graph, inputs, outputs, drift.params, drift.parts, drift.doc)
    )


def break_value(graph: Graph, op: str, operands: list[Node]) -> Node | None:
    """What changes sign where the operation breaks."""
    if op in DIFFERENCES:
        return graph.add("sub", operands)
    if op in ZEROS:
        x = operands[0]
        return None if isinstance(x.type, Tensor) and x.type.kind == "C" else x
    if op in STEPS:
        x = graph.add("div", operands) if op in ("floordiv", "mod") else operands[0]
        if op == "round":
            x = graph.add("add", [x, filled(graph, x, 0.5)])
        return graph.add("sin", [graph.add("mul", [x, filled(graph, x, math.pi)])])
    return None


def filled(graph: Graph, like: Node, value: float) -> Node:
    """A constant in the shape of another value."""
    constant = graph.add("const", value=value)
    if not isinstance(like.type, Tensor) or not like.type.shape:
        return constant
    return graph.add("expand", [constant], shape=like.type.extents, axes=())
