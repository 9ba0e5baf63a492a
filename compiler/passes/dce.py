"""Dead code: only what the outputs need is kept, with the inputs in their order."""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.ir.graph import Function, Graph, Node


def eliminate_dead_code(function: Function) -> Function:
    """Copies node by node: unlike elimination of common subexpressions it merges nothing."""
    graph = Graph()
    image: dict[int, Node] = {}
    wanted = [*function.inputs, *(n for _, n in function.outputs)]
    for node in function.graph.needed(wanted):
        operands = [image[i] for i in node.inputs]
        image[node.id] = graph.add(
            node.op, operands, type=node.type, span=node.span, hint=node.hint, **dict(node.attrs)
        )
    return replace(
        function,
        graph=graph,
        inputs=tuple(image[n.id] for n in function.inputs),
        outputs=tuple((name, image[n.id]) for name, n in function.outputs),
    )
