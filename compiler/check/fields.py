"""Fields as the checker sees them: domains, differential operators, integrals over domains.

They check here (names, components, domains); their lowering comes with the grids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    DomainV,
    HostV,
    ListV,
    NotLowered,
    TupleV,
    Unknown,
    Value,
)
from ndl.compiler.syntax import tree
from ndl.compiler.types import SCALAR, Dim, Tensor, Type


def make_domain(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`interval(x in 0..1, y in 0..1)`, `periodic(…)`: coordinates with their ranges."""
    kind = e.func.id if isinstance(e.func, tree.Name) else ""
    names: list[str] = []
    for a in e.args:
        c = a.value
        if isinstance(c, tree.Compare) and c.ops == ("in",) and isinstance(c.operands[0], tree.Name):
            names.append(c.operands[0].id)
            ev.eval(c.operands[1], scope)
        else:
            ev.error(
                "NDL341",
                f"`{kind}` wants coordinates with their ranges",
                a.span,
                help=f"write `{kind}(x in 0..1)`",
            )
    return DomainV("", kind, tuple(names))


def derivative(name: str, coordinates: dict[str, str]) -> Builtin | None:
    """`dx`, `dxy`, …: a partial derivative by one-letter coordinates in sight."""
    if len(name) < 2 or name[0] != "d" or any(c not in coordinates for c in name[1:]):
        return None
    return Builtin(name, _pointwise, 1, 1)


def _pointwise(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """A derivative that keeps the components."""
    if not ev.checking:
        return ev.not_lowered(f"`{e.func.span.text}` of a field", e.span)
    return _field(ev, args[0], e)


def _field(ev: Evaluator, v: Any, e: tree.Call) -> Any:
    if isinstance(v, Value) and v.type.on is None:
        return ev.error(
            "NDL342",
            f"`{e.func.span.text}` needs a field, not {v.type}",
            e.span,
            help="declare it `R on Omega`",
        )
    return v if isinstance(v, Value) else UNKNOWN


def vector_calculus(
    ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope
) -> Any:
    """`lap`, `div`, `curl` of fields, `dn` at a boundary."""
    if not ev.checking:
        return ev.not_lowered(f"`{e.func.span.text}` of a field", e.span)
    v = _field(ev, args[0], e)
    if not isinstance(v, Value):
        return UNKNOWN
    if e.func.span.text == "div" and v.type.rank:
        return Value(replace(v.type, shape=v.type.shape[1:]))
    return v


def gradient(ev: Evaluator, value: Any, e: tree.Call, scope: Scope) -> Any:
    """`grad(u)` of a field: one component more for each coordinate."""
    if not ev.checking:
        return ev.not_lowered("`grad` of a field", e.span)
    v = _field(ev, value, e)
    if not isinstance(v, Value):
        return UNKNOWN
    count = Dim.of(f"dim({v.type.on})")
    found: Scope | None = scope
    while found is not None:
        for d in found.names.values():
            if isinstance(d, DomainV) and d.name == v.type.on:
                count = Dim.of(len(d.coordinates))
        found = found.parent
    return Value(replace(v.type, shape=(*v.type.shape, count)))


def integrand_type(ev: Evaluator, e: tree.Call, clause: Any, found: Any, scope: Scope) -> Any:
    """`integral(e, x in Omega)`: the field's value without its domain."""
    if not ev.checking:
        return ev.not_lowered("an integral over a domain", e.span)
    names = dict.fromkeys(clause.pattern.names, Value(SCALAR))
    if isinstance(found, DomainV):
        names = {n: Value(Tensor(on=found.name)) for n in clause.pattern.names}
    v = ev.eval(e.args[0].value, scope.child(names))
    if isinstance(v, Value):
        return Value(replace(v.type, on=None))
    return UNKNOWN if isinstance(v, (Unknown, HostV, NotLowered, ListV, TupleV)) else v
