"""Fields on sets of points, and what is added up over the neighbours of each point.

Where the places that are centres and the points around them are known when compiling, as points of grids and
of sets are, a ball of known radius is a table of neighbours, a row for each centre, the rows filled up to the
longest. A field at the points of the ball is its values gathered by the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.axes import aligned, full, reduce_axes, split, to_tensor
from ndl.compiler.check.point_sets import refuse_points
from ndl.compiler.check.values import UNKNOWN, Axis, BallV, DomainV, ListV, PointsV, Unknown, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.geometry import store
from ndl.compiler.source import Span
from ndl.compiler.types import Dim

if TYPE_CHECKING:
    from ndl.compiler.lower.places import Places

CLOSE = 1e-12
"""By which part a radius is stretched, so that points at its very end are inside."""

SUMS = "take `sum` or `mean` over its points"

ROWS = 2_000_000
"""Pairs of points whose distances are worked out together."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Of centres along `axes` their neighbours along `near`: `index` `[centres, most]` numbers of points of a
    domain, `inside` 1 where there is one."""

    domain: DomainV
    axes: tuple[Axis, ...]
    near: Axis
    index: np.ndarray
    inside: np.ndarray


class Clouds:
    """Balls and sets of points in one function of a model or an operator."""

    def __init__(self, places: Places) -> None:
        self.places, self.ev, self.space = places, places.ev, places.space
        self.gathered: dict[int, tuple[Neighbours, int]] = {}
        """Nodes that are a coordinate of the neighbours, and its number."""

    # ------------------------------------------------------------ values

    def array(self, label: str, values: np.ndarray, axes: tuple[Axis, ...], whole: bool = False) -> Value:
        """Constant numbers along axes; `whole`: whole numbers, as one vector."""
        key = store.named(label, values.reshape(-1))
        op = "mesh_index" if whole else "mesh_data"
        flat = self.places.fields.source(op, Span(), key=key, size=int(values.size))
        if whole:
            return flat
        shape = tuple(a.extent.constant for a in axes)
        made = self.places.fields.op("reshape", flat, Span(), shape=shape)
        return split(made, axes)

    def at(self, v: Value, domain: str, given: Sequence[Any], span: Span) -> Any:
        """A field at given places, where these are its own points, a copy of them or neighbours; None for
        others."""
        refs = [p.ref.id for p in given if isinstance(p, Value)]
        found = [self.gathered.get(r) for r in refs]
        if found and found[0] is not None and all(f and f[0] is found[0][0] for f in found):
            near = found[0][0]
            if near.domain.name == domain and [f[1] for f in found if f] == list(range(len(given))):
                return self.gather(v, near, span)
        if domain not in self.space.clouds:
            return None
        own = self.space.axes[domain][0]
        axes = [p.axes for p in given if isinstance(p, Value)]
        same = [self.places.fields.coordinates.get(r) is own for r in refs]
        if len(refs) == len(given) and all(same) and all(len(a) == 1 and a == axes[0] for a in axes):
            renamed = tuple(axes[0][0] if a is own else a for a in v.axes)
            return Value(v.type, v.ref, renamed)
        raise fail(
            "NDL596",
            f"a field on the points of `{domain}` is known there alone",
            span,
            help="average it: `mean(v(y), y in ball(x, r))`",
        )

    def gather(self, v: Value, near: Neighbours, span: Span) -> Any:
        """A field at the neighbours of each centre."""
        own = self.space.axes_of(near.domain.name, v.axes)
        missing = [a for a in own if a not in v.axes]
        if missing:  # it does not vary along some axes
            wide = (*v.axes, *missing)
            v = split(aligned(self.ev, v, wide, span), wide)
        flat = to_tensor(self.ev, v, own, span)
        count = int(np.prod([a.extent.constant or 1 for a in own]))
        rest = tuple(d.constant for d in flat.type.shape[len(own) :])
        rows = self.ev.op("reshape", [flat], span, shape=(count, *rest))
        index = self.array("neighbours", near.index, (), whole=True)
        if isinstance(rows, Unknown):
            return UNKNOWN
        others = rows.axes
        taken = self.ev.builder.op("gather", [full(rows), index], span, {"axis": len(others)})
        lead = tuple(a.extent.constant for a in (*near.axes, near.near))
        shape = (*(a.extent.constant for a in others), *lead, *rest)
        made = self.places.fields.op("reshape", taken, span, shape=shape)
        return split(made, (*others, *near.axes, near.near))

    # ------------------------------------------------------------ neighbours

    def places_of(self, coordinates: Sequence[Any]) -> tuple[np.ndarray, tuple[Axis, ...]] | None:
        """The places `[n, d]` that coordinates run over and their axes, where these are points of a grid or
        a set."""
        known = self.places.fields.coordinates
        axes: list[Axis] = []
        own: list[Axis] = []
        for c in coordinates:
            if not isinstance(c, Value) or len(c.axes) != 1 or c.ref.id not in known:
                return None
            own.append(known[c.ref.id])
            axes.append(c.axes[0])
        domains = {self.space.owner[a][0] for a in own}
        if len(domains) != 1:
            return None
        (domain,) = domains
        points = self.points_of(self.space.domains[domain])
        if len(coordinates) != points.shape[1]:
            return None
        return points, tuple(dict.fromkeys(axes))

    def points_of(self, domain: DomainV) -> np.ndarray:
        """All points of a domain `[n, d]`, the last coordinate the fastest."""
        from ndl.compiler.ops.families.fields import grid_coordinates

        if isinstance(domain.shape, PointsV):
            return np.array(domain.shape.rows, dtype=float)
        axes = [
            np.asarray(grid_coordinates(self.space.grid_axis(a).layout)) for a in self.space.axes[domain.name]
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))

    def table(self, ball: BallV, domain: DomainV, span: Span) -> Neighbours | None:
        """The neighbours in a ball, where they are known when compiling."""
        radius = self.ev.known(ball.radius)
        centres = self.places_of(ball.centre)
        if not is_number(radius) or centres is None or domain.name in self.space.meshes:
            return None
        places, axes = centres
        self.space.add(self.ev, domain, span)
        points = self.points_of(domain)
        if points.shape[1] != places.shape[1]:
            return None
        turns = np.zeros(points.shape[1])
        for k, a in enumerate(self.space.grids[domain.name].axes):
            turns[k] = a.upper - a.lower if a.periodic else 0.0
        rows = _near(places, points, float(radius) * (1 + CLOSE), turns)
        most = max(1, max(map(len, rows)))
        index = np.zeros((len(rows), most), dtype=np.int64)
        inside = np.zeros((len(rows), most))
        for i, row in enumerate(rows):
            index[i, : len(row)], inside[i, : len(row)] = row, 1.0
        return Neighbours(domain, axes, Axis("near", Dim.of(most)), index, inside)

    def over(
        self,
        name: str,
        near: Neighbours,
        names: Sequence[str],
        body: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        span: Span,
    ) -> Any:
        """A reduction over the neighbours of each centre; of no neighbours it is 0."""
        ev, points = self.ev, self.points_of(near.domain)
        alone = isinstance(near.domain.shape, PointsV)
        if name == "integral" and alone:
            refuse_points(near.domain, "which has no volume", span, SUMS)
        if name not in ("integral", "mean", "max", "min") and not (name == "sum" and alone):
            return ev.not_lowered(f"`{name}` over a ball", span)
        along = (*near.axes, near.near)
        bound: list[Any] = []
        for k in range(points.shape[1]):
            p = self.array(f"neighbours {k}", points[near.index, k], along)
            self.gathered[p.ref.id] = near, k
            bound.append(p)
        named = dict(zip(names, bound)) if len(names) == len(bound) else {names[0]: ListV(tuple(bound))}
        value, cond = body(named)
        share: Any = self.array("weights of neighbours", near.inside * self.weights(near), along)
        if cond is not None:
            share = ev.binary("*", ev.elementwise("select", [cond, 1.0, 0.0], span), share, span)
        if name in ("max", "min"):
            there = ev.compare(">", share, 0, span, ())
            value = ev.elementwise("select", [there, value, -np.inf if name == "max" else np.inf], span)
            found: Any = ev.value(value, span)
            return reduce_axes(ev, "amax" if name == "max" else "amin", found, [near.near], span)
        total = self._sum(ev.binary("*", share, value, span), near, span)
        if name in ("integral", "sum"):
            return total
        measure = self._sum(share, near, span)
        some = ev.compare(">", measure, 0, span, ())
        return ev.binary("/", total, ev.elementwise("select", [some, measure, 1.0], span), span)

    def _sum(self, v: Any, near: Neighbours, span: Span) -> Any:
        found = self.ev.value(v, span)
        return (
            UNKNOWN if isinstance(found, Unknown) else reduce_axes(self.ev, "sum", found, [near.near], span)
        )

    def weights(self, near: Neighbours) -> np.ndarray:
        """The weights of quadrature of the neighbours, 1 of the points of a set."""
        from ndl.compiler.ir.grid import end_weights
        from ndl.compiler.ops.table import lookup

        if isinstance(near.domain.shape, PointsV):
            return np.ones(near.index.shape)
        each = []
        for a in self.space.axes[near.domain.name]:
            grid = self.space.grid_axis(a)
            plain = grid.periodic or grid.kind == "chebyshev"
            ends = () if plain else tuple(map(float, end_weights(grid.order, grid.cells)))
            each.append(np.asarray(lookup("grid_weights").reference(layout=grid.layout, ends=ends)))
        whole = each[0]
        for w in each[1:]:
            whole = np.multiply.outer(whole, w)
        found: np.ndarray = whole.reshape(-1)[near.index]
        return found


def _near(places: np.ndarray, points: np.ndarray, radius: float, turns: np.ndarray) -> list[np.ndarray]:
    """Of each place the numbers of the points at most a radius away; `turns` are lengths of periods, or 0."""
    found: list[np.ndarray] = []
    block = max(1, ROWS // len(points))
    for start in range(0, len(places), block):
        gap = places[start : start + block, None] - points[None]
        for k, length in enumerate(turns):
            if length:
                gap[..., k] -= length * np.round(gap[..., k] / length)
        inside = (gap**2).sum(-1) <= radius**2
        found += [np.flatnonzero(row) for row in inside]
    return found


__all__ = ["SUMS", "Clouds", "Neighbours"]
