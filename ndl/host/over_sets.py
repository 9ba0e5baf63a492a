"""Reductions over domains outside of models: `mean(e, Square)` in a loss, of arrays on the block's grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.grids import Fem, grid_of
from ndl.compiler.check.values import DomainV, PointsV, Unknown
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ir.grid import end_weights
from ndl.compiler.source import Span
from ndl.host.builder import lift
from ndl.host.masked import nothing_missing
from ndl.runtime.grids import grid_points, grid_weights

OVER_GRIDS = ("integral", "mean", "var", "std", "max", "min")
OVER_POINTS = ("sum", "mean", "var", "std", "max", "min")


class SetPoints:
    """The points of a domain: along how many axes they stand, their coordinates and their weights."""

    def __init__(self, shape: tuple[int, ...], points: list[torch.Tensor], weights: torch.Tensor) -> None:
        self.shape, self.points, self.weights = shape, points, weights

    def first_axis(self, v: torch.Tensor, domain: DomainV, span: Span) -> int:
        """The axis at which those of the points begin in a value: the first one, or, of what is recorded in
        time, the second. Raises `NDLError` (NDL567)."""
        shape, many = tuple(v.shape), len(self.shape)
        if not shape:
            return 0
        fits = [k for k in (0, 1) if shape[k : k + many] == self.shape]
        if len(fits) == 1:
            return fits[0]
        points = " × ".join(map(str, self.shape))
        what = f"`{domain.name}` has {points} points here, and this is R{[*shape]}"
        if fits:
            what += ", in which they can be found in two ways"
            raise fail("NDL567", what, span, help="take one time or component, `e[0]`, or write `mean(e)`")
        raise fail("NDL567", what, span, help="give it on the grid of the training, time first")


class OverSets:
    """The host's part for reductions over sets."""

    def over_set(
        self: Any,
        name: str,
        domain: Any,
        names: Sequence[str],
        body: Callable[[Mapping[str, Any]], tuple[Any, Any]],
        span: Span,
    ) -> Any:
        """`mean(e, x in S)`, of values `[*points, *components]` or `[time, *points, *components]` on the grid
        of the training; `body` gives the value and a condition (or None). Raises `NDLError`."""
        if not isinstance(domain, DomainV):
            return self.ev.not_lowered(f"`{name}` over this set outside of a model", span)
        scattered = isinstance(domain.shape, PointsV)
        known = OVER_POINTS if scattered else OVER_GRIDS
        if name not in known:
            return self.ev.not_lowered(f"`{name}` over `{domain.name}` outside of a model", span)
        places = self._scattered(domain, domain.shape, span) if scattered else self._on_grid(domain, span)
        value, cond = body(_bound(places, domain, names, span))
        v = self.ev.value(value, span)
        if isinstance(v, Unknown):
            return v
        nothing_missing(v, f"`{name}` over a set", span)
        where = None if cond is None else self.ev.value(cond, span)
        if where is not None and where.axes:
            return self.ev.not_lowered("a condition by an index on the points of a set", span)
        # the values of bound indices stand first
        array = aligned(self.ev, v, v.axes, span).ref
        at = len(v.axes) or places.first_axis(array, domain, span)
        return split(lift(_reduced(name, array, places, at, None if where is None else where.ref)), v.axes)

    def _scattered(self: Any, domain: DomainV, shape: PointsV, span: Span) -> SetPoints:
        rows = shape.rows
        if rows is None:
            return self.ev.not_lowered(f"a mean over `{domain.name}` outside of a model", span)  # type: ignore[no-any-return]
        points = torch.tensor(rows, dtype=torch.float64)
        return SetPoints((len(rows),), list(points.T), torch.ones(len(rows), dtype=torch.float64))

    def _on_grid(self: Any, domain: DomainV, span: Span) -> SetPoints:
        choice = self.run_grid
        chosen = None if choice is None else choice.of(domain.name)
        if domain.shape is not None or isinstance(chosen, Fem):
            return self.ev.not_lowered(f"a reduction over `{domain.name}`, a mesh, outside of a model", span)  # type: ignore[no-any-return]
        if chosen is None:
            raise _gridless(domain, span)
        axes = grid_of(self.ev, domain, choice, span).axes
        points = torch.meshgrid(*(grid_points(a.layout) for a in axes), indexing="ij")
        weights = torch.ones((), dtype=torch.float64)
        for a in axes:
            plain = a.periodic or a.kind == "chebyshev"
            ends = [] if plain else [float(w) for w in end_weights(a.order, a.cells)]
            weights = weights[..., None] * grid_weights(a.layout, ends)
        return SetPoints(tuple(a.n for a in axes), list(points), weights)


def _gridless(domain: DomainV, span: Span) -> NDLError:
    return fail(
        "NDL440",
        f"the grid of `{domain.name}` is not known here",
        span,
        help="add the setting `grid = uniform(65)` to the training; in a test, let the model have the mean, "
        "`m = mean(u, x in S)`, and write `s.final.m`",
    )


def _bound(places: SetPoints, domain: DomainV, names: Sequence[str], span: Span) -> dict[str, Any]:
    """What a binder's names stand for."""
    if not names:
        return {}
    if len(names) != len(places.points):
        what = f"`{domain.name}` has {len(places.points)} coordinates, and this binds {len(names)}"
        raise fail("NDL337", what, span)
    return {n: lift(p) for n, p in zip(names, places.points)}


def _reduced(
    name: str, v: torch.Tensor, places: SetPoints, at: int, cond: torch.Tensor | None
) -> torch.Tensor:
    """A reduction of an array along the axes of the points, which begin at axis `at`."""
    many = len(places.shape)
    if not v.ndim:
        v = v.expand(places.shape)
    axes = tuple(range(at, at + many))
    after = (1,) * (v.ndim - at - many)
    weights = places.weights.to(v.device, v.dtype).reshape(*places.shape, *after)
    if name in ("max", "min"):
        if cond is not None:
            rest = -math.inf if name == "max" else math.inf
            v = torch.where(cond.reshape(*places.shape, *after), v, rest)
        return v.amax(axes) if name == "max" else v.amin(axes)
    if cond is not None:
        weights = torch.where(cond.reshape(*places.shape, *after), weights, 0.0)
    total = (weights * v).sum(axes)
    if name in ("integral", "sum"):
        return total
    mean = total / weights.sum()
    if name == "mean":
        return mean
    gap = v - mean.reshape(*mean.shape[:at], *(1,) * many, *mean.shape[at:])
    var = (weights * gap**2).sum(axes) / weights.sum()
    return var if name == "var" else var.sqrt()
