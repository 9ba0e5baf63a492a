"""Initial values, rates, residuals and terms of a model and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.calls import take_apart
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import Axis, Value
from ndl.compiler.check.weights import read_item
from ndl.compiler.ir.graph import Function
from ndl.compiler.lower.builder import GraphBuilder
from ndl.compiler.lower.draws import on_grid
from ndl.compiler.lower.energies import stationary
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import ModelLowering, Slot

Named = list[tuple[str, Any]]


def filled(ev: Evaluator, value: Any, type_: Tensor, span: Span, axes: tuple[Axis, ...] = ()) -> Any:
    """A value of a state's shape; a number fills it. With the axes of a grid, a field as an array."""
    v = ev.value(value, span)
    if isinstance(v, Value) and v.type.rank == 0 and type_.rank > len(axes):
        v = ev.spread(v, type_.shape[len(axes) :], span)
    return aligned(ev, v, axes, span) if axes and isinstance(v, Value) else v


def stored(
    ev: Evaluator,
    value: Any,
    slot: Slot,
    order: int,
    span: Span,
    moving: bool = True,
    homogeneous: bool = False,
) -> Any:
    """A state's value or rate, of this order in time: where conditions give it at the ends of the grid,
    theirs, and `homogeneous` 0."""
    found = filled(ev, value, slot.spec.type, span, slot.axes)
    if not slot.axes or not isinstance(found, Value):
        return found
    conditions, prefix = ev.fields.conditions, slot.frame.prefix
    v = split(found, slot.axes)
    v = conditions.impose(v, slot.axes, prefix, slot.name, span, order, moving, homogeneous)
    return full(ev.fields.truncated(v, span))


def initial(lowering: ModelLowering) -> Function:
    """() -> the initial value of each state, earlier values left out; 0 as a first guess where none is
    given."""

    def make(root: Elaboration, g: GraphBuilder) -> Named:
        own = [s for s in lowering.slots if s.spec.source is None]
        return [(s.spec.name, start(root.descend(s.frame.path), g, s)) for s in own]

    return lowering.function("initial", make, with_states=False)


def start(el: Elaboration, g: GraphBuilder, slot: Slot) -> Any:
    """The initial value of a state."""
    s, span = slot.spec, slot.spec.span
    decl = el.parts.states[slot.name].get(slot.order)
    given = slot.name + "'" * slot.order in {*el.given, *el.varied}
    if decl is not None and decl.law is not None and not given:
        law = read_item(el.ev, decl, el.scope).law
        type_ = Tensor(s.type.kind, s.type.shape[len(slot.axes) :])
        value = on_grid(g, el, slot.name, f"initial {s.name}", law, type_, slot.axes, span)
    else:
        value = el.start(slot.name, slot.order, s.type)
    # what a condition gives at the start of a run is not known yet where it changes in time
    return stored(el.ev, 0.0 if value is None else value, slot, slot.order, span, moving=False)


def drift(lowering: ModelLowering) -> Function:
    """(t, states) -> the rate of each state, or the residual of an algebraic one."""

    return lowering.function("vector_field", lambda root, g: rates(lowering, root))


def pace(lowering: ModelLowering) -> Function | None:
    """(t, states) -> the reciprocal of the step of Courant number 1, where fields have schemes."""
    if lowering.schemes is None or not lowering.schemes.limited:
        return None

    def make(root: Elaboration, g: GraphBuilder) -> Named:
        rates(lowering, root)
        assert lowering.schemes is not None
        node = lowering.schemes.pace()
        assert isinstance(node.type, Tensor)
        return [("pace", Value(node.type, node))]

    return lowering.function("pace", make)


