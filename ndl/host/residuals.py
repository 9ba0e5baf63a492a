"""Fields outside of models: their values on a boundary, and what is left of a steady equation for them."""

from __future__ import annotations

from typing import Any

import torch

from ndl.compiler.check.grids import Fem
from ndl.compiler.check.values import BoundaryV, ModelV, Value
from ndl.compiler.diagnostics import fail
from ndl.compiler.lower.imposed import no_points
from ndl.compiler.source import Span
from ndl.host.builder import lift
from ndl.host.maps import HostMap
from ndl.host.objects import ModelObject
from ndl.host.sample import batched


class Residuals:
    """The host's part for `impose` and `residual`."""

    def imposed(self: Any, v: Value, part: BoundaryV, g: Value, span: Span) -> Any:
        """`impose(v, part, g)` of arrays `[*points, *components]`, both ends of a coordinate included."""
        domain = part.domain
        chosen = None if self.run_grid is None else self.run_grid.of(domain.name)
        if domain.shape is not None or part.where or isinstance(chosen, Fem):
            return self.ev.not_lowered(f"`impose` on `{part.text}` outside of a model", span)
        if any(a.cells for a in chosen or ()):
            raise no_points(part, span)
        count, shape = len(domain.coordinates), tuple(v.ref.shape)
        known = not g.ref.ndim or tuple(g.ref.shape) == shape or tuple(g.ref.shape) == shape[count:]
        if len(shape) < count or not known:
            what = f"`{part.text}` is given R{[*g.ref.shape]}, and the field is R{[*shape]}"
            raise fail("NDL480", what, span, help="give a number, or a field at the same points")
        marks = torch.zeros(shape[:count], dtype=torch.bool)
        for k, side in part.faces:
            marks.select(k, 0 if side == "low" else shape[k] - 1).fill_(True)
        marks = marks.reshape(*shape[:count], *(1,) * (len(shape) - count)).to(v.ref.device)
        return lift(torch.where(marks, g.ref.to(v.ref.dtype), v.ref))

    def residual_of(self: Any, model: Any, target: ModelV, state: str, u: Value, span: Span) -> Any:
        """`residual(M, u)` at the points of u; where a condition gives the value, u less that."""
        place = HostMap(self, model, target, state, None, None, span)
        placed = place.placed(tuple(u.ref.shape))
        if u.ref.is_complex():
            return self.ev.not_lowered("`residual` of a complex field", span)
        instance = model.instance if isinstance(model, ModelObject) else self.instance(placed)
        if any(g.mesh for g in instance.GRIDS):
            return self.ev.not_lowered("`residual` on a mesh", span)
        shape = instance.state(state).shape
        if tuple(u.ref.shape) != shape:
            what = f"`{state}` of `{target.decl.name}` is R{[*shape]}, and is given R{[*u.ref.shape]}"
            raise fail("NDL479", what, span, help="give it on the grid of the model")

        def run(_: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            flat = x.reshape(*x.shape[: x.ndim - len(shape)], -1)
            found = instance.vector_field(flat.new_zeros(flat.shape[:-1]), flat)
            return (found.reshape(x.shape).to(x.dtype),)

        several = [u.ref, *(v.ref for v in target.values.values() if isinstance(v, Value))]
        if self.sample is not None and any(batched(v) for v in several):
            return lift(self.sample.whole(run, u.ref)[0])
        return lift(self.guarded(lambda: run(None, u.ref)[0], span))
