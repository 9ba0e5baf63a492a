"""The structure of a right-hand side: elementwise maps, and affine maps between them.

Every value that changes in a run is an affine function of *bases*: the inputs of the function and the
results of its elementwise maps. An elementwise map is as large as it can be: all ops between its result and
its leaves act on each place by itself, so that the map may be evaluated at chosen places alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.inline import inline
from ndl.compiler.types import Tensor

SOURCES = frozenset({"input", "path"})


def extents(node: Node) -> tuple[int, ...]:
    assert isinstance(node.type, Tensor)
    return node.type.extents


def size_of(node: Node) -> int:
    """The number of entries of a node's value."""
    return prod(extents(node))


@dataclass(frozen=True)
class Region:
    """An elementwise map: its result, the ops inside (ids), and the affine values that it is a function of.
    A leaf is a number or has the shape of the result."""

    root: Node
    inner: frozenset[int]
    leaves: tuple[Node, ...]


@dataclass(frozen=True)
class Structure:
    """A function without calls whose outputs are affine in its sources and regions; both in topological
    order."""

    function: Function
    live: frozenset[int]
    sources: tuple[Node, ...]
    regions: tuple[Region, ...]

    @property
    def graph(self) -> Graph:
        return self.function.graph

    @property
    def bases(self) -> frozenset[int]:
        return frozenset([n.id for n in self.sources] + [r.root.id for r in self.regions])

    def reads(self, target: Node) -> Iterator[Node]:
        """The bases of which a value is an affine function, in topological order."""
        bases, seen, stack, found = self.bases, set[int](), [target.id], list[int]()
        while stack:
            i = stack.pop()
            if i in seen or i not in self.live:
                continue
            seen.add(i)
            if i in bases:
                found.append(i)
            else:
                stack.extend(self.graph[i].inputs)
        return (self.graph[i] for i in sorted(found))


def structure_of(function: Function, name: str) -> Structure:
    """The structure of a right-hand side of the model `name`. Raises NDL670 for an op that is neither
    elementwise nor affine, at its expression."""
    flat = inline(function)
    graph = flat.graph
    needed = graph.needed([n for _, n in flat.outputs])
    live: set[int] = set()
    nonlinear: set[int] = set()
    for node in needed:
        if node.op in SOURCES:
            live.add(node.id)
        elif any(i in live for i in node.inputs):
            live.add(node.id)
            if not affine(graph, node, live):
                if not pointwise(graph, node):
                    raise _refused(node, name)
                nonlinear.add(node.id)
    inside = _insides(graph, needed, live, nonlinear)
    outputs = {n.id for _, n in flat.outputs}
    regions = []
    for node in needed:
        users = [u for u in graph.users(node) if u.id in {n.id for n in needed}]
        if node.id in nonlinear and (node.id in outputs or any(u.id not in inside for u in users)):
            regions.append(_region(graph, node, inside, live, name))
    sources = tuple(n for n in needed if n.op in SOURCES)
    return Structure(flat, frozenset(live), sources, tuple(regions))


def affine(graph: Graph, node: Node, live: set[int]) -> bool:
    """Whether an op is affine in those of its operands that change."""
    op = lookup(node.op)
    moving = [k for k, i in enumerate(node.inputs) if i in live]
    return all(k in op.linear for k in moving) or (op.multilinear and len(moving) == 1)


def pointwise(graph: Graph, node: Node) -> bool:
    """Whether an op acts at each place by itself; the repetition of a number does too."""
    if node.op == "expand":
        return not extents(graph[node.inputs[0]])
    return lookup(node.op).scalar is not None


def _insides(graph: Graph, needed: Sequence[Node], live: set[int], nonlinear: set[int]) -> set[int]:
    """Nonlinear ops, and pointwise ones between two of them."""
    below: set[int] = set()  # behind a nonlinear op, by pointwise ops alone
    for node in needed:
        ahead = any(i in nonlinear or i in below for i in node.inputs)
        if node.id in live and pointwise(graph, node) and ahead:
            below.add(node.id)
    wanted = {n.id for n in needed}
    before: set[int] = set()
    for node in reversed(needed):
        users = [u for u in graph.users(node) if u.id in wanted and pointwise(graph, u)]
        if any(u.id in nonlinear or u.id in before for u in users):
            before.add(node.id)
    return nonlinear | (below & before)


def _region(graph: Graph, root: Node, inside: set[int], live: set[int], name: str) -> Region:
    if not isinstance(root.type, Tensor) or root.type.kind != "R":
        raise _refused(root, name)
    inner, leaves, stack = set[int](), dict[int, Node](), [root]
    while stack:
        node = stack.pop()
        inner.add(node.id)
        for operand in graph.operands(node):
            if operand.id in inner or operand.id not in live:
                continue
            if operand.id in inside:
                stack.append(operand)
            else:
                leaf = whole(graph, operand)
                leaves[leaf.id] = leaf
    return Region(root, frozenset(inner), tuple(leaves[i] for i in sorted(leaves)))


def whole(graph: Graph, node: Node) -> Node:
    """The number of which a node is the repetition, or the node itself."""
    while node.op == "expand" and not extents(graph[node.inputs[0]]):
        node = graph[node.inputs[0]]
    return node


def _refused(node: Node, name: str) -> Exception:
    written = " ".join(node.span.text.split())
    return fail(
        "NDL670",
        f"`{written or node.op}` stands in the way of a reduction of `{name}`",
        node.span,
        notes=(
            f"`{node.op}` is neither elementwise nor affine in what changes, "
            "so that it cannot be evaluated at a few places",
        ),
        help="leave it outside the rates, or write it with elementwise functions, sums and products",
    )
