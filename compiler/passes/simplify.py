"""Algebra on scalar regions: each is kept or replaced by a cheaper equal form.

A region is what lies between a scalar node that others need (an output, an operand of something that
is not scalar arithmetic) and the nodes that cannot be read. All bounds are counts, so that the
result does not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.passes.cost import total_cost
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.symbolic.bridge import Budget, Reader
from ndl.compiler.symbolic.rewrites import candidates
from ndl.compiler.symbolic.writer import Unprintable, Writer
from ndl.compiler.types import Tensor


@dataclass(frozen=True)
class Simplify:
    """`size`: greatest expression that is looked at; `regions`: how many, in the order of the graph;
    `work`: how many nodes may be rebuilt to compare costs."""

    size: int = 120
    regions: int = 128
    work: int = 60_000


def simplify(function: Function, options: Simplify | None = None) -> Function:
    """The function with each scalar region in the cheapest form found; its parts likewise."""
    options = options or Simplify()
    parts = {name: simplify(part, options) for name, part in function.parts.items()}
    function = replace(function, parts=parts)
    reader = Reader(function.graph, Budget(size=options.size), scalars_only=True)
    chosen: dict[int, Any] = {}
    most = min(options.regions, options.work // (8 * (1 + len(function.graph))))
    for root in roots(function, reader)[:most]:
        best = cheapest(function, reader, root, chosen, options)
        if best is not None:
            chosen[root.id] = best
    return rebuilt(function, reader, chosen) if chosen else function


def roots(function: Function, reader: Reader) -> list[Node]:
    """Scalar nodes where regions end, operands before users."""
    outputs = {n.id for _, n in function.outputs}
    found = []
    for node in function.graph.needed([n for _, n in function.outputs]):
        if not readable(node, reader):
            continue
        users = function.graph.users(node)
        if node.id in outputs or node.id in reader.cut or any(not readable(u, reader) for u in users):
            found.append(node)
    return found


def readable(node: Node, reader: Reader) -> bool:
    """Is the node arithmetic on real scalars, so that its expression is more than a symbol?"""
    if not isinstance(node.type, Tensor) or node.type.rank or node.type.kind != "R":
        return False
    cells = reader.read(node)
    if cells is None or node.op in ("const", "input", "param"):
        return False
    expr = cells[()]
    leaf = reader.leaves.of.get(expr)
    return leaf is None or leaf.node.id != node.id or leaf.definition is not None


def cheapest(
    function: Function, reader: Reader, root: Node, chosen: dict[int, Any], options: Simplify
) -> Any | None:
    """The form of a root that makes the whole function cheapest, None when its own is."""
    cells = reader.read(root)
    assert cells is not None
    expr = cells[()]
    leaf = reader.leaves.of.get(expr)
    if leaf is not None and leaf.node.id == root.id:
        expr = leaf.definition  # cut here: its definition is what can be simplified
        if reader.size(expr) > 2 * options.size:
            return None
    best, least = None, cost(function, reader, chosen)
    own = least
    for candidate, gain in candidates(expr, 2 * options.size):
        try:
            found = cost(function, reader, {**chosen, root.id: candidate})
        except Unprintable:
            continue
        if found < least and found <= own - gain:
            best, least = candidate, found
    return best


def cost(function: Function, reader: Reader, chosen: dict[int, Any]) -> int:
    new = rebuilt(function, reader, chosen)
    return total_cost(new.graph, new.graph.needed([n for _, n in new.outputs]))


def rebuilt(function: Function, reader: Reader, chosen: dict[int, Any]) -> Function:
    """The function with chosen nodes written anew and the rest copied, as far as it is needed."""
    target = Rewriter(function.graph)
    graph = function.graph

    def place(node: Node) -> Node:
        """The image of a node, found without recursion over long chains."""
        for old in needed(function, reader, chosen, [node]):
            if old.id not in target.image:
                if old.id in chosen:
                    writer = Writer(target, lambda s: target.image[reader.leaves.of[s].node.id], old.span)
                    target.image[old.id] = writer.write(chosen[old.id])
                else:
                    target.image[old.id] = target.remake(old)
        return target.image[node.id]

    for node in function.inputs:
        target.image[node.id] = target.copy(graph[node.id])
    outputs = tuple((name, place(node)) for name, node in function.outputs)
    return target.function(function, outputs)


def needed(function: Function, reader: Reader, chosen: dict[int, Any], wanted: Iterable[Node]) -> list[Node]:
    """What must be built for some nodes when chosen ones are written from their symbols: ids ascend
    along every dependence, so that sorting them orders the work."""
    open_, found = [n.id for n in wanted], set[int]()
    while open_:
        id = open_.pop()
        if id in found:
            continue
        found.add(id)
        if id in chosen:
            open_.extend(reader.leaves.of[s].node.id for s in chosen[id].free_symbols)
        else:
            open_.extend(function.graph[id].inputs)
    return [function.graph[id] for id in sorted(found)]
