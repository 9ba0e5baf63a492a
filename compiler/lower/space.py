"""The grids and meshes of a model's domains, made once for all of its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.grids import Fem, GridChoice, chosen_for, grid_of, written_at
from ndl.compiler.check.point_sets import refuse_points
from ndl.compiler.check.values import Axis, DomainV, PointsV
from ndl.compiler.diagnostics import fail
from ndl.compiler.geometry import store
from ndl.compiler.ir.grid import Grid, GridAxis, MeshGrid
from ndl.compiler.lower.mesh_space import MeshSpace, Reading, cuts_of, mesh_space, same_shape
from ndl.compiler.ops.families.duals import count
from ndl.compiler.source import Span
from ndl.compiler.types import Dim


class Space:
    """The grids of a model's domains. `conditions` are those of the model and its parts, with their
    scopes."""

    def __init__(self, choice: GridChoice | None, read: Reading | None = None) -> None:
        self.choice, self.read = choice, read
        self.conditions: tuple[Mapping[str, Any], Mapping[str, Any]] = {}, {}
        self.meshes: dict[str, MeshSpace] = {}
        self.checked: set[tuple[str, str]] = set()
        self.grids: dict[str, Grid] = {}
        self.axes: dict[str, tuple[Axis, ...]] = {}
        self.owner: dict[Axis, tuple[str, int]] = {}
        self.domains: dict[str, DomainV] = {}
        self.copies: dict[Axis, Axis] = {}
        """Axes along which the points of a domain are taken once more, by those of its grid."""
        self.samplings: dict[tuple[str, tuple[int, ...]], tuple[Axis, ...]] = {}
        """The axes of other numbers of points, and what they are the axes of."""
        self.sampled: dict[Axis, GridAxis] = {}
        self.clouds: dict[str, tuple[tuple[float, ...], ...]] = {}
        """The coordinates of sets of points."""
        self.duals: dict[tuple[str, tuple[int, ...]], Axis] = {}
        self.modes: dict[Axis, tuple[str, tuple[int, ...]]] = {}
        """Axes of wavenumbers: the domain, and up to where they go."""

    def add(self, ev: Evaluator, domain: DomainV, span: Span) -> tuple[Axis, ...]:
        """The axes of a domain's grid, made once. Raises `NDLError`."""
        if isinstance(domain.shape, PointsV):
            return self._add_points(domain, domain.shape, span)
        fem = chosen_for(domain, self.choice, span)
        if isinstance(fem, Fem):
            return self._add_mesh(ev, domain, fem, span)
        grid = grid_of(ev, domain, self.choice, span)
        if domain.name in self.axes and grid != self.grids[domain.name]:
            what = f"two domains of this model and its parts are called `{domain.name}`"
            raise fail("NDL341", what, span, help="declare one of them under another name")
        if domain.name not in self.axes:
            start = len(self.owner)
            made = tuple(
                Axis(a.coordinate, Dim.of(a.n), start + k, (domain.name, k)) for k, a in enumerate(grid.axes)
            )
            self.grids[domain.name], self.axes[domain.name] = grid, made
            self.domains[domain.name] = domain
            self.owner |= {axis: (domain.name, k) for k, axis in enumerate(made)}
        return self.axes[domain.name]

    def _add_points(self, domain: DomainV, shape: PointsV, span: Span) -> tuple[Axis, ...]:
        """The axis of the points of a set, made once."""
        name, rows = domain.name, shape.rows or ()
        if name in self.axes and (name not in self.clouds or self.clouds[name] != rows):
            what = f"two domains of this model and its parts are called `{name}`"
            raise fail("NDL341", what, span, help="declare one of them under another name")
        if name not in self.axes:
            start = len(self.owner)
            axis = Axis(f"{name}.point", Dim.of(len(rows)), start, (name, 0))
            key = store.cloud(name, np.array(rows, dtype=float))
            self.clouds[name], self.axes[name], self.domains[name] = rows, (axis,), domain
            self.grids[name] = Grid(name, (), mesh=MeshGrid(key, domain.coordinates, len(rows), True))
            self.owner[axis] = (name, 0)
        return self.axes[name]

    def copy(self, ev: Evaluator, domain: DomainV, span: Span) -> tuple[Axis, ...]:
        """New axes along which the points of a domain stand once more."""
        own = self.add(ev, domain, span)
        made = tuple(Axis(a.name, a.extent) for a in own)
        self.copies |= dict(zip(made, own))
        return made

    def _add_mesh(self, ev: Evaluator, domain: DomainV, fem: Fem, span: Span) -> tuple[Axis, ...]:
        """The axis of the nodes of a mesh, made once."""
        name = domain.name
        if name in self.meshes and not same_shape(self.meshes[name].domain, domain):
            what = f"two domains of this model and its parts are called `{name}`"
            raise fail("NDL341", what, span, help="declare one of them under another name")
        if name not in self.meshes:
            at, cuts = written_at(self.choice, span), cuts_of(name, *self.conditions)
            made = mesh_space(ev, domain, fem, cuts, self.read, len(self.owner), span, at)
            self.meshes[name], self.axes[name] = made, (made.axes["node"],)
            self.grids[name] = Grid(
                name, (), mesh=MeshGrid(made.key, domain.coordinates, len(made.elements.nodes))
            )
            self.owner |= {axis: (name, 0) for axis in made.axes.values()}
        return self.axes[name]

    def axes_of(self, domain: str, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        """The axes along which a value with these axes stands on a domain: those of its sampling."""
        own = {self.owner[a][1]: a for a in axes if a in self.owner and self.owner[a][0] == domain}
        return tuple(own.get(k, a) for k, a in enumerate(self.axes[domain]))

    def at(self, domain: str, points: Sequence[int]) -> tuple[Axis, ...]:
        """The axes of a domain with other numbers of points on grids of the same kinds."""
        base = self.axes[domain]
        if tuple(points) == tuple(a.extent.constant for a in base):
            return base
        key = (domain, tuple(points))
        if key not in self.samplings:
            made = tuple(
                Axis(a.name, Dim.of(n), a.place, (domain, k)) for k, (a, n) in enumerate(zip(base, points))
            )
            self.samplings[key] = made
            self.owner |= {axis: (domain, k) for k, axis in enumerate(made)}
            grids = self.grids[domain].axes
            self.sampled |= {axis: replace(g, n=n) for axis, g, n in zip(made, grids, points)}
        return self.samplings[key]

    def dual(self, domain: str, modes: tuple[int, ...]) -> Axis:
        """The axis of the wavenumbers of a domain, in the place of those of its points."""
        key = (domain, modes)
        if key not in self.duals:
            axis = Axis("k", Dim.of(count(modes)), self.axes[domain][0].place)
            self.duals[key] = axis
            self.modes[axis] = key
        return self.duals[key]

    def stands(self, axis: Axis) -> bool:
        """Whether an axis is one of points or of wavenumbers."""
        return axis in self.owner or axis in self.modes

    def mesh_of(self, axis: Axis) -> MeshSpace | None:
        """The mesh to which an axis belongs."""
        return self.meshes.get(self.owner[axis][0]) if axis in self.owner else None

    def scattered(self, axis: Axis) -> bool:
        """Whether an axis is that of a set of points, or a copy of it."""
        own = self.copies.get(axis, axis)
        return own in self.owner and self.owner[own][0] in self.clouds

    def has_scheme(self, axis: Axis) -> bool:
        """Whether what carries a field along this axis has a scheme of its own."""
        return (
            self.mesh_of(axis) is None
            and not self.scattered(axis)
            and self.grid_axis(axis).scheme != "central"
        )

    def grid_axis(self, axis: Axis) -> GridAxis:
        if self.mesh_of(axis) is not None:
            raise fail("NDL490", "this use of a field on a mesh is not yet lowered", Span())
        axis = self.copies.get(axis, axis)
        if axis in self.owner:
            at = self.domains.get(self.owner[axis][0])
            refuse_points(at, "where this has no meaning", Span(), "fields on points have values alone")
        if axis in self.sampled:
            return self.sampled[axis]
        domain, k = self.owner[axis]
        return self.grids[domain].axes[k]

    def domain_of(self, axes: Sequence[Axis]) -> str | None:
        """The domain on which a value with these axes is a field."""
        return next((self.owner[a][0] for a in axes if a in self.owner), None)
