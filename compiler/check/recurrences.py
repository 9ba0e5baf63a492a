"""`prev(x, k)`: an earlier value of a state, kept in a state of its own.

Of a state that only events change it is the value k firings earlier: the events that reset x shift the
values along. Of a state with a rate it is the value k accepted steps earlier: the solver shifts them after
each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ndl.compiler.check.coloured import replaced
from ndl.compiler.check.model_parts import Equation, Parts
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

DEEPEST = 99
"""The largest k: each earlier value is a state."""


@dataclass(frozen=True)
class Previous:
    """`prev(x', k)`: the state and its primes, how far back, and whether steps or firings are counted."""

    name: str
    primes: int
    k: int
    by_step: bool

    @property
    def shown(self) -> str:
        return self.name + "'" * self.primes

    @property
    def state(self) -> str:
        """The state that holds the value."""
        return f"prev({self.shown}, {self.k})"

    @property
    def source(self) -> str:
        """The state whose value it takes next."""
        return self.shown if self.k == 1 else replace(self, k=self.k - 1).state


def keep_previous(parts: Parts) -> None:
    """Add a state for each earlier value that the model reads."""
    deepest: dict[str, Previous] = {}
    for node in walk(tuple(_formulas(parts))):
        found = previous(parts, node)
        if found is not None and found.k > (deepest[found.shown].k if found.shown in deepest else 0):
            deepest[found.shown] = found
    if not deepest:
        return

    def read(e: Any) -> Any:
        found = previous(parts, e)
        return None if found is None else tree.Name(e.span, found.state)

    _replace(parts, read)
    for last in deepest.values():
        orders = parts.states[last.name]
        first = orders.get(last.primes) or orders[0]
        for k in range(1, last.k + 1):
            kept = replace(last, k=k)
            # bounds are the state's own affair, and it starts where the state does
            parts.states[kept.state] = {0: replace(first, name=kept.state, primes=0, constraint=None)}
            parts.spans[kept.state] = first.name_span
            parts.kept[kept.state] = (kept.source, kept.by_step)
    fired = {name: last for name, last in deepest.items() if not last.by_step}
    parts.events = [replace(e, body=(*e.body, *_shifts(e, fired))) for e in parts.events]


def _formulas(parts: Parts) -> Iterator[Any]:
    """All that may read an earlier value."""
    yield from (eq.value for eq in (*parts.rates.values(), *parts.zeros))
    yield from (*parts.derived.values(), *parts.terms.values(), *parts.draws.values())
    yield from (*parts.events, *parts.requires, *parts.observes)


def _replace(parts: Parts, read: Any) -> None:
    def equation(eq: Equation) -> Equation:
        return replace(eq, value=replaced(eq.value, read))

    parts.rates = {name: equation(eq) for name, eq in parts.rates.items()}
    parts.zeros = [equation(eq) for eq in parts.zeros]
    for table in (parts.derived, parts.terms, parts.draws):
        table.update({name: replaced(stmt, read) for name, stmt in table.items()})  # type: ignore[attr-defined]
    parts.events = [
        replace(e, trigger=replaced(e.trigger, read), body=replaced(e.body, read)) for e in parts.events
    ]
    parts.requires = [replaced(r, read) for r in parts.requires]
    parts.observes = [replaced(o, read) for o in parts.observes]


def previous(parts: Parts, e: Any) -> Previous | None:
    """What `prev(x, k)` reads, where x is a state with a rate or one that only events change."""
    if not (isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "prev" and e.args):
        return None
    x, k = e.args[0].value, e.args[1].value if len(e.args) > 1 else None
    if not isinstance(x, tree.Name) or x.id not in parts.states or len(e.args) > 2:
        return None
    by_step = x.primes < parts.order(x.id)
    by_firing = x.id not in parts.rates and not x.primes and x.id in parts.reset_names()
    if not (by_step or by_firing):
        return None
    if k is not None and not (isinstance(k, tree.Num) and k.value in range(1, DEEPEST + 1)):
        return None
    return Previous(x.id, x.primes, 1 if k is None else int(k.value), by_step)


def _shifts(event: tree.When, deepest: dict[str, Previous]) -> Iterator[tree.Reset]:
    for stmt in event.body:
        if isinstance(stmt, tree.Reset) and isinstance(stmt.target, tree.Name) and stmt.target.id in deepest:
            last, span = deepest[stmt.target.id], stmt.span
            for k in range(1, last.k + 1):
                kept = replace(last, k=k)
                yield tree.Reset(span, tree.Name(span, kept.state), tree.Name(span, kept.source))
