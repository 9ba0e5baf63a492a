"""Conditions that an equation with second derivatives needs and a model does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields as members
from typing import Any

from ndl.compiler.check.boundaries import Condition, side_name
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import DomainV
from ndl.compiler.syntax import tree

Orders = dict[tuple[str, str], int]
"""The highest derivative of each state along each coordinate."""

ORDERS = {"lap": 2, "grad": 1, "div": 1, "curl": 1}


class Reader:
    """Counts derivatives in expressions; derived quantities without conditions of their own are looked
    into."""

    def __init__(self, el: Any, named: set[str]) -> None:
        self.el, self.parts, self.named = el, el.parts, named
        self.seen: list[str] = []

    def of(self, e: Any) -> Orders:
        if isinstance(e, tree.Name):
            return self._name(e)
        if isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.args:
            more = self._degrees(e.func.id)
            if more is not None:
                inner = self.of(e.args[0].value)
                return {(s, c): n + more.get(c, more.get("", 0)) for (s, c), n in inner.items()}
        found: Orders = {}
        for child in children(e):
            _join(found, self.of(child))
        return found

    def _degrees(self, name: str) -> dict[str, int] | None:
        """What a call adds along each coordinate, "" standing for all; None for what is no derivative."""
        if name in ORDERS:
            return {"": ORDERS[name]}
        letters = name[1:]
        if name.startswith("d") and letters and all(c in self.el.coordinates for c in letters):
            return {c: letters.count(c) for c in letters} | {"": 0}
        return None

    def _name(self, e: tree.Name) -> Orders:
        if e.primes or e.id in self.seen:
            return {}
        if e.id in self.parts.states:
            domain = _domain(self.el, e.id)
            return {} if domain is None else {(e.id, c): 0 for c in domain.coordinates}
        stmt = self.parts.derived.get(e.id) or self.parts.terms.get(e.id)
        if stmt is None or e.id in self.named:
            return {}
        self.seen.append(e.id)
        try:
            return self.of(stmt.value)
        finally:
            self.seen.pop()


def _domain(el: Any, state: str) -> DomainV | None:
    type_ = el.state_type(state)
    if type_ is None or type_.on in (None, "time"):
        return None
    found: DomainV | None = el.domain(type_.on)
    return found


def _join(into: Orders, more: Orders) -> None:
    for key, n in more.items():
        into[key] = max(into.get(key, 0), n)


def children(e: Any) -> Iterator[Any]:
    """The nodes and tuples of nodes right below a node."""
    if isinstance(e, tuple):
        yield from e
    elif isinstance(e, tree.Node):
        yield from (getattr(e, m.name) for m in members(e) if m.name != "span")


def _orders(parts: Any, reader: Reader) -> Orders:
    found: Orders = {}
    for eq in [*parts.rates.values(), *parts.zeros]:
        _join(found, reader.of(eq.value))
    for name in parts.derived:  # a derived quantity with conditions is an unknown of its own
        if name in reader.named:
            _join(found, reader.of(parts.derived[name].value))
    return found


def of_second_order(el: Any, conditions: list[Condition], state: str) -> bool:
    """Whether the equations have second derivatives of a field."""
    reader = Reader(el, {c.field for c in conditions if c.field not in el.parts.states})
    return any(s == state and order > 1 for (s, _), order in _orders(el.parts, reader).items())


def _check_shape(
    ev: Evaluator, parts: Any, state: str, domain: DomainV, conditions: list[Condition], told: set[str]
) -> None:
    """A domain that is no box has a condition somewhere; whether it has one everywhere, its mesh tells."""
    if state in told or any(c.field == state for c in conditions):
        return
    told.add(state)
    place = f"boundary({domain.name})"
    ev.error(
        "NDL443",
        f"`{state}` has no condition on `{place}`",
        parts.spans[state],
        notes=("its equation has second derivatives",),
        help=f"write `on {place}: {state} = …` or `on {place}: dn({state}) = …`",
    )


def check_missing(ev: Evaluator, el: Any, conditions: list[Condition]) -> None:
    """A field with second derivatives along a coordinate with ends needs a condition at each; an energy has
    natural ones."""
    parts = el.parts
    unread = any(d.code in ("NDL442", "NDL444") for d in ev.sink.found)  # a condition may be among them
    if parts.energies or unread:
        return
    reader = Reader(el, {c.field for c in conditions if c.field not in parts.states})
    found = _orders(parts, reader)
    told: set[str] = set()
    for (state, coordinate), order in found.items():
        domain = _domain(el, state)
        if order < 2 or domain is None or coordinate not in domain.coordinates:
            continue
        if domain.shape is not None:
            _check_shape(ev, parts, state, domain, conditions, told)
            continue
        axis = domain.coordinates.index(coordinate)
        if domain.periodic[axis]:
            continue
        given = {c.side for c in conditions if c.field == state and c.axis == axis}
        for side in ("low", "high"):
            if side not in given:
                place = side_name(domain, axis, side)
                ev.error(
                    "NDL443",
                    f"`{state}` has no condition on `{place}`",
                    parts.spans[state],
                    notes=(f"its equation has second derivatives along `{coordinate}`, which has ends",),
                    help=f"write `on {place}: {state} = …` or `on {place}: dn({state}) = …`",
                )
