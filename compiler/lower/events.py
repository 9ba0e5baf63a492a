"""Events and requirements of a model and its parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full
from ndl.compiler.check.check_model import TRIGGERS
from ndl.compiler.check.evaluator import Evaluator, constant_of
from ndl.compiler.check.indexing import read_index
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.statements import run
from ndl.compiler.check.values import DistV, EveryV, Value, WordV
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import EventSpec, RequireSpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.draws import fresh_draw
from ndl.compiler.lower.equations import filled
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering


def events_of(lowering: ModelLowering) -> tuple[EventSpec, ...]:
    """The events of a model and its parts, numbered in this order."""
    found = [(frame, event) for frame in lowering.frames for event in frame.parts.events]
    return tuple(event_of(lowering, frame, event, k) for k, (frame, event) in enumerate(found))


def event_of(lowering: ModelLowering, frame: Elaboration, event: tree.When, number: int) -> EventSpec:
    """`when falling(h): …`: its guard or period, and what it resets."""
    seen: list[Any] = []
    columns: list[str] = []

    def guard(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        el = root.descend(frame.path)
        trigger = el.ev.eval(event.trigger, el.scope)
        seen.append(trigger)
        if isinstance(trigger, WordV) and trigger.name in TRIGGERS[:3]:
            return [("guard", trigger.args[0])]
        if isinstance(trigger, WordV) and trigger.args and isinstance(trigger.args[0], Value):
            node = g.node(trigger.args[0])
            columns.append(node.attr("name") if node.op == "path" else frame.prefix + _column(event))
        return []

    def period(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        el = root.descend(frame.path)
        trigger = el.ev.eval(event.trigger, el.scope)
        if isinstance(trigger, DistV):  # the mean time from one jump to the next
            return [("period", el.ev.binary("/", 1.0, trigger.args[0], event.trigger.span))]
        assert isinstance(trigger, EveryV)
        return [("period", trigger.value)]

    function = lowering.function("guard", guard)
    jumps = frame.parts.jumps.get(id(event))
    every = isinstance(seen[0], EveryV) or jumps is not None
    stop = next((s for s in event.body if isinstance(s, tree.Stop)), None)
    resets = list(dict.fromkeys(reset_name(s) for s in event.body if isinstance(s, tree.Reset)))
    waiting = lowering.function("period", period, with_states=False) if every else None
    if jumps is not None and waiting is not None and waiting.inputs:
        raise fail(
            "NDL439",
            f"the rate of `{frame.prefix}{jumps}` changes during a run",
            event.trigger.span,
            help="give it a rate that a run does not change: a number, a parameter or a draw",
        )
    return EventSpec(
        kind="poisson" if jumps is not None else "every" if every else seen[0].name,
        text=" ".join(event.trigger.span.text.split()),
        guard=function if function.outputs else None,
        reset=_reset(lowering, frame, event, resets, number) if resets else None,
        resets=tuple(frame.prefix + r for r in resets),
        period=waiting,
        column=f"{frame.prefix}{jumps}" if jumps is not None else next(iter(columns), None),
        stop=stop is not None,
        why=stop.reason if stop is not None else None,
        span=event.span,
    )


def _column(event: tree.When) -> str:
    """What `sample(y)` names."""
    e = event.trigger
    assert isinstance(e, tree.Call)
    return e.args[0].value.span.text


def refuse_held(found: Sequence[EventSpec], functions: Iterable[Function | None]) -> None:
    """A sampled input jumps at its data, and steps of a rate that reads it would see both sides."""
    sampled = {e.column: e for e in found if e.kind == "sample"}
    for f in functions:
        for node in f.graph.needed([n for _, n in f.outputs]) if f is not None and sampled else ():
            if node.op == "path" and node.attr("name") in sampled:
                name = node.attr("name")
                raise fail(
                    "NDL490",
                    f"a rate that reads the sampled input `{name}` is not yet lowered",
                    sampled[name].span,
                    help=f"keep its last value in a state: `state last = {name}(0)`, and in the event "
                    f"`last <- {name}`",
                )


def reset_name(stmt: tree.Reset) -> str:
    target = stmt.target.value if isinstance(stmt.target, tree.Index) else stmt.target
    assert isinstance(target, tree.Name)
    return target.id + "'" * target.primes


def _reset(
    lowering: ModelLowering, frame: Elaboration, event: tree.When, resets: list[str], number: int
) -> Function:
    def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        el = root.descend(frame.path)
        scope: Scope = el.scope.child()
        new: dict[str, Any] = {}
        for stmt in event.body:
            if isinstance(stmt, tree.Assign):
                run(el.ev, stmt, scope)
            elif isinstance(stmt, tree.Draw):
                scope.names[stmt.name] = fresh_draw(el, stmt, scope, number)
            elif isinstance(stmt, tree.Reset):
                new[reset_name(stmt)] = _reset_value(el, stmt, scope, new)
        return [(frame.prefix + n, new[n]) for n in resets]

    return lowering.function("reset", make)


def _reset_value(el: Elaboration, stmt: tree.Reset, scope: Scope, new: dict[str, Any]) -> Any:
    """A state's new value; of a reset component, the whole state with that component replaced."""
    ev = el.ev
    old = ev.value(ev.eval(stmt.target, scope), stmt.target.span)
    assert isinstance(old, Value)
    value = filled(ev, ev.eval(stmt.value, scope, old.type), full(old).type, stmt.value.span, old.axes)
    assert isinstance(value, Value)
    if not isinstance(stmt.target, tree.Index):
        return value
    whole = new.get(reset_name(stmt))
    if whole is None:
        whole = ev.value(ev.eval(stmt.target.value, scope), stmt.target.span)
    assert isinstance(whole, Value)
    return _replaced(ev, whole, value, _places(ev, whole.type.extents, stmt.target, scope), stmt.span)


