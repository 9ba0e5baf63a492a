"""Derivatives of graphs as nodes of the same graph.

`pullback` goes backwards by the ops' own rules. `pushforward` goes forwards with tangents that have
extra trailing axes, so that the Jacobian of a vector is a few array operations, not one for each
entry. A call is differentiated through a spliced copy of what it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.splice import part_of, splice
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.adjoint import zeros
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Dim, Tensor


class NotDifferentiable(InternalError):
    """An op on the way has no derivative."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"`{node.op}` has no derivative", "NDL902")
        self.node = node


def dependents(graph: Graph, wrt: Sequence[Node], among: Sequence[Node]) -> set[int]:
    """Ids of the nodes that are computed from some of `wrt`, those included."""
    found = {n.id for n in wrt}
    for node in among:
        if any(i in found for i in node.inputs):
            found.add(node.id)
    return found


def pullback(
    graph: Graph,
    output: Node,
    cotangent: Node,
    wrt: Sequence[Node],
    *,
    stop: Sequence[Node] = (),
    parts: Mapping[str, Function] | None = None,
) -> list[Node | None]:
    """The cotangents of `wrt` for a cotangent of `output`; None where it does not depend on one.

    What stands in `stop` is taken as independent of everything.
    """
    barrier = {n.id for n in stop}
    order = [n for n in graph.needed([output])]
    live = dependents(graph, wrt, [n for n in order if n.id not in barrier])
    wanted = {n.id for n in wrt}
    found: dict[int, Node] = {output.id: cotangent}
    for node in reversed(order):
        g = found.get(node.id)
        if g is None or node.id not in live or node.id in barrier:
            continue
        if not any(i in live for i in node.inputs) or (node.id in wanted and not node.inputs):
            continue
        operands = graph.operands(node)
        for operand, c in zip(operands, _vjp(graph, node, operands, g, live, parts)):
            if c is None or operand.id not in live:
                continue
            earlier = found.get(operand.id)
            found[operand.id] = c if earlier is None else graph.add("add", [earlier, c])
    return [found.get(n.id) for n in wrt]


def _vjp(
    graph: Graph,
    node: Node,
    operands: Sequence[Node],
    g: Node,
    live: set[int],
    parts: Mapping[str, Function] | None,
) -> Sequence[Node | None]:
    if node.op == "call":
        copy = _spliced(graph, node, operands, parts)
        inner = list(dict.fromkeys(o for o in operands if o.id in live))
        found = dict(zip((n.id for n in inner), pullback(graph, copy, g, inner, stop=inner, parts=parts)))
        seen: set[int] = set()
        result: list[Node | None] = []
        for o in operands:
            result.append(None if o.id in seen else found.get(o.id))
            seen.add(o.id)
        return result
    rule = lookup(node.op).vjp
    if rule is None:
        raise NotDifferentiable(node)
    return rule(graph, node, operands, g)


def _spliced(
    graph: Graph, node: Node, operands: Sequence[Node], parts: Mapping[str, Function] | None
) -> Node:
    """What a call computes, from the same operands; its weights keep dotted names."""
    instance = node.attr("instance")
    part = part_of(Function("", graph, (), (), parts=parts or {}), instance)
    given = dict(zip((n.attr("name") for n in part.inputs), operands))
    outputs = splice(graph, part, given, instance, True)
    index: int = node.attr("index", 0)
    return outputs[index]


def gradient(
    graph: Graph,
    output: Node,
    wrt: Sequence[Node],
    parts: Mapping[str, Function] | None = None,
) -> list[Node]:
    """The gradient of a scalar by each of `wrt`, of their shapes; zeros where there is no dependence."""
    if shape_of(output):
        raise InternalError("a gradient is of a scalar", "NDL902")
    one = graph.add("const", value=1.0)
    found = pullback(graph, output, one, wrt, parts=parts)
    return [g if g is not None else zeros(graph, shape_of(n)) for g, n in zip(found, wrt)]


def jvp(
    graph: Graph,
    output: Node,
    wrt: Sequence[Node],
    tangents: Sequence[Node],
    parts: Mapping[str, Function] | None = None,
) -> Node:
    """The derivative of `output` along the tangents, of its shape."""
    seeds = {n.id: t for n, t in zip(wrt, tangents)}
    found = pushforward(graph, output, seeds, (), parts=parts)
    return found if found is not None else zeros(graph, shape_of(output))


def jacobian(graph: Graph, output: Node, wrt: Node, parts: Mapping[str, Function] | None = None) -> Node:
    """The derivative of `output` by `wrt`, of shape `output.shape + wrt.shape`."""
    if not shape_of(output):
        return gradient(graph, output, [wrt], parts)[0]
    extra = shape_of(wrt)
    found = pushforward(graph, output, {wrt.id: identity(graph, extra)}, extra, parts=parts)
    return found if found is not None else zeros(graph, shape_of(output) + extra)


def identity(graph: Graph, shape: Sequence[Dim]) -> Node:
    """The derivative of a value by itself, of shape `shape + shape`."""
    if not shape:
        return graph.add("const", value=1.0)
    if len(shape) == 1 and shape[0].constant is None:
        one = graph.add("const", value=1.0)
        return graph.add("diag", [graph.add("expand", [one], shape=tuple(shape), axes=())])
    extents = Tensor("R", tuple(shape)).extents
    n = 1
    for extent in extents:
        n *= extent
    flat = graph.add("const", value=tuple(tuple(float(i == j) for j in range(n)) for i in range(n)))
    return flat if len(extents) == 1 else graph.add("reshape", [flat], shape=extents + extents)


def pushforward(
    graph: Graph,
    output: Node,
    seeds: Mapping[int, Node],
    extra: tuple[Dim, ...],
    *,
    parts: Mapping[str, Function] | None = None,
) -> Node | None:
    """The tangent of `output`, of shape `output.shape + extra`, for tangents of some nodes."""
    from ndl.compiler.ir.tangents import tangent

    found: dict[int, Node] = dict(seeds)
    sources = [graph[i] for i in seeds]
    order = graph.needed([output])
    live = dependents(graph, sources, order)
    for node in order:
        if node.id not in live or node.id in found:
            continue
        operands = graph.operands(node)
        dots = [found.get(o.id) for o in operands]
        if all(d is None for d in dots):
            continue
        if node.op == "call":
            copy = _spliced(graph, node, operands, parts)
            inner = {o.id: d for o, d in zip(operands, dots) if d is not None}
            value = pushforward(graph, copy, inner, extra, parts=parts)
        else:
            value = tangent(graph, node, operands, dots, extra)
        if value is not None:
            found[node.id] = value
    return found.get(output.id)
