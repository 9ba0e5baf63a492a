"""Points and sets: `distance(p, boundary(S))`, `closest(p, boundary(S))`, laws on sets, `uniform(S)`."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    BoundaryV,
    DistV,
    DomainV,
    HostV,
    ListV,
    NotLowered,
    Unknown,
    Value,
    describe,
)
from ndl.compiler.syntax import tree
from ndl.compiler.types import SCALAR, Dim, Tensor


def distance(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`distance(p, boundary(S))`; of two points the length of their difference."""
    p, target = args
    if isinstance(target, BoundaryV):
        place = nearest_point(ev, p, target, e, scope, exact=False)
    elif isinstance(target, (DomainV, NotLowered, DistV)):
        return _no_boundary(ev, target, e)
    else:
        place = target
    if isinstance(place, (Unknown, HostV)) or isinstance(p, (Unknown, HostV)):
        return UNKNOWN
    gap = ev.value(ev.binary("-", p, place, e.span), e.span)
    if isinstance(gap, Unknown):
        return UNKNOWN
    if not gap.type.rank:
        return ev.elementwise("abs", [gap], e.span)
    square = ev.op("einsum", [gap, gap], e.span, equation="i,i->")
    return UNKNOWN if isinstance(square, Unknown) else ev.elementwise("sqrt", [square], e.span)


def closest(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`closest(p, boundary(S))`: the nearest point."""
    p, target = args
    if isinstance(target, (Unknown, HostV)):
        return UNKNOWN
    if not isinstance(target, BoundaryV):
        return _no_boundary(ev, target, e)
    return nearest_point(ev, p, target, e, scope, exact=True)


def _no_boundary(ev: Evaluator, target: Any, e: tree.Call) -> Any:
    what = f"`{e.func.span.text}` is to a boundary, not to {describe(target)}"
    shown = e.args[1].span.text
    return ev.error("NDL595", what, e.args[1].span, help=f"write `{e.func.span.text}(p, boundary({shown}))`")


def nearest_point(ev: Evaluator, p: Any, target: BoundaryV, e: tree.Call, scope: Scope, exact: bool) -> Any:
    """The nearest point as a vector (of one coordinate a number); `exact`: with its derivative by p."""
    count = len(target.domain.coordinates)
    if isinstance(p, (Unknown, HostV)):
        return UNKNOWN
    v = ev.value(p, e.args[0].span)
    if isinstance(v, Unknown):
        return UNKNOWN
    rank = v.type.rank
    extent = v.type.shape[-1].constant if rank else 1
    if rank > 1 or extent not in (count, None):
        what = f"a point of `{target.domain.name}` has {count} coordinates, and this is {v.type}"
        return ev.error("NDL322", what, e.args[0].span, help="write a vector, `[x, y]`")
    if ev.checking:
        return Value(Tensor(shape=v.type.shape, on=v.type.on))
    from ndl.compiler.lower.regions import surface_of

    key = surface_of(ev, target, scope, e.span)
    flat = v if rank else ev.value(ListV((v,)), e.span)
    row: Any = ev.op("nearest", [flat], e.span, surface=key) if isinstance(flat, Value) else UNKNOWN
    if not exact:
        row = ev.elementwise("stop_gradient", [row], e.span)
    place = [ev.op("index", [row], e.span, axis=0, at=k) for k in range(count)]
    return ev.value(ListV(tuple(place)), e.span) if rank else place[0]


# ---------------------------------------------------------------- laws


def law_components(ev: Evaluator, law: DistV) -> int | None:
    """How many components a draw from a law on points has, 0 for a number; None for other laws."""
    first = law.args[0] if law.args else None
    if law.law == "uniform" and isinstance(first, DomainV):
        count = len(first.coordinates)
        return count if count > 1 else 0
    if law.law == "uniform" and isinstance(first, DistV) and first.law == "sphere":
        return law_components(ev, first)
    if law.law in ("sphere", "green"):
        known = ev.known(first) if first is not None else None
        return int(known) if isinstance(known, (int, float)) else None
    return None


def law_on_points(ev: Evaluator, law: DistV) -> Value | None:
    """The type of a draw from a law on points; None for other laws."""
    count = law_components(ev, law)
    if count is None:
        return None
    return Value(Tensor("R", (Dim.of(count),))) if count else Value(SCALAR)


FUNCTIONS = {"distance": distance, "closest": closest}
