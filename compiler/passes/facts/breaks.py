"""Where a right-hand side jumps: operations that break, and values whose change of sign says when."""

from __future__ import annotations

from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ops.table import lookup
from ndl.compiler.passes.facts.facts import Break, Fact
from ndl.compiler.passes.facts.structure import needed

LOGIC = frozenset({"and", "or", "not"})
"""Ops on truth values: what breaks is the comparison below them."""


def discontinuities(model: ModelIR) -> Fact[tuple[Break, ...]]:
    """Operations of the drift that break and depend on t or a state; one for each place in the text."""
    if model.drift is None:
        return Fact((), "there is no right-hand side")
    graph = model.drift.graph
    moving: set[int] = set()
    found: dict[tuple[str, int, int, str], Break] = {}
    for node in needed(model.drift):
        if node.op in ("input", "path") or any(i in moving for i in node.inputs):
            moving.add(node.id)
        if node.id not in moving or not lookup(node.op).breaks or node.op in LOGIC:
            continue
        if node.op in ("lt", "le", "gt", "ge", "eq", "ne") and only_selects(graph.users(node)):
            continue  # told as the conditional that it decides
        text = " ".join(node.span.text.split()) or node.op
        key = (node.span.source.path, node.span.start, node.span.end, text)
        found.setdefault(key, Break(node.op, text, node.span))
    if not found:
        return Fact((), "nothing in a right-hand side jumps")
    told = (f"`{b.text}`" + (f" (line {b.span.line})" if b.span.end else "") for b in found.values())
    shown = ", ".join(told)
    return Fact(tuple(found.values()), f"{shown} {'jumps' if len(found) == 1 else 'jump'}, or its slope does")


def only_selects(users: list[Node]) -> bool:
    return bool(users) and all(user.op == "select" for user in users)
