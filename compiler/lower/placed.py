"""Operators of fields where their fields stand on grids: functions from arrays to arrays.

The first application makes the part and its weights. Where the same weights meet fields of another sampling,
the body is made again for that and stands in the place of a call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.operators import callable_value
from ndl.compiler.check.sets import option_set
from ndl.compiler.check.values import Axis, NetV, OperatorV, TupleV, Unknown, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.lower.fields import Fields
from ndl.compiler.lower.mapped import body_of
from ndl.compiler.lower.space import Space
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.builder import GraphBuilder

Axes = tuple[Axis, ...]


@dataclass
class Placed:
    """Along which axes the arguments of an operator stand, and its results, once it is lowered."""

    space: Space
    arguments: tuple[Axes, ...]
    results: list[Axes] = field(default_factory=list)


def fields_of(ev: Evaluator, placed: Placed) -> Fields:
    """What fields are in an operator: on the same grids, without conditions."""
    model: Any = SimpleNamespace(ev=ev)  # there is none
    return Fields(placed.space, model, {}, {})


def apply_placed(
    ev: Evaluator,
    builder: GraphBuilder,
    name: str,
    op: OperatorV,
    args: Sequence[Any],
    span: Span,
    net: NetV | None = None,
) -> Any:
    """An operator of fields, applied in a function with grids."""
    if ev.fields is None:
        what = f"`{op.decl.name}` is of fields, and here are none"
        raise fail("NDL440", what, span, help="apply it to fields of a model, or in a run with a grid")
    space: Space = ev.fields.space
    values = [_field(ev, op, p, a, span) for p, a in zip(op.decl.data, args)]
    axes = tuple(tuple(a for a in v.axes if space.stands(a)) for v in values)
    others = tuple(dict.fromkeys(a for v in values for a in v.axes if not space.stands(a)))
    part, placed = _part(ev, builder, name, op, values, axes, span, net)
    arrays = []
    for v, own in zip(values, axes):
        whole = aligned(ev, v, (*others, *own), span)
        arrays.append(split(whole, others))
    if part is builder.weights.parts[name]:
        found = builder.call(ev, name, part, arrays, span)
    else:
        inputs = dict(zip((n.attr("name") for n in part.inputs), arrays))
        made = body_of(ev, builder, part, inputs, name, span)
        found = made[0] if len(made) == 1 else TupleV(tuple(made))
    items = found.items if isinstance(found, TupleV) else (found,)
    results = tuple(_stood(v, own) for v, own in zip(items, placed.results))
    return results[0] if len(results) == 1 else TupleV(results)


def _stood(v: Value, own: Axes) -> Value:
    """An array as a field along axes; those bound outside come after."""
    whole = split(full(v), (*v.axes, *own))
    if not v.axes:
        return whole
    return replace(whole, axes=(*v.axes, *own))


def _field(ev: Evaluator, op: OperatorV, parameter: tree.Parameter, given: Any, span: Span) -> Value:
    """An argument along all the axes of its domain; a formula becomes the field that it stands for."""
    written, space = parameter.type, ev.fields.space
    if not isinstance(written, tree.FieldType):
        v = ev.value(given, span)
        if not isinstance(v, Value) or any(space.stands(a) for a in v.axes):
            what = f"`{op.decl.name}` wants a tensor for `{parameter.name}`, and this is a field"
            raise fail("NDL307", what, span, help=f"declare it `{parameter.name}: … on S`")
        return v
    domain = None
    if isinstance(written.domain, tree.Name):
        domain = option_set(ev, op, written.domain.id)
        if domain is None or not domain.coordinates:
            what = f"nothing here tells the domain `{written.domain.id}` of `{op.decl.name}`"
            raise fail("NDL308", what, span, help="apply it to a field, or give its net a signature")
        space.add(ev, domain, span)
    if callable_value(given) and domain is not None:
        points = [ev.fields.coordinate(domain.name, c, span) for c in domain.coordinates]
        given = ev.apply(given, points, span)
    v = ev.value(given, span)
    if isinstance(v, Unknown):
        raise fail("NDL902", f"`{parameter.name}` of `{op.decl.name}` has no value", span)
    if domain is None:
        return v
    wide = {*v.axes, *space.axes_of(domain.name, v.axes)}
    axes = tuple(sorted(wide, key=lambda a: math.inf if a.place is None else a.place))
    return split(aligned(ev, v, axes, span), axes)


def _part(
    ev: Evaluator,
    builder: GraphBuilder,
    name: str,
    op: OperatorV,
    values: Sequence[Value],
    axes: tuple[Axes, ...],
    span: Span,
    net: NetV | None,
) -> tuple[Function, Placed]:
    """The function for arguments that stand along these axes."""
    known = builder.weights.placed.setdefault(name, [])
    for part, placed in known:
        if placed.arguments == axes:
            return part, placed
    placed = Placed(ev.fields.space, axes)
    types = [_array(v, own) for v, own in zip(values, axes)]
    from ndl.compiler.lower.operators import lower_operator

    part = lower_operator(op, types, ev, name, net, placed)
    if known:
        check_weights(known[0][0], part, span)
        if part.remembers or part.draws:
            ev.not_lowered(f"`{op.decl.name}`, which draws or remembers, on a second sampling", span)
    else:
        builder.weights.parts[name] = part
    known.append((part, placed))
    return part, placed


def _array(v: Value, own: Axes) -> Tensor:
    """The type of the array of a field's values."""
    return Tensor(v.type.kind, (*(a.extent for a in own), *v.type.shape))


def check_weights(first: Function, second: Function, span: Span) -> None:
    """Raise where weights belong to a grid."""
    for a, b in zip(first.params, second.params):
        if a.type != b.type:
            raise tied(first.name, a.name, a.type, b.type, span)
    for name, part in first.parts.items():
        if name in second.parts:
            check_weights(part, second.parts[name], span)


def tied(operator: str, weight: str, one: Any, other: Any, span: Span) -> Exception:
    """The error of weights that belong to one sampling and meet another."""
    return fail(
        "NDL494",
        f"the weight `{weight}` of `{operator}` belongs to a grid: it is {one}, and would be {other} here",
        span,
        help="bring the field to that sampling by `resample(v, ratio)`; a training has the setting `grid`",
    )


__all__ = ["Placed", "apply_placed", "check_weights", "fields_of"]
