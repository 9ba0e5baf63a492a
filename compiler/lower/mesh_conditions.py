"""Boundary conditions of fields on meshes: values at nodes, slopes at the points of the boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.boundaries import SLOPE, VALUE, Component, Condition
from ndl.compiler.check.missing import of_second_order
from ndl.compiler.check.values import Unknown, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.mesh_fields import MeshFields


class MeshConditions:
    """The conditions on the boundaries of meshes in one function of a model."""

    def __init__(self, weak: MeshFields) -> None:
        self.weak = weak

    @property
    def by_part(self) -> Any:
        return self.weak.fields.conditions.by_part

    def of(self, mesh: MeshSpace, s: Subject) -> list[tuple[Condition, np.ndarray]]:
        """The conditions of a field, or a component, with the facets of each. Raises `NDLError` where two
        meet or one is missing."""
        found = [
            c
            for c in self.by_part.get(s.prefix, ())
            if c.field == s.name and c.domain.name == mesh.domain.name and c.about(s.component)
        ]
        frame = self.weak.fields.conditions.frame(s.prefix)
        if (s.prefix, s.text) not in self.weak.space.checked:
            self.weak.space.checked.add((s.prefix, s.text))
            second = s.name in frame.parts.states and of_second_order(frame, found, s.name, s.component)
            needed = second and not frame.parts.energies
            span = frame.parts.spans.get(s.name, Span())
            mesh.check(found, frame.scope, needed, s.text, span)
            if second or frame.parts.energies:
                _leaves_nodes(mesh, self.value_marks(mesh, s), s.text, span)
        return [(c, mesh.facets(c, frame.scope)) for c in found]

    def split(self, mesh: MeshSpace, s: Subject) -> bool:
        """Whether conditions say different things of its components."""
        return self.weak.fields.conditions.split(s.prefix, s.name, mesh.domain.name, None, s.component)

    def value_marks(self, mesh: MeshSpace, s: Subject) -> np.ndarray:
        """The nodes at which the value is given."""
        marks = np.zeros(len(mesh.elements.nodes), dtype=bool)
        for c, facets in self.of(mesh, s):
            if c.kind == VALUE:
                marks |= mesh.at_nodes(facets)
        return marks

    # ------------------------------------------------------------ values

    def _shares(self, mesh: MeshSpace, s: Subject) -> list[tuple[Condition, np.ndarray]]:
        """The nodes of each condition of value; where two parts meet, the later one has the node."""
        found: list[tuple[Condition, np.ndarray]] = []
        taken = np.zeros(len(mesh.elements.nodes), dtype=bool)
        for c, facets in reversed(self.of(mesh, s)):
            if c.kind == VALUE:
                nodes = mesh.at_nodes(facets) & ~taken
                taken |= nodes
                found.insert(0, (c, nodes))
        return found

    def lifted(self, mesh: MeshSpace, s: Subject, type_: Tensor) -> Value | None:
        """The given values (or their rates) at their nodes, 0 at others; None for 0."""
        weak, total = self.weak, None
        for c, nodes in self._shares(mesh, s):
            with weak.at("node"):
                datum = weak.fields.conditions.data(c, s.prefix, s.order, s.component)
                if is_number(datum) and datum == 0:
                    continue
                v = self._shaped(datum, mesh, type_, c.span)
                share = weak.ev.binary("*", v, weak.marks(mesh, f"nodes of {c.place}", nodes, "node"), c.span)
                total = share if total is None else weak.ev.binary("+", total, share, c.span)
        return total

    def _shaped(self, datum: Any, mesh: MeshSpace, type_: Tensor, span: Span) -> Value:
        ev, axes = self.weak.ev, (mesh.axes[self.weak.place],)
        v = ev.value(float(datum) if isinstance(datum, int) else datum, span)
        if isinstance(v, Unknown):
            raise fail("NDL902", "this condition has no value", span)
        if v.type.rank == 0 and type_.rank:
            v = ev.spread(v, type_.shape, span)
        return split(aligned(ev, v, axes, span), axes)

    def imposed(
        self,
        v: Value,
        mesh: MeshSpace,
        prefix: str,
        name: str,
        order: int = 0,
        moving: bool = True,
        homogeneous: bool = False,
    ) -> Value:
        """A field with the given values at their nodes. Without `moving`, those that change in time stay."""
        with self.weak.at("node"):
            return self._imposed(v, mesh, Subject(prefix, name, order), moving, homogeneous)

    def _imposed(self, v: Value, mesh: MeshSpace, s: Subject, moving: bool, homogeneous: bool) -> Value:
        weak, conditions = self.weak, self.weak.fields.conditions
        if self.split(mesh, s):
            return conditions.each(
                v, lambda j, part: self._imposed(part, mesh, s.at(j), moving, homogeneous), Span()
            )
        shares = self._shares(mesh, s)
        if not moving:
            shares = [(c, n) for c, n in shares if conditions.steady(c, s.prefix)]
        if not shares:
            return v
        marks = np.any([nodes for _, nodes in shares], axis=0)
        found: Any = weak.ev.binary("*", v, weak.marks(mesh, "free", ~marks, "node"), Span())
        for c, nodes in shares:
            datum = 0.0 if homogeneous else conditions.data(c, s.prefix, s.order, s.component)
            if is_number(datum) and datum == 0:
                continue
            share = self._shaped(datum, mesh, v.type, c.span)
            own = weak.ev.binary("*", share, weak.marks(mesh, f"nodes of {c.place}", nodes, "node"), c.span)
            found = weak.ev.binary("+", found, own, c.span)
        assert isinstance(found, Value)
        return found

    # ------------------------------------------------------------ slopes

    def owner(self, state: str, component: Component = ()) -> Subject:
        """A state, or a component, by its dotted name."""
        head, _, name = state.rpartition(".")
        return Subject(f"{head}." if head else "", name, 0, component)

    def slopes(self, mesh: MeshSpace, s: Subject) -> list[tuple[Condition, np.ndarray, Any]]:
        """The conditions of slope with their marks at points of the boundary, and what they give there."""
        data = self.weak.fields.conditions.data
        return [
            (c, mesh.at_points(facets), data(c, s.prefix, 0, s.component))
            for c, facets in self.of(mesh, s)
            if c.kind == SLOPE
        ]

    def normal_slope(self, mesh: MeshSpace, s: Subject) -> Any:
        """The derivative along the normal where conditions give it, 0 elsewhere."""
        weak, total = self.weak, 0.0
        for c, marks, datum in self.slopes(mesh, s):
            if is_number(datum) and datum == 0:
                continue
            own = weak.ev.binary("*", datum, weak.marks(mesh, f"points of {c.place}", marks, "facet"), c.span)
            total = own if is_number(total) else weak.ev.binary("+", total, own, c.span)
        return total

    def corrected(self, grads: list[Value], mesh: MeshSpace, s: Subject) -> list[Value]:
        """Derivatives on the boundary, the normal part replaced where a condition gives it."""
        weak, ev = self.weak, self.weak.ev
        if self.split(mesh, s):
            return self._corrected_apart(grads, mesh, s)
        conditions = self.slopes(mesh, s)
        if not conditions:
            return grads
        marks = np.any([m for _, m, _ in conditions], axis=0)
        covered = weak.marks(mesh, "slopes", marks, "facet")
        normal: Any = ev.binary("*", weak.along_normal(grads, mesh), covered, Span())
        gap = ev.binary("-", self.normal_slope(mesh, s), normal, Span())
        found = []
        for k, g in enumerate(grads):
            share = ev.binary("*", gap, weak.data(mesh, "normal", k), Span())
            value = ev.binary("+", g, share, Span())
            assert isinstance(value, Value)
            found.append(value)
        return found

    def _corrected_apart(self, grads: list[Value], mesh: MeshSpace, s: Subject) -> list[Value]:
        """The same of each component."""
        weak, count = self.weak, grads[0].type.shape[0].constant or 0
        parts = []
        for j in range(count):
            own = [weak.made("index", [g], axis=0, at=j) for g in grads]
            parts.append(self.corrected(own, mesh, s.at(j)))
        return [weak.made("stack", list(part), axis=0) for part in zip(*parts)]


def _leaves_nodes(mesh: MeshSpace, given: np.ndarray, name: str, span: Span) -> None:
    """Raises `NDLError` where a mesh is so coarse that conditions give a field at all of its nodes."""
    if not given.all():
        return
    width = float(np.ptp(mesh.elements.nodes, axis=0).min())
    raise fail(
        "NDL573",
        f"the mesh of `{mesh.domain.name}` leaves nothing of `{name}` to find: conditions give it at all of "
        f"its {len(given)} nodes",
        span,
        help=f"take a smaller `size`, such as `grid = fem(size={width / 20:.1g})`",
    )