def rates(lowering: ModelLowering, root: Elaboration) -> Named:
    """The rate of each state, or the residual of an algebraic one, in one reading of the model."""
    found: Named = []
    residuals = {k: v for f in lowering.frames for k, v in _residuals(lowering, root, f).items()}
    carried = _carried(lowering, root)
    for slot in lowering.slots:
        el, s = root.descend(slot.frame.path), slot.spec
        if s.algebraic:
            found.append((s.name, residuals[s.name]))
        elif not slot.moving:
            found.append((s.name, filled(el.ev, 0.0, s.type, s.span, slot.axes)))
        elif slot.order + 1 < el.parts.order(slot.name):
            rate = el.lookup(slot.name, slot.order + 1)
            found.append((s.name, filled(el.ev, rate, s.type, s.span, slot.axes)))
        else:
            own = carried.get(s.name)
            rate = _rate(root, slot, slot.order + 1) if own is None else own
            found.append((s.name, stored(el.ev, rate, slot, slot.order + 1, s.span)))
    return found


def _carried(lowering: ModelLowering, root: Elaboration) -> Mapping[str, Value]:
    """The rates of fields whose axes have schemes."""
    rates: Named = []
    for slot in lowering.slots:
        highest = slot.order + 1 >= slot.frame.parts.order(slot.name)
        if slot.moving and not slot.spec.algebraic and highest and has_scheme(root, slot):
            rates.append((slot.spec.name, root.descend(slot.frame.path).rate(slot.name)))
    return _with_schemes(lowering, root, rates)


def has_scheme(el: Elaboration, slot: Slot) -> bool:
    """Whether an axis of a field has a scheme for what carries it."""
    return any(el.ev.fields.space.has_scheme(a) for a in slot.axes)


def _with_schemes(lowering: ModelLowering, root: Elaboration, rates: Named) -> Mapping[str, Value]:
    """Rates by the names of their states, what carries fields by the schemes of their axes."""
    if not rates:
        return {}
    from ndl.compiler.lower.schemes import Schemes

    slots = {s.spec.name: s for s in lowering.slots}
    arrays = []
    for name, rate in rates:
        slot, ev = slots[name], root.descend(slots[name].frame.path).ev
        array = filled(ev, rate, slot.spec.type, slot.spec.span, slot.axes)
        if isinstance(array, Value):
            arrays.append((slot, ev.lowering.node(array)))
    schemes = Schemes(lowering, root)
    found = schemes.applied(arrays)
    lowering.schemes = schemes
    return {k: split(Value(slots[k].spec.type, node), slots[k].axes) for k, node in found.items()}


def _rate(root: Elaboration, slot: Slot, order: int) -> Any:
    """The right side of a state's equation; on a mesh by its weak form."""

    def make() -> Any:
        return root.descend(slot.frame.path).rate(slot.name)

    fields = root.ev.fields
    return fields.weak.rate(slot, make, order) if fields.on_mesh(slot.axes) else make()


def _residuals(lowering: ModelLowering, root: Elaboration, frame: Elaboration) -> dict[str, Any]:
    """`0 = e` for each algebraic state of a model or a part."""
    return residuals(
        root.descend(frame.path), [s for s in lowering.slots if s.frame is frame and s.spec.algebraic]
    )


def residuals(el: Elaboration, slots: list[Slot]) -> dict[str, Any]:
    """`0 = e` for each algebraic state: in order where the shapes agree, else cut from one vector."""
    ev = el.ev
    states = [s.spec for s in slots]
    if any(s.axes for s in slots):
        return _field_residuals(el, slots)
    values = [ev.value(ev.eval(eq.value, el.scope), eq.value.span) for eq in el.parts.zeros]
    if [v.type.shape for v in values if isinstance(v, Value)] == [s.type.shape for s in states]:
        return {s.name: v for s, v in zip(states, values)}
    span = el.parts.decl.name_span
    flat = []
    for v in values:
        assert isinstance(v, Value)
        size = 1
        for n in v.type.extents:
            size *= n
        flat.append(ev.op("reshape", [v], span, shape=(size,)))
    whole = ev.op("concat", flat, span, axis=0)  # type: ignore[arg-type]
    found, start = {}, 0
    for s in states:
        part = ev.op("slice", [whole], s.span, axis=0, start=start, stop=start + s.size)  # type: ignore[list-item]
        found[s.name] = ev.op("reshape", [part], s.span, shape=s.type.extents)  # type: ignore[list-item]
        start += s.size
    return found


