"""What the derivative rules share: short names for graph nodes, and cotangents of the right kind.

The cotangent of a complex operand is that of torch: the gradient with respect to its conjugate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node


def kind(node: Node) -> str:
    return node.type.kind if isinstance(node.type, Tensor) else ""


def shape(node: Node) -> tuple[Dim, ...]:
    return node.type.shape if isinstance(node.type, Tensor) else ()


def extents(node: Node) -> tuple[int, ...]:
    return node.type.extents if isinstance(node.type, Tensor) else ()


def bare(type_: Tensor) -> Tensor:
    """The type without its unit: cotangents carry none."""
    return Tensor(type_.kind, type_.shape, type_.on)


def number(graph: Graph, value: float, like: Node | None = None) -> Node:
    """A real constant, repeated to the shape of `like`."""
    node = graph.add("const", value=float(value))
    return node if like is None else spread(graph, node, shape(like))


def spread(graph: Graph, node: Node, target: Sequence[Dim | int], axes: Sequence[int] = ()) -> Node:
    """`expand`, unless the shape is already the target."""
    full = tuple(Dim.of(n) for n in target)
    if full == shape(node):
        return node
    return graph.add("expand", [node], shape=tuple(plain(n) for n in full), axes=tuple(axes))


def plain(n: Dim | int) -> int | Dim:
    """A dimension as an int where it is one: attributes are kept readable."""
    d = Dim.of(n)
    return d.constant if d.constant is not None else d


def conj(graph: Graph, node: Node) -> Node:
    return graph.add("conj", [node]) if kind(node) == "C" else node


def mul(graph: Graph, a: Node, b: Node) -> Node:
    return graph.add("mul", [a, b])


def scale(graph: Graph, factor: float, a: Node) -> Node:
    return graph.add("mul", [number(graph, factor, a), a])


def op(graph: Graph, name: str, *operands: Node, **attrs: Any) -> Node:
    return graph.add(name, list(operands), **attrs)


def fit(graph: Graph, cotangent: Node | None, operand: Node) -> Node | None:
    """A cotangent made fit for its operand: none for integers and truth values, real for reals."""
    if cotangent is None or kind(operand) in ("Z", "Bool"):
        return None
    if kind(operand) == "R" and kind(cotangent) == "C":
        return graph.add("real", [cotangent])
    return cotangent


def zeros(graph: Graph, extents_: Sequence[Dim | int]) -> Node:
    return spread(graph, graph.add("const", value=0.0), extents_)


def over(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """The axes that a reduction over `axes` keeps."""
    return tuple(i for i in range(rank) if i not in axes)
