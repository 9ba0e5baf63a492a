"""Building a new graph from an old one: the one way in which passes change functions.

Nodes are hash-consed: an operation on the same operands exists once. Units are erased here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.source import NO_SPAN, Span
from ndl.compiler.types import Tensor, Type

COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "and", "or", "eq", "ne"})


class Rewriter:
    """A graph that grows beside the `source` it is made from; `image` maps old ids to new nodes."""

    def __init__(self, source: Graph, into: Graph | None = None) -> None:
        """`into`: the graph to grow; the source itself makes nodes in place, beside those there are."""
        self.source = source
        self.graph = into if into is not None else Graph()
        self.image: dict[int, Node] = {}
        self._known: dict[Any, Node] = {}
        for node in self.graph:
            self._known.setdefault(consed(node.op, node.inputs, dict(node.attrs)), node)
            if self.graph is source:
                self.image[node.id] = node

    def add(
        self,
        op: str,
        inputs: Sequence[Node] = (),
        *,
        type: Type | None = None,
        span: Span = NO_SPAN,
        hint: str = "",
        **attrs: Any,
    ) -> Node:
        """The node for an operation, an existing one where there is one."""
        key = consed(op, tuple(n.id for n in inputs), attrs)
        if key not in self._known:
            bare = without_unit(type) if type is not None else None
            self._known[key] = self.graph.add(op, inputs, type=bare, span=span, hint=hint, **attrs)
        return self._known[key]

    def copy(self, node: Node) -> Node:
        """An old node with all that it depends on, or what has been put in its place."""
        for old in self.source.needed([node]) if node.id not in self.image else ():
            if old.id not in self.image:
                self.image[old.id] = self.remake(old)
        return self.image[node.id]

    def remake(self, node: Node) -> Node:
        """The same operation on the images of the operands, which must be there."""
        operands = [self.image[i] for i in node.inputs]
        return self.add(node.op, operands, type=node.type, span=node.span, hint=node.hint, **dict(node.attrs))

    def function(self, old: Function, outputs: Iterable[tuple[str, Node]] | None = None) -> Function:
        """The old function with a new body: its outputs' images unless others are given."""
        inputs = tuple(self.copy(n) for n in old.inputs)  # first, so that they stand first in the text
        chosen = outputs if outputs is not None else ((name, self.copy(n)) for name, n in old.outputs)
        return replace(old, graph=self.graph, inputs=inputs, outputs=tuple(chosen))


def consed(op: str, inputs: tuple[int, ...], attrs: Mapping[str, Any]) -> Any:
    """What two nodes that mean the same have in common."""
    ordered = tuple(sorted(inputs)) if op in COMMUTATIVE else inputs
    return op, ordered, tuple(sorted((k, typed(v)) for k, v in attrs.items()))


def without_unit(type: Type) -> Type:
    return replace(type, unit=None) if isinstance(type, Tensor) else type


def typed(value: Any) -> Any:
    """A key that tells 1 from 1.0 and True, and -0.0 from 0.0, inside tuples too."""
    if isinstance(value, tuple):
        return tuple(map(typed, value))
    if isinstance(value, Function):
        return ("function", id(value))  # bodies are compared by identity, which the attribute keeps alive
    return (type(value).__name__, repr(value)) if isinstance(value, int | float | complex) else value
