"""`linearize(M, x)` in a model: the derivative of M's equations along a vector, in the graph of the model.

M's formulas are read with values in the place of its states. The one by which the map is the derivative is a
node of its own there, so that what else depends on the same value is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.linearized import ModelMap
from ndl.compiler.check.scope import Deferred
from ndl.compiler.check.values import Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.autodiff import jvp
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.conditions import beside
from ndl.compiler.lower.equations import filled, has_scheme, residuals, start, stored
from ndl.compiler.source import Span

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.lower.models import ModelLowering, Slot


def point(map_: ModelMap, name: str, order: int) -> Value:
    """The value of a state of M: where the map is taken about a value that, else its initial one."""
    frame = _frame(map_)
    if "." in name:
        _refuse(map_, "of a model with parts")
    ev, slot = frame.ev, _slot(map_, name, order)
    given = map_.point if name == map_.state and order == 0 else None
    found = given.get() if isinstance(given, Deferred) else given
    decl = frame.parts.states[name].get(order)
    if found is None and decl is not None and decl.law is not None and name not in frame.given:
        what = f"`{slot.name}` of `{map_.model.decl.name}` starts at a random value: no map is known about it"
        raise fail("NDL569", what, map_.span, help="give the value about which it is: `linearize(M, x0)`")
    if found is None:
        with beside(ev.fields.conditions, map_):
            array = start(frame, ev.lowering, slot)
    else:
        array = filled(ev, found, slot.spec.type, map_.span, slot.axes)
    whole = full(_value(ev, array, map_.span))
    if whole.type.shape != slot.spec.type.shape:
        what = f"`{map_.name}` is about {whole.type}, and `{name}` is {slot.spec.type}"
        raise fail("NDL471", what, map_.span)
    own = _value(ev, ev.binary("*", 1.0, whole, map_.span), map_.span)
    return split(own, slot.axes)


def tangent(ev: Evaluator, map_: ModelMap, v: Value, span: Span) -> Any:
    """dF/dx v, of fields 0 where conditions of M give the value. Raises `NDLError` (NDL471, NDL569)."""
    frame, slot = _frame(map_), _slot(map_, map_.state, 0)
    if any(ev.fields.space.mesh_of(a) for a in slot.axes):
        _refuse(map_, "on a mesh")
    if has_scheme(frame, slot):
        _refuse(map_, "by fluxes that look where the flow comes from")
    if slot.spec.type.kind == "C":
        _refuse(map_, "by a complex state")
    at = frame.lookup(map_.state, 0)
    if v.type.kind == "Z":
        v = _value(ev, ev.binary("*", 1.0, v, span), span)
    if v.type.shape != at.type.shape or set(v.axes) != set(at.axes) or v.type.kind != at.type.kind:
        what = f"`{map_.name}` is of values like `{map_.state}`, {at.type}, and is applied to {v.type}"
        raise fail("NDL471", what, span)
    lowering = _lowering(frame)
    with beside(ev.fields.conditions, map_):
        way = split(aligned(ev, v, slot.axes, span), slot.axes) if slot.axes else v
        way = _free(frame, slot, way, span)
        image = full(_value(ev, _equation(frame, slot, lowering), span)).ref
        found = jvp(ev.lowering.graph, image, [at.ref], [full(way).ref], lowering.weights.parts)
        ev.lowering.adopt()
        return _free(frame, slot, split(value_of(found), slot.axes), span)


def _equation(frame: Elaboration, slot: Slot, lowering: ModelLowering) -> Any:
    """F of `x' = F` or `0 = F`."""
    if not slot.spec.algebraic:
        return filled(frame.ev, frame.rate(slot.name), slot.spec.type, slot.spec.span, slot.axes)
    own = [s for s in lowering.slots_of(frame) if s.spec.algebraic]
    return residuals(frame, own)[slot.spec.name]


def _free(frame: Elaboration, slot: Slot, v: Value, span: Span) -> Value:
    """A value that is 0 where conditions give that of the state."""
    if not slot.axes:
        return v
    return split(stored(frame.ev, v, slot, 0, span, homogeneous=True), slot.axes)


def _value(ev: Evaluator, v: Any, span: Span) -> Value:
    found = ev.value(v, span)
    if isinstance(found, Unknown):
        raise fail("NDL471", "this map has no value here", span)
    return found


def _frame(map_: ModelMap) -> Elaboration:
    assert map_.frame is not None
    return map_.frame


def _lowering(frame: Elaboration) -> ModelLowering:
    found: ModelLowering = frame.site.lowering  # type: ignore[attr-defined]
    return found


def _slot(map_: ModelMap, name: str, order: int) -> Slot:
    frame = _frame(map_)
    return next(s for s in _lowering(frame).slots_of(frame) if (s.name, s.order) == (name, order))


def _refuse(map_: ModelMap, how: str) -> None:
    what = f"`{map_.name}` {how} is no linear map inside of a model"
    raise fail("NDL569", what, map_.span, help="outside of models, in a `test`, it serves")


__all__ = ["point", "tangent"]
