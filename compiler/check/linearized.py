"""`linearize(M, x)`: the derivative of a model's equations by a state, as a linear map; `eig` of maps."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import Map, as_map, refuse_unless_symmetric
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, HostV, ModelV, TupleV, Unknown, Value, describe
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.syntax import tree
from ndl.compiler.types import Type


class ModelMap(Map):
    """The derivative of a model's equations by one state; the host knows the map for a grid."""

    def __init__(self, model: ModelV, state: str, span: Any, point: Any = None, choice: Any = None) -> None:
        super().__init__("base", self._outside, name=f"linearize({model.decl.name}, {state})")
        self.model, self.state, self.span, self.point, self.choice = model, state, span, point, choice

    @property
    def of_arrays(self) -> bool:
        return True

    def _outside(self, ev: Any, v: Value, span: Any) -> Any:
        return ev.not_lowered("`linearize` inside of a model", span)


def linearize(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`linearize(M, x)`, `linearize(M, x, grid=…)`: by the state x, about its initial value, or, where x is a
    value, about that."""
    given = [a.value for a in e.args if a.kind == "positional"]
    options = {a.name: a.value for a in e.args if a.kind == "keyword"}
    model = ev.eval(given[0], scope)
    source = getattr(model, "source", None)
    if isinstance(model, (Unknown, HostV)):
        return UNKNOWN
    target = source if isinstance(source, ModelV) else model
    if not isinstance(target, ModelV):
        what = f"`linearize` is of a model's equations, and this is {describe(model)}"
        return ev.error("NDL470", what, given[0].span, help="write `linearize(Model, state)`")
    from ndl.compiler.check.applications import parts_of

    parts = parts_of(ev, target.decl)
    names = list(parts.states)
    if not names:
        return ev.error("NDL470", f"`{target.decl.name}` has no state to linearize by", given[0].span)
    by = given[1] if len(given) > 1 else None
    state, point = _variable(ev, by, names, scope)
    if state is None:
        assert by is not None
        return ev.error(
            "NDL470",
            f"`{by.span.text}` is no state of `{target.decl.name}`",
            by.span,
            help=did_you_mean(by.span.text, names) or f"its states are {', '.join(names)}",
        )
    if ev.checking or ev.host is None:
        return ModelMap(target, state, e.span)
    return ev.host.linearized(model, target, state, point, options.get("grid"), scope, e.span)


def _variable(ev: Evaluator, by: tree.Expr | None, names: list[str], scope: Scope) -> tuple[str | None, Any]:
    """The state, and the value about which the map is: None for the state's initial value."""
    if by is None:
        return (names[0] if len(names) == 1 else None), None
    known = not isinstance(by, tree.Name) or scope.find(by.id) is not None
    if isinstance(by, tree.Name) and by.id in names:
        found = ev.eval(by, scope) if known else None
        return by.id, found if isinstance(found, Value) else None
    if not known or len(names) > 1:
        return None, None
    return names[0], ev.eval(by, scope)


def eig(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`eig(A)` of a matrix, `eig(A, n)` of a map: values and vectors, `v[k]` the vector of `w[k]`."""
    if any(isinstance(a, (Unknown, HostV)) for a in args):
        return UNKNOWN
    map_ = as_map(args[0])
    if map_ is not None and len(args) == 1:
        what = "`eig` of a map that is no matrix wants to know how many values"
        return ev.error("NDL474", what, e.span, help="write `eig(A, 4)` for the four nearest to 0")
    if ev.checking:
        return UNKNOWN
    if ev.host is None:
        matrix = ev.value(args[0], e.span)
        if map_ is not None or not isinstance(matrix, Value) or matrix.type.rank != 2:
            return ev.not_lowered("`eig` of this inside of a model", e.span)
        refuse_unless_symmetric(ev, matrix, "`eig` inside of a model", e.span)
        return TupleV((ev.op("eigvalsh", [matrix], e.span), ev.op("eigvecsh", [matrix], e.span)))
    return ev.host.eigen(ev, map_ or args[0], args[1] if len(args) > 1 else None, e.span)


__all__ = ["ModelMap", "eig", "linearize"]
