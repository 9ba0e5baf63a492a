"""The sets of an operator's header, `(v: R[c] on S) -> R[d] on S`: a name that nobody has declared is generic
and stands for the domain of what the operator is applied to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import DomainV, FileV, HostV, ListV, OperatorV, Unknown, Value
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator


def _written(decl: tree.Operator) -> Iterator[tree.FieldType]:
    """The types of fields in a header."""
    results = decl.result.items if isinstance(decl.result, tree.TupleType) else (decl.result,)
    for t in (*(p.type for p in decl.data), *results):
        if isinstance(t, tree.FieldType) and t.domain.span.text != "time":
            yield t


@lru_cache(maxsize=512)
def header_sets(decl: tree.Operator) -> tuple[str, ...]:
    """The names of sets in a header, in order."""
    names: list[str] = []
    for t in _written(decl):
        first = t.domain.args[0].value if isinstance(t.domain, tree.Call) and t.domain.args else t.domain
        names += [n.id for n in walk(first) if isinstance(n, tree.Name)]
    return tuple(dict.fromkeys(names))


def of_fields(decl: tree.Operator) -> bool:
    """Whether an operator takes or gives fields, and so is more than what it does at each point."""
    return any(True for _ in _written(decl))


def declared(ev: Evaluator, name: str, scope: Scope) -> DomainV | None:
    """The domain of a name, if it is declared."""
    found = scope.find(name)
    if isinstance(found, FileV) and found.kind == "domain":
        found = ev.file_value(found)
    return found if isinstance(found, DomainV) else None


def option_set(ev: Evaluator, op: OperatorV, name: str) -> DomainV | None:
    """What a set of a header stands for, as far as that is known."""
    return op.sets.get(name) or declared(ev, name, op.module.scope)


def bind_sets(ev: Evaluator, op: OperatorV, scope: Scope) -> Scope:
    """A scope with the sets of a header: what they stand for, or themselves. The coordinates of declared ones
    are in sight."""
    coordinates: dict[str, tuple[DomainV, int]] = {}
    for name in header_sets(op.decl):
        own = declared(ev, name, op.module.scope)
        known = op.sets.get(name) or own or DomainV(name, ())
        scope.names[name] = known
        if own is not None:
            coordinates |= {c: (known, k) for k, c in enumerate(own.coordinates)}
    if coordinates:
        scope.lazy = lambda name, primes: None if primes else _in_sight(ev, name, coordinates)
        scope.known = lambda: iter(coordinates)
    return scope


def _in_sight(ev: Evaluator, name: str, coordinates: Mapping[str, tuple[DomainV, int]]) -> Any:
    """A coordinate, or a derivative by coordinates."""
    from ndl.compiler.check.fields import derivative

    if name not in coordinates:
        return derivative(name, {c: d.name for c, (d, _) in coordinates.items()})
    domain, k = coordinates[name]
    if ev.checking:
        return Value(Tensor(on=domain.name))
    ev.fields.space.add(ev, domain, Span())
    return ev.fields.coordinate(domain.name, domain.coordinates[k], Span())


def by_coordinate(ev: Evaluator, value: Any, domain: DomainV) -> list[Any] | None:
    """A value for each coordinate, one that is given alone being that of all; None while some are not known.
    Too many or too few are left as they are."""
    items = value.items if isinstance(value, ListV) else (value,)
    found = [ev.known(i) for i in items]
    if any(isinstance(i, (Unknown, Value, HostV)) for i in found):
        return None
    return found * len(domain.coordinates) if len(found) == 1 and domain.coordinates else found


def domain_of(ev: Evaluator, value: Any, scope: Scope | None) -> DomainV | None:
    """The domain on which a value is a field: that of its axes, or of its type by its name in `scope`."""
    if not isinstance(value, Value):
        return None
    if ev.fields is not None:
        name = ev.fields.space.domain_of(value.axes)
        if name is not None:
            own: DomainV | None = ev.fields.space.domains.get(name)
            return own
    on = value.type.on
    if on in (None, "time") or on.startswith("dual("):
        return None
    found = None if scope is None else declared(ev, on, scope)
    return found or (DomainV(on, ()) if ev.checking else None)
