"""Delayed states, `x(t - tau)`: reads of the run's own past, and how far back each of them goes.

A read is the op `path` at the delayed time, under a name of its own; the solver binds its dense output to
that name. The lags of all reads in the equations, events and requirements are one function of (t, states).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import DelaySpec
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.equations import rates
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering
    from ndl.compiler.lower.sites import GraphSite


def read_past(site: GraphSite, state: Value, at: Value, span: Span) -> Value:
    """`x(e)`: the state at the earlier time e."""
    builder, known = site.builder, {s.spec.name: s for s in site.lowering.slots}
    node = builder.node(state)
    slot = known.get(str(node.attr("name"))) if node.op == "input" else None
    if slot is None or not slot.moving:
        raise fail(
            "NDL490",
            f"a delay of anything but a state with a rate (`{span.text}`) is not yet lowered",
            span,
            help="keep the quantity in a state, or write the delay at each state in it",
        )
    time, when = builder.node(site.time(None)), builder.node(at)
    lag, constant = _lag(builder, time, when, set(known))
    delay = _numbered(site.lowering, DelaySpec(slot.spec.name, constant, span))
    site.lags[delay] = Value(Tensor(), lag)
    past = builder.add("path", [when], span, type=slot.spec.type, name=f"past {delay}", order=0)
    return Value(Tensor(state.type.kind, state.type.shape, None, state.type.unit), past)


def _lag(builder: GraphBuilder, time: Node, when: Node, states: set[str]) -> tuple[Node, bool]:
    """How far back a read goes, and whether that is the same all through a run."""
    operands = builder.graph.operands(when)
    if when.op != "sub" or operands[0] is not time:
        return builder.add("sub", [time, when], when.span, type=Tensor()), False
    moving = {"t", *states}
    needed = builder.graph.needed([operands[1]])
    return operands[1], not any(n.op == "path" or n.attr("name", "") in moving for n in needed)


def _numbered(lowering: ModelLowering, delay: DelaySpec) -> int:
    """The number of a read; the same words in several functions are one read."""
    for k, known in enumerate(lowering.delays):
        if (known.state, known.span) == (delay.state, delay.span):
            return k
    lowering.delays.append(delay)
    return len(lowering.delays) - 1


def lags(lowering: ModelLowering) -> Function | None:
    """(t, states) -> the lag of each read that a run makes."""
    if not lowering.delays:
        return None

    def make(root: Elaboration, g: GraphBuilder) -> list[tuple[str, Any]]:
        rates(lowering, root)
        for frame in lowering.frames:
            el = root.descend(frame.path)
            for formula in (
                *(e.trigger for e in frame.parts.events),
                *(r.cond for r in frame.parts.requires),
            ):
                el.ev.eval(formula, el.scope)
        site: Any = root.site
        return [(f"lag{k}", value) for k, value in sorted(site.lags.items())]

    return lowering.function("lags", make)


def refuse_slopes(lowering: ModelLowering, nodes: Sequence[Node]) -> None:
    """Raise for the derivative of a delayed state by time, which a run's dense output does not give."""
    for node in nodes:
        kind, _, number = str(node.attr("name", "")).partition(" ")
        if node.op == "path" and kind == "past" and node.attr("order", 0):
            span = lowering.delays[int(number)].span
            raise fail(
                "NDL490",
                f"the derivative of a delayed state (`{span.text}`) is not yet lowered",
                span,
                help="give the rate a state of its own and delay that",
            )