def _field_residuals(el: Elaboration, slots: list[Slot]) -> dict[str, Any]:
    """One `0 = e` for each field, in order; where a value is given, the distance from it."""
    ev, found = el.ev, {}
    if el.parts.energies:
        varied = stationary(el, slots)
        return {n: given_ends(el, s, varied[n], s.spec.span) for s in slots for n in (s.spec.name,)}
    for slot, eq in zip(slots, el.parts.zeros):
        mesh = ev.fields.on_mesh(slot.axes)
        if mesh is None:
            ev.fields.constraining = (slot.frame.prefix, slot.name) in ev.fields.multipliers
            value = ev.value(ev.eval(eq.value, el.scope), eq.value.span)
            ev.fields.constraining = False
        else:
            type_ = Tensor("R", slot.spec.type.shape[1:])
            make = partial(_evaluated, ev.fields.el, slot, eq.value)
            value = ev.fields.weak.load(mesh, make, type_, eq.value.span)
        found[slot.spec.name] = given_ends(el, slot, value, eq.value.span)
    return found


def _evaluated(root: Elaboration, slot: Slot, e: Any) -> Any:
    el = root.descend(slot.frame.path)
    return el.ev.eval(e, el.scope)


def given_ends(el: Elaboration, slot: Slot, value: Any, span: Span) -> Any:
    """A residual, at points where the value of the field is given the distance from it."""
    ev = el.ev
    v: Any = split(filled(ev, value, slot.spec.type, span, slot.axes), slot.axes)
    field = el.lookup(slot.name, 0)
    conditions, prefix = ev.fields.conditions, slot.frame.prefix
    if (prefix, slot.name) in ev.fields.multipliers:
        return full(v)  # its values stand in the rates
    if ev.fields.on_mesh(slot.axes) is not None:
        wanted = conditions.impose(field, slot.axes, prefix, slot.name, span)
        if wanted is not field:
            v = conditions.impose(v, slot.axes, prefix, slot.name, span, homogeneous=True)
            v = ev.binary("+", v, ev.binary("-", field, wanted, span), span)
        return full(v)
    for axis in slot.axes:
        wanted = conditions.impose(field, (axis,), prefix, slot.name, span)
        if wanted is field:
            continue
        v = conditions.impose(v, (axis,), prefix, slot.name, span, homogeneous=True)
        v = ev.binary("+", v, ev.binary("-", field, wanted, span), span)
    return full(v)


def _share(el: Elaboration, value: Any, slot: Slot, span: Span) -> Any:
    """A term's share of a rate: 0 where conditions give the field, and with the modes that its grid keeps."""
    if slot.axes and el.ev.fields.on_mesh(slot.axes) is None:
        v = split(value, slot.axes) if isinstance(value, Value) and not value.axes else value
        value = stored(el.ev, v, slot, 1, span, homogeneous=True)
    return _truncated(el, value, slot, span)


def _truncated(el: Elaboration, value: Any, slot: Slot, span: Span) -> Any:
    """The share of a field in a term, with the modes that its grid keeps."""
    if not slot.axes or not isinstance(value, Value):
        return value
    v = value if value.axes else split(value, slot.axes)
    return full(el.ev.fields.truncated(v, span))


def term(lowering: ModelLowering, frame: Elaboration, name: str) -> Function:
    """A named part of the right-hand sides of its model, 0 for the states of other parts."""
    moving = [s.spec.name for s in lowering.slots if s.frame is frame and s.moving]
    span = frame.parts.terms[name].span

    def make(root: Elaboration, g: GraphBuilder) -> Named:
        el = root.descend(frame.path)
        value = el.lookup(name, 0)
        values = [value] if len(moving) == 1 else take_apart(el.ev, value, len(moving), span) or []
        found = dict(zip(moving, values))
        made = [
            (s, filled(el.ev, found.get(s.spec.name, 0.0), s.spec.type, span, s.axes)) for s in lowering.slots
        ]
        rates = [
            (s.spec.name, found[s.spec.name]) for s, _ in made if s.spec.name in found and has_scheme(el, s)
        ]
        carried = _with_schemes(lowering, root, rates)
        return [(s.spec.name, _share(el, carried.get(s.spec.name, v), s, span)) for s, v in made]

    return lowering.function(f"term_{frame.prefix}{name}", make)
