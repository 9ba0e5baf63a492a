"""`project = clip(1/out)`: what is done to a player's weights after each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndl.compiler.check.projected import bound_of
from ndl.compiler.check.values import is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree


def projection(
    session: Any, settings: Mapping[str, Any], fit: tuple[str, ...] | None, parameters: Mapping[str, Any]
) -> dict[str, float] | None:
    """The bounds of the matrices among the weights `fit` (None: all), by name; vectors and numbers, which
    add and do not multiply, are left alone. None without a setting `project`."""
    setting = settings.get("project") or session.settings.get("project")
    if setting is None:
        return None
    bound = bound_of(session.host.ev, setting[0])
    found = {}
    for name, p in parameters.items():
        if p.ndim < 2 or (fit is not None and name not in fit):
            continue
        value = _number(session, bound, int(p.shape[0]))
        if not value > 0:
            raise fail("NDL529", f"the bound of `{name}` is {value:g}, and it is above 0", bound.span)
        found[name] = value
    return found


def _number(session: Any, bound: tree.Expr, rows: int) -> float:
    value = session.host.number(session.host.ev.eval(bound, session.scope.child({"out": rows})))
    if not is_number(value):
        raise fail("NDL529", "the bound of `clip` is a number", bound.span)
    return float(value)
