"""Sets of points, `domain Cloud = points(X)`: a field on them is stored at the points and known there."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator, constant_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, DomainV, HostV, PointsV, Unknown, Value, describe
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Type

NAMES = ("x", "y", "z")


def make_points(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`points(X)`, with coordinates x, y, z; others are named: `points(X, lon, lat)`."""
    first, *rest = (a.value for a in e.args)
    found = ev.eval(first, scope)
    if isinstance(found, HostV):
        return _unknown(ev, first) if found.kind == "data" else UNKNOWN
    v = ev.value(found, first.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    rank = v.type.rank
    count = v.type.shape[1].constant if rank == 2 else 1
    names = tuple(c.id for c in rest if isinstance(c, tree.Name)) or NAMES[: count or 0]
    if rank not in (1, 2) or count is None or len(names) != count:
        what = f"`points` takes the coordinates of points, R[n, d], and a name for each, not {describe(v)}"
        return ev.error(
            "NDL596", what, e.span, help="write `points([[0.1, 0.2], [0.5, 0.7]])`, or `points(X, a, b)`"
        )
    rows = _rows(found, v)
    if rows is None and not ev.checking:
        return _unknown(ev, first)
    return DomainV("", names, (), (False,) * count, shape=PointsV(rows, e.span))


def _unknown(ev: Evaluator, e: tree.Expr) -> Any:
    what = f"the points `{e.span.text}` are not known when compiling"
    return ev.error("NDL596", what, e.span, help="give them as numbers or by `const`")


def _rows(found: Any, v: Value) -> tuple[tuple[float, ...], ...] | None:
    """The coordinates as numbers, where they are known."""
    values = constant_of(found)
    if values is None:
        ref = v.ref
        values = (
            ref.attr("value") if getattr(ref, "op", "") == "const" else getattr(ref, "tolist", lambda: None)()
        )
    if not isinstance(values, (tuple, list)):
        return None
    return tuple(tuple(map(float, r)) if isinstance(r, (tuple, list)) else (float(r),) for r in values)


def refuse_points(domain: Any, what: str, span: Span, help: str) -> None:
    """Raise where something is asked of points that they do not have."""
    from ndl.compiler.diagnostics import fail

    if isinstance(domain, DomainV) and isinstance(domain.shape, PointsV):
        raise fail("NDL596", f"`{domain.name}` is a set of points, {what}", span, help=help)
