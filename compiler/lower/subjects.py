"""What boundary conditions are about, while a model is lowered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ndl.compiler.check.boundaries import Component, component_name
from ndl.compiler.ir.graph import Graph, Node


@dataclass(frozen=True)
class Subject:
    """A field that has conditions, its time derivative of some `order`, or a component of one; `prefix` is
    that of its part of the model."""

    prefix: str
    name: str
    order: int = 0
    component: Component = ()

    def at(self, j: int) -> Subject:
        """One component of it."""
        return replace(self, component=(*self.component, j))

    @property
    def text(self) -> str:
        """In the user's words."""
        return component_name(self.name, self.component)


def outwards(graph: Graph, node: Node, first: int) -> Iterator[tuple[Node, Component]]:
    """A node, what it is a component of, what that is one of, …, and which component it is of each; `first`
    is the first axis of the components."""
    component: Component = ()
    yield node, component
    while node.op == "index" and node.attr("axis") == first:
        component = (node.attr("at"), *component)
        (node,) = graph.operands(node)
        yield node, component
