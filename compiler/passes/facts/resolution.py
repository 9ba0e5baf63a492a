"""Whether an operator of fields is the same function at every resolution, and where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import header_sets, of_fields
from ndl.compiler.check.values import Builtin, DomainV, FileV, OperatorV
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

TIED = ("convolve", "values", "field")
"""Primitives that speak of points."""


def ties(op: OperatorV) -> list[tuple[tree.Node, str]]:
    """What ties an operator, or one that it applies, to its points: places with reasons, in the order of the
    file."""
    return list(_ties(op, set()))


def _ties(op: OperatorV, seen: set[int]) -> Iterator[tuple[tree.Node, str]]:
    if id(op.decl) in seen:
        return
    seen.add(id(op.decl))
    sets, scope = header_sets(op.decl), op.module.scope
    # of tensors `convolve` and the like act on axes of components
    own = of_fields(op.decl)
    for stmt in op.decl.body:
        for node in walk(stmt):
            if own and isinstance(node, tree.DeclItem) and _on_points(node, sets, scope):
                yield node, f"the weight `{node.name}` has a value at each point"
            if not isinstance(node, tree.Name):
                continue
            found: Any = scope.find(node.id)
            if isinstance(found, FileV) and found.kind == "net" and isinstance(found.stmt, tree.Net):
                called = found.stmt.value.func if isinstance(found.stmt.value, tree.Call) else None
                found = found.module.scope.find(called.id) if isinstance(called, tree.Name) else None
            if own and isinstance(found, Builtin) and found.name in TIED:
                yield (
                    node,
                    f"`{found.name}` reads neighbouring points"
                    if found.name == "convolve"
                    else (f"`{found.name}` speaks of the values at points"),
                )
            elif isinstance(found, OperatorV):
                yield from _ties(found, seen)


def _on_points(item: tree.DeclItem, sets: tuple[str, ...], scope: Scope) -> bool:
    """Whether a weight is a field on a domain."""
    written = item.type
    if not isinstance(written, tree.FieldType) or not isinstance(written.domain, tree.Name):
        return False
    found = scope.find(written.domain.id)
    return written.domain.id in sets or isinstance(found, (DomainV, FileV))


def resolution_text(op: OperatorV) -> str:
    """The fact in words."""
    found = ties(op)
    if not found:
        return "the same function at every resolution"
    lines = [f"line {node.span.line}: {reason}" for node, reason in found]
    return "depends on the points of its fields\n" + "\n".join(dict.fromkeys(lines))
