"""Constraints on fields, `0 = div(v)`, and the states that make them hold, the multipliers.

A multiplier p stands in no equation of its own; it enters the rates by the adjoint of the constraint, as
`- grad(p)`. On evenly spaced points both are taken from the values at the middles of the cells: the
derivative along an axis is the difference across a cell, averaged over the other axes, and what is known at
the middles is averaged back to the points. At a point inside this is a central difference along the axis
and the mean with weights 1/4, 1/2, 1/4 along the others, at an end the difference and the mean of two
points. Where the multiplier has a value, an outlet, the difference is from the middle of the last cell to
the end. The two derivatives are then each other's negative adjoints, for values that vanish on the
boundary, and the constraint holds if and only if it holds in every cell: the pair of continuous
bilinear velocities and piecewise constant pressures (Gresho and Sani, Incompressible Flow and the
Finite Element Method, 1998, section 3.13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.boundaries import VALUE, Condition
from ndl.compiler.check.values import Axis, Value
from ndl.compiler.ir.graph import Node
from ndl.compiler.source import Span

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.lower.fields import Fields
    from ndl.compiler.lower.models import ModelLowering

DIFFERENCE = {"offset": -1, "center": (-0.5, 0.0, 0.5), "low": ((-1.0, 1.0),), "high": ((-1.0, 1.0),)}
OPEN = {"low": ((1.0, 1.0),), "high": ((-1.0, -1.0),)}
"""The same where the multiplier has the value 0: from the middle of the last cell to the end, half a cell."""
MEAN = {"offset": -1, "center": (0.25, 0.5, 0.25), "low": ((0.5, 0.5),), "high": ((0.5, 0.5),)}


def compact(fields: Fields, v: Value, letter: str, span: Span) -> Value | None:
    """The first derivative by a coordinate from the middles of cells; None on grids for which the usual one
    is its own pair (series), or that have no such pair."""
    axes = [a for a in v.axes if a in fields.space.owner]
    grids = {a: fields.space.grid_axis(a) for a in axes}
    along = next((a for a in axes if a.name == letter), None)
    if along is None or any(g.kind not in ("uniform", "fourier") or g.cells for g in grids.values()):
        return None
    if all(g.kind == "fourier" for g in grids.values()):
        return None
    found = v
    for axis, grid in grids.items():
        if grid.kind == "fourier":
            if axis is along:
                found = fields._multiplied(found, [(1.0, {axis: 1})], span)
            continue
        rows, scale = (DIFFERENCE, 1 / grid.step) if axis is along else (MEAN, 1.0)
        ends = open_ends(fields, v, axis) if axis is along else {}
        rows = rows | {side: OPEN[side] for side in ends}
        found = _applied(fields, found, axis, rows, scale, grid.periodic, span)
        for side, c in ends.items():
            weights = (-2.0 if side == "low" else 2.0,)
            found = fields._with_end(found, v, axis, c, span, side=side, weights=weights, scale=scale)
    return found


def open_ends(fields: Fields, v: Value, axis: Axis) -> dict[str, Condition]:
    """The ends at which a multiplier has a value."""
    if fields.constraining or not fields.conditions.is_one_of(v, fields.multipliers):
        return {}
    ends = zip(("low", "high"), fields.conditions.of(v, axis))
    return {side: c for side, c in ends if c is not None and c.kind == VALUE}


def _applied(
    fields: Fields, v: Value, axis: Axis, rows: Any, scale: float, periodic: bool, span: Span
) -> Value:
    shown = {**rows, "low": (), "high": ()} if periodic else rows
    made = fields.op(
        "stencil",
        full(v),
        span,
        axis=v.axes.index(axis),
        periodic=periodic,
        transposed=False,
        scale=scale,
        **shown,
    )
    return split(made, v.axes)


def multipliers(lowering: ModelLowering) -> frozenset[tuple[str, str]]:
    """(prefix, name) of the fields whose equation `0 = e` does not read them."""
    found = set()
    for frame in lowering.frames:
        slots = [s for s in lowering.slots if s.frame is frame and s.spec.algebraic and s.axes]
        if not slots or frame.parts.energies:
            continue
        el = lowering.scratch().descend(frame.path)
        for slot, eq in zip(slots, frame.parts.zeros):
            if el.ev.fields.on_mesh(slot.axes) is None and not reads(el, eq.value, slot.name):
                found.add((frame.prefix, slot.name))
    return frozenset(found)


def reads(el: Elaboration, e: Any, name: str) -> bool:
    """Whether an expression depends on a state."""
    value, state = el.ev.value(el.ev.eval(e, el.scope), e.span), el.lookup(name, 0)
    if not isinstance(value, Value) or not isinstance(value.ref, Node) or not isinstance(state, Value):
        return True
    needed = el.ev.lowering.graph.needed([value.ref])
    return any(n is state.ref or n.id == state.ref.id for n in needed)