def _places(ev: Evaluator, shape: tuple[int, ...], target: tree.Index, scope: Scope) -> Any:
    """The places of the components that a reset names in the flat state, in their order."""
    import numpy as np

    places, axis = np.arange(math.prod(shape)).reshape(shape), 0
    for written in target.items:
        item = read_index(ev, written, scope)
        if isinstance(item, Value):
            item = constant_of(ev.known(ev.eval(written, scope)))
        if isinstance(item, slice):
            places = places[(slice(None),) * axis + (item,)]
        elif item is None:
            raise fail(
                "NDL327",
                "which components a reset changes must be known when compiling",
                written.span,
                help="reset the whole state, `x <- [if i == k then v else x[i] for i]`",
            )
        else:
            places = np.take(places, item, axis)
        axis += not isinstance(item, int)
    return places.reshape(-1)


def _replaced(ev: Evaluator, whole: Value, value: Value, places: Any, span: Span) -> Any:
    """A state with the components at `places` replaced: each is taken from the old or the new values."""
    size = math.prod(whole.type.extents)
    chosen = list(range(size))
    for k, place in enumerate(places):
        chosen[int(place)] = size + k
    flat: list[Any] = [
        ev.op("reshape", [v], span, shape=(math.prod(v.type.extents),)) for v in (whole, value)
    ]
    both = ev.op("concat", flat, span, axis=0)
    at = ev.builder.const(tuple(chosen), Tensor("Z", (Dim.of(size),)), span)
    taken: Any = ev.op("gather", [both, at], span, axis=0)  # type: ignore[list-item]
    return ev.op("reshape", [taken], span, shape=whole.type.extents)


def require_of(lowering: ModelLowering, frame: Elaboration, require: tree.Require) -> RequireSpec:
    def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        el = root.descend(frame.path)
        return [("condition", el.ev.eval(require.cond, el.scope))]

    function = lowering.function("require", make)
    return RequireSpec(function, " ".join(require.cond.span.text.split()), require.why, require.span)
