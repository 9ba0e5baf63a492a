"""Conditions that an equation with second derivatives needs and a model does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields as members
from typing import Any

from ndl.compiler.check.boundaries import (
    Component,
    Condition,
    component_name,
    numbers_of,
    side_name,
    split_by,
)
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.values import DomainV
from ndl.compiler.diagnostics import Sink
from ndl.compiler.syntax import tree

Orders = dict[tuple[str, Component, str], int]
"""The highest derivative of each state, or component of one, along each coordinate."""

ORDERS = {"lap": 2, "grad": 1, "div": 1, "curl": 1}


class Reader:
    """Counts derivatives in expressions; derived quantities without conditions of their own are looked
    into."""

    def __init__(self, el: Any, named: set[str]) -> None:
        self.el, self.parts, self.named = el, el.parts, named
        self.seen: list[str] = []
        self.quiet = Evaluator(TypeBuilder(), Sink())  # of indices, which may be those of a sum round them

    def of(self, e: Any) -> Orders:
        if isinstance(e, tree.Name):
            return self._name(e)
        if isinstance(e, tree.Index) and isinstance(e.value, tree.Name) and e.value.id in self.parts.states:
            return self._name(e.value, self._component(e))
        if isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.args:
            more = self._degrees(e.func.id)
            if more is not None:
                inner = self.of(e.args[0].value)
                return {(s, j, c): n + more.get(c, more.get("", 0)) for (s, j, c), n in inner.items()}
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

    def _component(self, e: tree.Index) -> Component:
        """Of a state; all of it where the indices are not known or count from the end."""
        found = numbers_of(self.quiet, self.el.scope, e) or ()
        return () if any(k < 0 for k in found) else found

    def _name(self, e: tree.Name, component: Component = ()) -> Orders:
        if e.primes or e.id in self.seen:
            return {}
        if e.id in self.parts.states:
            domain = _domain(self.el, e.id)
            return {} if domain is None else {(e.id, component, c): 0 for c in domain.coordinates}
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


def of_second_order(el: Any, conditions: list[Condition], state: str, component: Component = ()) -> bool:
    """Whether the equations have second derivatives of a field, or of a component."""
    reader = Reader(el, {c.field for c in conditions if c.field not in el.parts.states})
    orders = _orders(el.parts, reader).items()
    return any(s == state and order > 1 and _meet(j, component) for (s, j, _), order in orders)


def _meet(a: Component, b: Component) -> bool:
    """Whether one component is the other or a part of it."""
    return all(i == j for i, j in zip(a, b))


def _unread(ev: Evaluator, parts: Any) -> bool:
    """Whether a condition may be among what could not be read."""
    spans = [c.span for c in parts.conditions]
    return any(
        d.code in ("NDL442", "NDL444", "NDL476")
        or any(d.span.source == s.source and s.start <= d.span.start < s.end for s in spans)
        for d in ev.sink.found
    )


def _check_order(ev: Evaluator, parts: Any, name: str, state: str, coordinate: str, order: int) -> None:
    """A field has one condition on a side, and a fourth derivative needs two."""
    ev.error(
        "NDL553",
        f"`{name}` has one condition at each end of `{coordinate}`, and derivatives of order {order}",
        parts.spans[state],
        notes=(f"derivatives of order {order} need {order // 2} conditions at each end",),
        help=f"name the second derivative, `m = lap({state})`, give `m` conditions, and write `lap(m)`",
    )


def check_missing(ev: Evaluator, el: Any, conditions: list[Condition]) -> None:
    """A field with second derivatives along a coordinate with ends needs a condition at each; an energy has
    natural ones."""
    parts = el.parts
    if parts.energies or _unread(ev, parts):
        return
    reader = Reader(el, {c.field for c in conditions if c.field not in parts.states})
    told: set[tuple[str, str]] = set()
    for (state, component, coordinate), order in _orders(parts, reader).items():
        domain = _domain(el, state)
        if order < 2 or domain is None or coordinate not in domain.coordinates:
            continue
        own = [c for c in conditions if c.field == state]
        if domain.shape is None:
            axis = domain.coordinates.index(coordinate)
            sides = () if domain.periodic[axis] else ("low", "high")
            along = [c for c in own if c.axis == axis]
            places = [(side_name(domain, axis, s), [c for c in along if c.side == s]) for s in sides]
            why = f"its equation has second derivatives along `{coordinate}`, which has ends"
        else:  # it has a condition somewhere; whether it has one everywhere, its mesh tells
            places, why = [(f"boundary({domain.name})", own)], "its equation has second derivatives"
        shape = tuple(d.constant or 0 for d in el.state_type(state).shape)
        for place, there in places:
            for part in split_by(there, component, shape):
                name = component_name(state, part)
                if (name, place) in told:
                    continue
                told.add((name, place))
                if any(c.about(part) for c in there):
                    if order > 3 and domain.shape is None:
                        _check_order(ev, parts, name, state, coordinate, order)
                    continue
                ev.error(
                    "NDL443",
                    f"`{name}` has no condition on `{place}`",
                    parts.spans[state],
                    notes=(why,),
                    help=f"write `on {place}: {name} = …` or `on {place}: dn({name}) = …`",
                )
