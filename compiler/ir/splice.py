"""Copying a function's body into another graph, its inputs replaced by nodes of that graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Node


class Builder(Protocol):
    """A `Graph`, or a rewriter that adds to one."""

    @property
    def add(self) -> Callable[..., Node]: ...


def dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def splice(
    graph: Any, function: Function, inputs: Mapping[str, Node], prefix: str = "", calls: bool = False
) -> tuple[Node, ...]:
    """The function's outputs as nodes of `graph`.

    `prefix` is put before the names of its weights and parts; with `calls`, the functions that it
    calls are spliced too. Inputs that `inputs` does not name stay inputs.
    """
    image: dict[int, Node] = {}
    spliced: dict[tuple[str, tuple[int, ...]], tuple[Node, ...]] = {}
    for node in function.graph.needed([n for _, n in function.outputs]):
        operands = [image[i] for i in node.inputs]
        attrs = dict(node.attrs)
        if node.op == "input" and attrs["name"] in inputs:
            image[node.id] = inputs[attrs["name"]]
            continue
        if node.op == "param":
            attrs["name"] = dotted(prefix, attrs["name"])
        if node.op == "call":
            instance, index = attrs["instance"], attrs.get("index", 0)
            if calls:
                key = (instance, tuple(n.id for n in operands))
                if key not in spliced:
                    part = part_of(function, instance)
                    given = dict(zip((n.attr("name") for n in part.inputs), operands))
                    spliced[key] = splice(graph, part, given, dotted(prefix, instance), True)
                image[node.id] = spliced[key][index]
                continue
            attrs["instance"] = dotted(prefix, instance)
        image[node.id] = graph.add(node.op, operands, type=node.type, span=node.span, hint=node.hint, **attrs)
    return tuple(image[n.id] for _, n in function.outputs)


def part_of(function: Function, instance: str) -> Function:
    """The part that a call names; dotted names reach into parts."""
    found = function
    parts: Mapping[str, Function] = function.parts
    rest = instance
    while rest:
        if rest in parts:
            return parts[rest]
        head, _, rest = rest.partition(".")
        if head not in parts:
            break
        found = parts[head]
        parts = found.parts
    raise InternalError(f"`{function.name}` calls `{instance}`, which is not one of its parts")
