"""Checks a model's formulas one by one, each against what its statement says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.boundaries import check_conditions
from ndl.compiler.check.condition_forms import check_forms
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.linearized import check_named
from ndl.compiler.check.missing import check_missing
from ndl.compiler.check.models import CheckSite, Elaboration, condition_value
from ndl.compiler.check.noises import noise_parts
from ndl.compiler.check.operators import draw_value, header_dims
from ndl.compiler.check.parts import check_parts
from ndl.compiler.check.resampled import check_model_samplings
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.typing import convert
from ndl.compiler.check.values import (
    UNKNOWN,
    DistV,
    EveryV,
    ModelV,
    Object,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.check.weights import read_item
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor

TRIGGERS = ("rising", "falling", "crossing", "sample")


def check_model(ev: Evaluator, model: ModelV) -> Elaboration:
    """Check everything that a model says; its names with their types are in the result."""
    decl = model.decl
    parts = parts_of(ev, decl)
    outer = model.module.scope
    options: dict[str, Any] = {}
    for p in decl.options:
        options[p.name] = ev.eval(p.default, outer.child(options)) if p.default is not None else UNKNOWN
    options |= {d: Value(Tensor("Z"), Dim.of(d)) for d in header_dims(decl, outer)}
    elaboration = Elaboration(ev, parts, outer, options, CheckSite())
    saved, ev.context = ev.context, elaboration
    for name in (*parts.params, *parts.consts, *parts.inputs, *parts.noises, *parts.nets, *parts.draws):
        elaboration.lookup(name, 0)
    _starts(ev, elaboration)
    for name in (*parts.derived, *parts.terms):
        elaboration.lookup(name, 0)
    for name, eq in parts.rates.items():
        if eq.kind == "integral":
            integral_rate(elaboration, name)
        else:
            elaboration.rate(name)
            noise_parts(elaboration, eq)
    _algebraic(ev, elaboration)
    for energy in parts.energies:
        ev.eval(energy.value, elaboration.scope)
    for event in parts.events:
        _event(ev, elaboration, event)
    for require in parts.requires:
        condition_value(ev, ev.eval(require.cond, elaboration.scope), require.cond.span, "what is required")
    for observed in parts.observes:
        ev.eval(observed.law, elaboration.scope)
    for condition in parts.conditions:
        _boundary(ev, elaboration, condition)
    conditions = check_conditions(ev, elaboration)
    check_forms(ev, elaboration, conditions)
    check_missing(ev, elaboration, conditions)
    _coordinates(ev, elaboration)
    check_model_samplings(ev, elaboration)
    check_parts(elaboration)
    check_named(ev, elaboration)
    ev.context = saved
    return elaboration


def _coordinates(ev: Evaluator, el: Elaboration) -> None:
    """Nothing of a model is called like a coordinate of its own fields."""
    for name in el.domains():
        domain = el.domain(name)
        for c in domain.coordinates if domain is not None else ():
            if c in el.parts.spans:
                what = f"`{c}` is a coordinate of `{name}`, on which this model has fields"
                ev.error("NDL552", what, el.parts.spans[c], help="give one of the two another name")


def _starts(ev: Evaluator, el: Elaboration) -> None:
    """Initial values against the states' types."""
    for name, orders in el.parts.states.items():
        for order, decl in orders.items():
            item = read_item(ev, decl, el.scope)
            wanted = el.state_type(name)
            if order and isinstance(item.value, Value) and wanted is not None and decl.type is None:
                plain = Tensor(wanted.kind, wanted.shape, wanted.on)
                convert(ev, item.value, plain, f"`{name}{chr(39) * order}`", decl.name_span)
        el.lookup(name, 0)


def integral_rate(el: Elaboration, name: str) -> None:
    """`y(t) = …`: the state is a path, and `t` an argument."""
    ev = el.ev
    eq = el.parts.rates[name]
    decl = el.parts.states[name].get(0)
    if decl is not None and decl.value is not None:
        ev.error("NDL420", f"`{name}(t) = …` leaves no room for an initial value", decl.value.span)
    wanted = el.state_type(name)
    point = el.lookup("t", 0)
    paths = [
        (f, n)
        for f in el.root.frames()
        for n, other in f.parts.rates.items()
        if other.kind == "integral" and f is not el
    ]
    kept = [(f.cache, n, f.lookup(n, 0)) for f, n in paths]
    for f, n in paths:
        f.cache[n, 0] = _Path(f.state_type(n))
    value = ev.eval(eq.value, el.scope.child({"t": point, name: _Path(wanted)}))
    for cache, n, found in kept:
        cache[n, 0] = found
    el.fit(value, eq, None if wanted is None else Tensor(wanted.kind, wanted.shape, None, wanted.unit))


class _Path(Object):
    """The unknown of an integral equation, as a function of time."""

    kind = "path"

    def __init__(self, type: Tensor | None) -> None:
        self.type = type

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Any) -> Any:
        return UNKNOWN if self.type is None else Value(Tensor(self.type.kind, self.type.shape))


