"""Whether a matrix is proved to be symmetric, by how it is made."""

from __future__ import annotations

from ndl.compiler.ir.graph import Graph, Node

TERMWISE = frozenset(
    {"add", "sub", "neg", "mul", "div", "select", "stop_gradient", "inv", "expm", "symmetric_power"}
)
"""Ops of symmetric matrices, or of these and of one number everywhere, that give one."""


def is_symmetric(graph: Graph, x: Node) -> bool:
    """Whether x is equal to its transpose whatever the run: sums X + X.T, products X.T X, outer products of a
    vector with itself, diagonal and constant matrices, and what is made of these entry by entry."""
    if x.op == "const":
        value = x.attr("value")
        if isinstance(value, (int, float)):
            return True
        return all(value[i][j] == value[j][i] for i in range(len(value)) for j in range(i))
    if x.op == "diag" or (x.op == "expand" and len(x.attr("axes")) == 0):
        return True
    operands = graph.operands(x)
    if x.op == "add" and _are_transposes(graph, *operands):
        return True
    if x.op == "matmul":
        return _product(graph, *operands)
    if x.op == "einsum":
        return x.attr("equation") in ("i,j->ij", "a,b->ab") and _same(graph, *operands)
    if x.op == "permute":
        return is_symmetric(graph, operands[0])
    matrices = [o for o in operands if len(getattr(o.type, "shape", ())) == 2]
    return x.op in TERMWISE and all(is_symmetric(graph, o) for o in matrices)


def _are_transposes(graph: Graph, a: Node, b: Node) -> bool:
    """Whether b is a.T."""
    for one, other in ((a, b), (b, a)):
        if (
            one.op == "permute"
            and tuple(one.attr("axes")) == (1, 0)
            and _same(graph, graph.operands(one)[0], other)
        ):
            return True
    return False


def _product(graph: Graph, a: Node, b: Node) -> bool:
    """X.T X, and X.T S X in either order of its products."""
    if _are_transposes(graph, a, b):
        return True
    if a.op == "matmul":
        left, middle = graph.operands(a)
        return _are_transposes(graph, left, b) and is_symmetric(graph, middle)
    if b.op == "matmul":
        middle, right = graph.operands(b)
        return _are_transposes(graph, a, right) and is_symmetric(graph, middle)
    return False


def _same(graph: Graph, a: Node, b: Node) -> bool:
    """Whether two nodes are one value: one node, or equal ops of equal values."""
    if a.id == b.id:
        return True
    if a.op != b.op or a.attrs != b.attrs or a.op in ("call", "apply", "root"):
        return False
    return len(a.inputs) == len(b.inputs) and all(
        _same(graph, x, y) for x, y in zip(graph.operands(a), graph.operands(b))
    )


__all__ = ["is_symmetric"]
