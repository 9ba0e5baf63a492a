"""Fields by the coefficients of their waves, `fft(v, m)` and `ifft(c)`, on the grids of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.values import Unknown, Value
from ndl.compiler.ops.families.duals import wavenumbers
from ndl.compiler.source import Span
from ndl.compiler.types import Dim, Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.values import Axis, DualV
    from ndl.compiler.lower.fields import Fields


def coefficients(fields: Fields, v: Value, dual: DualV, span: Span) -> Any:
    """The coefficients of a real field for the wavenumbers of its domain, in the place of its points."""
    space, name = fields.space, dual.domain.name
    assert dual.modes is not None
    axes = space.axes_of(name, v.axes)
    if any(space.grid_axis(a).kind == "chebyshev" or not space.grid_axis(a).periodic for a in axes):
        return fields.ev.error("NDL491", f"waves need evenly spaced points around `{name}`", span)
    v = _with_axes(fields, v, axes, span)
    place = v.axes.index(axes[0])
    made = fields.op("to_waves", full(v), span, axis=place, modes=dual.modes, start=_start(fields, axes),
                     adjoint=False)  # fmt: skip
    others = v.axes[:place], v.axes[place + len(axes) :]
    return split(made, (*others[0], space.dual(name, dual.modes), *others[1]))


def function(fields: Fields, c: Value, span: Span, at: tuple[Axis, ...] | None = None) -> Any:
    """The function that has these coefficients, at the points of its domain's grid or along other axes."""
    space = fields.space
    axis = next((a for a in c.axes if a in space.modes), None)
    if axis is None:
        return fields.ev.error("NDL492", "`ifft` is of a field on wavenumbers, and this has none", span)
    name, modes = space.modes[axis]
    axes, place = at or space.axes[name], c.axes.index(axis)
    made = fields.op(
        "from_waves",
        full(c),
        span,
        axis=place,
        modes=modes,
        shape=tuple(a.extent.constant for a in axes),
        start=_start(fields, axes),
        adjoint=False,
    )
    found = split(made, (*c.axes[:place], *axes, *c.axes[place + 1 :]))
    fields.waves[found.ref.id] = c
    return found


def waves_at(fields: Fields, c: Value, point: Sequence[Value], span: Span) -> Any:
    """The value of a function with these coefficients at a point: Re sum_k w_k c_k exp(2 pi i k . p/L)."""
    ev, space = fields.ev, fields.space
    axis = next(a for a in c.axes if a in space.modes)
    name, modes = space.modes[axis]
    rows = wavenumbers(modes)
    phase: Any = 0.0
    for j, (p, grid) in enumerate(zip(point, space.grids[name].axes)):
        turns = tuple(2 * math.pi * k[j] / (grid.upper - grid.lower) for k in rows)
        speeds = split(ev.builder.const(turns, Tensor("R", (Dim.of(len(rows)),)), span), (axis,))
        phase = ev.binary("+", phase, ev.binary("*", speeds, p, span), span)
    shares = tuple(2.0 if any(k) else 1.0 for k in rows)
    w = split(ev.builder.const(shares, Tensor("R", (Dim.of(len(rows)),)), span), (axis,))
    waves = [ev.binary("*", w, ev.elementwise(n, [phase], span), span) for n in ("cos", "sin")]
    parts = [ev.elementwise(n, [c], span) for n in ("real", "imag")]
    products = [ev.binary("*", part, wave, span) for part, wave in zip(parts, waves)]
    gap = ev.value(ev.binary("-", products[0], products[1], span), span)
    if isinstance(gap, Unknown):
        return gap
    from ndl.compiler.check.axes import reduce_axes

    return reduce_axes(ev, "sum", gap, [axis], span)


def _start(fields: Fields, axes: Sequence[Axis]) -> tuple[float, ...]:
    """The lower ends in units of the lengths."""
    grids = [fields.space.grid_axis(a) for a in axes]
    return tuple(g.lower / (g.upper - g.lower) for g in grids)


def _with_axes(fields: Fields, v: Value, axes: Sequence[Axis], span: Span) -> Value:
    """A value that stands along all of some axes, repeated along those on which it does not depend."""
    missing = [a for a in axes if a not in v.axes]
    if not missing:
        return v
    wide = sorted((*v.axes, *missing), key=lambda a: math.inf if a.place is None else a.place)
    return split(aligned(fields.ev, v, tuple(wide), span), tuple(wide))