def _algebraic(ev: Evaluator, el: Elaboration) -> None:
    """As many scalar `0 =` as scalar states without a rate."""
    parts = el.parts
    free = parts.algebraic()
    wanted: int | None = 0
    for name in free:
        type_ = el.state_type(name)
        size = _size(type_)
        wanted = None if wanted is None or size is None else wanted + size
    given: int | None = 0
    for eq in parts.zeros:
        value = ev.value(ev.eval(eq.value, el.scope), eq.value.span)
        size = _size(value.type) if isinstance(value, Value) else None
        given = None if given is None or size is None else given + size
    if parts.zeros and free and wanted is not None and given is not None and wanted != given:
        more = "equations" if given > wanted else "states"
        where = parts.zeros[-1].span if given > wanted else parts.spans[free[-1]]
        ev.error(
            "NDL412",
            f"{given} scalar equations `0 = …` meet {wanted} scalar states without a rate "
            f"({', '.join(f'`{n}`' for n in free)}): too many {more}",
            where,
        )


def _size(t: Tensor | None) -> int | None:
    if t is None or any(d.constant is None for d in t.shape):
        return None
    total = 1
    for n in t.extents:
        total *= n
    return total


def _event(ev: Evaluator, el: Elaboration, event: tree.When) -> None:
    trigger = ev.eval(event.trigger, el.scope)
    if isinstance(trigger, WordV) and trigger.name in TRIGGERS:
        for a in trigger.args:
            if isinstance(a, Value) and a.type.rank and trigger.name != "sample":
                ev.error("NDL421", f"an event watches a number, not {a.type}", event.trigger.span)
    elif isinstance(trigger, EveryV):
        if is_number(trigger.value) and trigger.value <= 0:
            ev.error("NDL422", "the period of an event must be positive", event.trigger.span)
    elif id(event) in el.parts.jumps:
        rate = trigger.args[0] if isinstance(trigger, DistV) else trigger
        if is_number(rate) and not rate > 0:
            ev.error("NDL422", "the rate of a noise must be positive", event.trigger.span)
        if isinstance(rate, Value) and rate.type.rank:
            ev.error("NDL421", f"the rate of a noise is a number, not {rate.type}", event.trigger.span)
    elif not isinstance(trigger, Unknown):
        ev.error(
            "NDL421",
            f"`when` waits for an event, not for {describe(trigger)}",
            event.trigger.span,
            help=_crossing(event.trigger)
            or "write `when rising(e)`, `falling(e)`, `crossing(e)`, `every h` or `sample(y)`",
        )
    inner: Scope = el.scope.child()
    for stmt in event.body:
        _event_statement(ev, el, stmt, inner)


def _crossing(e: tree.Expr) -> str | None:
    """The event at which a comparison becomes true."""
    word = {"<": "falling", "<=": "falling", ">": "rising", ">=": "rising", "==": "crossing"}
    if not isinstance(e, tree.Compare) or len(e.ops) != 1 or e.ops[0] not in word:
        return None
    left, right = (o.span.text for o in e.operands)
    watched = left if right == "0" else f"{left} - ({right})"
    return f"write `when {word[e.ops[0]]}({watched})`, for the time at which it becomes true"


def _event_statement(ev: Evaluator, el: Elaboration, stmt: tree.Stmt, scope: Scope) -> None:
    if isinstance(stmt, tree.Reset):
        target = stmt.target.value if isinstance(stmt.target, tree.Index) else stmt.target
        if not isinstance(target, tree.Name) or target.id not in el.parts.states:
            ev.error(
                "NDL423", f"`{stmt.target.span.text}` is not a state, so it cannot be reset", stmt.target.span
            )
            ev.eval(stmt.value, scope)
            return
        if target.primes >= max(el.parts.order(target.id), 1):
            ev.error(
                "NDL423",
                f"`{stmt.target.span.text}` follows from the equation of `{target.id}`, and cannot be reset",
                stmt.target.span,
                help=f"write `{target.id} <- {stmt.value.span.text}`",
            )
            return
        wanted = ev.eval(stmt.target, scope)
        expect = wanted.type if isinstance(wanted, Value) else None
        value = ev.eval(stmt.value, scope, expect)
        if isinstance(wanted, Value) and not isinstance(value, Unknown):
            plain = Tensor(wanted.type.kind, wanted.type.shape, wanted.type.on)
            convert(ev, value, plain, f"`{stmt.target.span.text}`", stmt.value.span)
    elif isinstance(stmt, tree.Assign):
        from ndl.compiler.check.statements import run

        for target in stmt.targets:
            if isinstance(target, tree.Name) and target.id in el.parts.states:
                ev.error(
                    "NDL423", f"in an event `{target.id}` is set by `<-`, not by `=`", target.span,
                    help=f"write `{target.id} <- {stmt.value.span.text}`",
                )  # fmt: skip
        run(ev, stmt, scope)
    elif isinstance(stmt, tree.Draw):
        scope.names[stmt.name] = draw_value(ev, stmt, scope)
    elif not isinstance(stmt, tree.Stop):
        ev.error("NDL401", "this statement has no meaning in an event", stmt.span)


def _boundary(ev: Evaluator, el: Elaboration, condition: tree.On) -> None:
    for stmt in condition.body:
        if isinstance(stmt, tree.Assign) and len(stmt.targets) == 1:
            ev.eval(stmt.targets[0], el.scope)
            ev.eval(stmt.value, el.scope)
        else:
            ev.error("NDL424", "a boundary condition is an equation, such as `u = 0`", stmt.span)


def model_types(el: Elaboration) -> Mapping[str, Tensor | None]:
    """The states with their types."""
    return {n: el.state_type(n) for n in el.parts.states}
