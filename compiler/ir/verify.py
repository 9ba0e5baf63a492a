"""What a well-formed function is; run after every pass. A failure is a bug of the compiler."""

from __future__ import annotations

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.splice import part_of
from ndl.compiler.ops.table import TABLE, TypeRuleError, lookup
from ndl.compiler.types import Tensor, Type

DECLARED = frozenset({"input", "param", "path", "call", "apply", "apply_jac", "const"})
"""Ops whose type is given rather than inferred."""


def verify(function: Function) -> None:
    """Raise InternalError when the graph, its types, weights or parts do not hold together."""
    lookup("const")  # fills the table
    for node in function.graph:
        _node(function, node)
    _signature(function)
    for part in function.parts.values():
        verify(part)


def _fail(function: Function, message: str) -> InternalError:
    return InternalError(f"in `{function.name}`: {message}")


def _node(function: Function, node: Node) -> None:
    if node.op not in TABLE:
        raise _fail(function, f"%{node.id} is of an unknown op `{node.op}`")
    if any(not 0 <= i < node.id for i in node.inputs):
        raise _fail(function, f"%{node.id} ({node.op}) uses a later value")
    if list(node.attrs) != sorted(node.attrs, key=lambda a: a[0]):
        raise _fail(function, f"%{node.id} ({node.op}) has its attributes out of order")
    for _, value in node.attrs:
        if isinstance(value, Function):
            verify(value)
        elif not isinstance(value, str):
            hash(value)
    if node.op in DECLARED:
        _declared(function, node)
        return
    operands = [function.graph[i].type for i in node.inputs]
    try:
        found = lookup(node.op).rule(operands, dict(node.attrs))
    except TypeRuleError as e:
        raise _fail(function, f"%{node.id} ({node.op}): {e.message}") from e
    if not compatible(found, node.type):
        raise _fail(function, f"%{node.id} ({node.op}) is {found}, and says {node.type}")


def compatible(found: Type, said: Type) -> bool:
    """Kinds and shapes agree; units and domains are erased on the way down."""
    if isinstance(found, Tensor) and isinstance(said, Tensor):
        return found.shape == said.shape and (
            found.kind == said.kind or (found.kind, said.kind) == ("Z", "R")
        )
    return found == said


def _declared(function: Function, node: Node) -> None:
    """Sources name what is there, and calls fit what they call."""
    name = node.attr("name")
    if node.op == "param":
        known = {p.name: p.type for p in function.params}
        if name in known and isinstance(node.type, Tensor) and known[name].shape != node.type.shape:
            raise _fail(function, f"`{name}` is {known[name]}, and %{node.id} reads {node.type}")
    if node.op == "call" and function.parts:
        part = part_of(function, node.attr("instance"))
        if len(part.inputs) != len(node.inputs):
            raise _fail(function, f"%{node.id} calls `{part.name}` with {len(node.inputs)} values")
        index = node.attr("index", 0)
        if not 0 <= index < len(part.outputs):
            raise _fail(function, f"%{node.id} takes result {index} of `{part.name}`")
        for i, wanted in zip(node.inputs, part.inputs):
            if not compatible(function.graph[i].type, wanted.type):
                raise _fail(function, f"%{node.id} gives `{part.name}` {function.graph[i].type}")
        if not compatible(part.outputs[index][1].type, node.type):
            raise _fail(function, f"%{node.id} expects {node.type} of `{part.name}`")


def _signature(function: Function) -> None:
    """Inputs and outputs are nodes of this graph, and names are unique."""
    for node in (*function.inputs, *(n for _, n in function.outputs)):
        if node.id >= len(function.graph) or function.graph[node.id] != node:
            raise _fail(function, f"%{node.id} is not a node of its graph")
    if any(n.op != "input" for n in function.inputs):
        raise _fail(function, "an input is of another op")
    for what, names in (
        ("input", [n.attr("name") for n in function.inputs]),
        ("output", [name for name, _ in function.outputs]),
        ("weight", [p.name for p in function.params]),
    ):
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise _fail(function, f"two {what}s are called `{twice[0]}`")
    for p in function.params:
        if (p.init is None) == (p.law is None):
            raise _fail(function, f"`{p.name}` starts at a value or is drawn, and not both")
