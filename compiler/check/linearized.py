"""`linearize(M, x)`: the derivative of a model's equations by a state, as a linear map; `eig` of maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import Map, as_map, refuse_unless_symmetric
from ndl.compiler.check.scope import Deferred, Scope
from ndl.compiler.check.values import UNKNOWN, Builtin, HostV, ModelV, TupleV, Unknown, Value, describe
from ndl.compiler.diagnostics import did_you_mean, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.check.sites import Site


class ModelMap(Map):
    """The derivative of a model's equations by one state; the host knows the map for a grid. In a model
    `frame` has those equations."""

    frame: Elaboration | None = None

    def __init__(self, model: ModelV, state: str, span: Any, point: Any = None, choice: Any = None) -> None:
        super().__init__("base", self._outside, name=f"linearize({model.decl.name}, {state})")
        self.model, self.state, self.span, self.point, self.choice = model, state, span, point, choice

    @property
    def of_arrays(self) -> bool:
        return True

    def _outside(self, ev: Any, v: Value, span: Any) -> Any:
        if self.frame is None:
            what, help_ = _unnamed(self.span)
            raise fail("NDL569", what, self.span, help=help_)
        return ev.lowering.tangent(ev, self, v, span)


def model_maps(value: Any) -> Iterator[ModelMap]:
    """The derivatives of models in a map."""
    if isinstance(value, ModelMap):
        yield value
    elif isinstance(value, Map):
        for inner in (*value.of, value.source):
            yield from model_maps(inner)


def _unnamed(span: Span) -> tuple[str, str]:
    what = f"`{span.text}` stands inside of a formula, where its parameters have no name"
    return what, f"define it in the model: `A = {span.text}`"


def check_named(ev: Evaluator, el: Elaboration) -> None:
    """In a model `linearize(M, x)` is a definition. Errors: NDL569."""
    parts = el.parts
    formulas = [e.value for e in (*parts.rates.values(), *parts.zeros)]
    formulas += [term.value for term in parts.terms.values()]
    for name, stmt in parts.derived.items():
        found = el.lookup(name, 0)
        if not isinstance(found, Unknown) and not any(True for _ in model_maps(found)):
            formulas.append(stmt.value)
    calls = {n.span.start: n for e in formulas for n in walk(e) if isinstance(n, tree.Call)}
    for call in calls.values():
        found = el.scope.find(call.func.id) if isinstance(call.func, tree.Name) else None
        if isinstance(found, Builtin) and found.name == "linearize":
            what, help_ = _unnamed(call.span)
            ev.error("NDL569", what, call.span, help=help_)


class PointSite:
    """Where a model of which a map is the derivative gets its values: its states are those at the point."""

    def __init__(self, map_: ModelMap, outer: Site) -> None:
        self.map, self.outer = map_, outer

    def state(self, name: str, order: int, type: Tensor) -> Any:
        """The value about which the map is."""
        frame = self.map.frame
        assert frame is not None
        if frame.ev.checking:
            return self.outer.state(name, order, type)
        return frame.ev.lowering.point(self.map, name[len(frame.prefix) :], order)

    def __getattr__(self, name: str) -> Any:
        if name in ("past", "elsewhere"):  # other times are those of a path
            raise AttributeError(name)
        return getattr(self.outer, name)


def join_maps(outer: Elaboration, name: str, map_: Map) -> None:
    """The models of a map that is a model's definition: their parameters are the model's, `A.k`."""
    from ndl.compiler.check.applications import parts_of
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.check.parts import arguments_of

    several = list(model_maps(map_))
    for k, leaf in enumerate(several):
        if leaf.frame is not None:
            continue
        _refuse(outer.ev, leaf)
        options, given = arguments_of(outer.ev, leaf.model)
        shown = f"{name}[{k}]" if len(several) > 1 else name
        leaf.frame = Elaboration(
            outer.ev,
            parts_of(outer.ev, leaf.model.decl),
            leaf.model.module.scope,
            options,
            PointSite(leaf, outer.site),
            given=given,
            prefix=f"{outer.prefix}{shown}.",
            path=(*outer.path, (name, k)),
        )


def _refuse(ev: Evaluator, leaf: ModelMap) -> None:
    """Raise `NDLError` (NDL569) for a model whose derivative is no map inside of another one."""
    found = _obstacle(ev, leaf.model, leaf.state)
    if found is not None:
        raise fail("NDL569", f"{found[0]}: no linear map inside of a model", leaf.span, help=found[1])


def _obstacle(ev: Evaluator, model: ModelV, state: str) -> tuple[str, str] | None:
    """What stands in the way, and the remedy."""
    from ndl.compiler.check.applications import parts_of

    parts, name = parts_of(ev, model.decl), model.decl.name
    needed = [d.name for d in model.decl.data[len(model.data) :]] + [n for n in parts.inputs if n != "t"]
    missing = next((n for n in needed if n not in model.values), None)
    rate = parts.rates.get(state)
    if model.laws or model.members:
        return f"`{name}` has several members here", "set each parameter to one value"
    if parts.energies:
        return f"`{name}` is an energy", "write its equation, `0 = …`"
    if missing is not None:
        return (
            f"nothing tells the `{missing}` of `{name}`",
            f"set it: `linearize({name}({missing}=…), {state})`",
        )
    if rate is not None and rate.kind == "integral":
        return f"`{state}` has an integral equation", "write `jac(e, x) @ v` of the formula"
    if rate is None and state not in parts.algebraic():
        return f"`{state}` has no equation, it is reset", "write `jac(e, x) @ v` of the formula"
    return None


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
        return ModelMap(target, state, e.span, point)
    return ev.host.linearized(model, target, state, point, options.get("grid"), scope, e.span)


def _variable(ev: Evaluator, by: tree.Expr | None, names: list[str], scope: Scope) -> tuple[str | None, Any]:
    """The state, and the value about which the map is: None for the state's initial value."""
    if by is None:
        return (names[0] if len(names) == 1 else None), None
    known = not isinstance(by, tree.Name) or scope.find(by.id) is not None
    if ev.host is None and not ev.checking and known:  # in a model, which may define it by what the map makes
        return (by.id if isinstance(by, tree.Name) and by.id in names else names[0]), Deferred(
            lambda: ev.eval(by, scope)
        )
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


__all__ = ["ModelMap", "eig", "linearize", "model_maps"]
