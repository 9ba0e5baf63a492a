"""`prev(x, k)` of a state that only events change: its value k firings earlier, kept in a state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ndl.compiler.check.coloured import replaced
from ndl.compiler.check.model_parts import Parts
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk


def keep_previous(parts: Parts) -> None:
    """Add a state for each earlier value that the model reads; the events that reset x shift them along."""
    deepest: dict[str, int] = {}
    for node in walk(tuple(parts.events)):
        found = _previous(parts, node)
        if found is not None:
            deepest[found[0]] = max(deepest.get(found[0], 0), found[1])
    if not deepest:
        return
    for name, depth in deepest.items():
        first = parts.states[name][0]
        for k in range(1, depth + 1):
            parts.states[earlier(name, k)] = {0: replace(first, name=earlier(name, k))}
            parts.spans[earlier(name, k)] = first.name_span

    def read(e: Any) -> Any:
        found = _previous(parts, e)
        return None if found is None else tree.Name(e.span, earlier(*found))

    parts.events = [replace(e, body=(*replaced(e.body, read), *_shifts(e, deepest))) for e in parts.events]


def _previous(parts: Parts, e: Any) -> tuple[str, int] | None:
    """The state and the k of `prev(x, k)`, where x only changes by events."""
    if not (isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "prev" and e.args):
        return None
    x, k = e.args[0].value, e.args[1].value if len(e.args) > 1 else None
    if not isinstance(x, tree.Name) or x.primes or x.id not in parts.reset_names() or x.id in parts.rates:
        return None
    if k is not None and not (isinstance(k, tree.Num) and k.value in range(1, 100)):
        return None
    return x.id, 1 if k is None else int(k.value)


def _shifts(event: tree.When, deepest: dict[str, int]) -> Iterator[tree.Reset]:
    for stmt in event.body:
        if isinstance(stmt, tree.Reset) and isinstance(stmt.target, tree.Name) and stmt.target.id in deepest:
            name, span = stmt.target.id, stmt.span
            for k in range(1, deepest[name] + 1):
                before = tree.Name(span, name if k == 1 else earlier(name, k - 1))
                yield tree.Reset(span, tree.Name(span, earlier(name, k)), before)


def earlier(name: str, k: int) -> str:
    return f"prev({name}, {k})"
