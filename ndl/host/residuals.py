"""Fields outside of models: their values on a boundary, and what is left of a steady equation for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ndl.compiler.check.grids import Fem
from ndl.compiler.check.values import BoundaryV, ModelV, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.lower.imposed import no_points
from ndl.compiler.source import Span
from ndl.host.builder import lift
from ndl.host.maps import HostMap
from ndl.host.objects import ModelObject
from ndl.host.sample import batched
from ndl.runtime.matrix_free import LinearOperator


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

    def residual_of(
        self: Any,
        model: Any,
        target: ModelV,
        names: Sequence[str],
        given: Sequence[Any],
        time: Value | None,
        grid: Any,
        span: Span,
    ) -> list[Value]:
        """What the equations leave of each state: F at the points of u, and where a condition gives the value
        u less that; with a `time`, u' less the rate, for functions of time. Raises `NDLError`."""
        whole = _Left(self, model, target, names, grid, span)
        if time is None:
            return whole.at(self.number(0.0), given)
        if not time.ref.ndim:
            return whole.along(time.ref, given)
        each = [whole.along(t, given) for t in time.ref.reshape(-1)]
        return [lift(torch.stack([v.ref for v in several])) for several in zip(*each)]


class _Left:
    """What the equations of one model leave."""

    def __init__(
        self, host: Any, model: Any, target: ModelV, names: Sequence[str], grid: Any, span: Span
    ) -> None:
        self.host, self.model, self.target, self.names, self.span = host, model, target, names, span
        self.grid = grid
        self.made: dict[Any, tuple[Any, list[HostMap]]] = {}

    def along(self, t: torch.Tensor, paths: Sequence[Any]) -> list[Value]:
        """At a time, for functions of it; their derivatives are those of their formulas."""
        host = self.host

        def values(at: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = (host.ev.value(host.ev.apply(f, [lift(at)], self.span), self.span) for f in paths)
            return tuple(v.ref for v in found)

        t = t.to(torch.float64)
        found = torch.func.jvp(values, (t,), (torch.ones_like(t),))
        return self.at(t, [lift(v) for v in found[0]], found[1])

    def at(self, t: Any, given: Sequence[Value], slopes: Sequence[torch.Tensor] = ()) -> list[Value]:
        if any(v.ref.is_complex() for v in given):
            raise self._complex()
        instance, places = self._instance(tuple(given[0].ref.shape))
        states = [instance.state(n) for n in self.names]
        for s, v in zip(states, given):
            if tuple(v.ref.shape) != s.shape:
                name, given_ = self.target.decl.name, [*v.ref.shape]
                what = f"`{s.name}` of `{name}` is R{[*s.shape]}, and is given R{given_}"
                raise fail("NDL479", what, self.span, help="give it on the grid of the model")
        count = len(states)
        meshed = any(g.mesh for g in instance.GRIDS)
        maps = [p.operator(s.shape) if meshed and s.algebraic else None for p, s in zip(places, states)]

        def run(_: Any, t: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            fields, rates = values[:count], values[count:]
            lead = fields[0].shape[: fields[0].ndim - len(states[0].shape)]
            whole = [x.reshape(*lead, s.size) for s, x in zip(states, fields)]
            x = torch.cat([whole[k] for k in sorted(range(count), key=lambda k: states[k].places.start)], -1)
            found = instance.vector_field(t.to(x.dtype).expand(lead), x)
            left = []
            for k, s in enumerate(states):
                own = _strong(maps[k], found[..., s.places])
                own = own if s.algebraic else rates[k].reshape(own.shape) - own
                left.append(own.reshape(fields[k].shape).to(fields[k].dtype))
            return tuple(left)

        host = self.host
        t = t if isinstance(t, torch.Tensor) else torch.tensor(float(t), dtype=torch.float64)
        values = [t, *(v.ref for v in given), *slopes]
        several = [*values, *(v.ref for v in self.target.values.values() if isinstance(v, Value))]
        if host.sample is not None and any(batched(v) for v in several):
            return [lift(v) for v in host.sample.whole(run, *values)]
        return [lift(v) for v in host.guarded(lambda: run(None, *values), self.span)]

    def _instance(self, shape: tuple[int, ...]) -> tuple[Any, list[HostMap]]:
        """The model on the grid of values of a shape, and the map of each state."""
        if shape not in self.made:
            host, choice = self.host, self.grid
            maps = [HostMap(host, self.model, self.target, n, None, choice, self.span) for n in self.names]
            known = isinstance(self.model, ModelObject)
            instance = self.model.instance if known else host.instance(maps[0].placed(shape))
            self.made[shape] = instance, maps
        return self.made[shape]

    def _complex(self) -> NDLError:
        return fail("NDL490", "`residual` of a complex field is not yet lowered", self.span)


def _strong(A: LinearOperator | None, found: torch.Tensor) -> torch.Tensor:
    """F at the nodes of a mesh: M^-1 of its sums against their functions, where no value is given."""
    if A is None:
        return found
    plain = found.to("cpu", torch.float64)
    return torch.where(A.space.free, A.space.primal(plain), plain).to(found)
