"""Fields on meshes while a model is lowered: what a formula is at points of quadrature, and its derivatives.

A formula is read in one of three places: at the `node`s, where fields are stored, or at the points of
quadrature in the cells (`cell`) or on the boundary (`facet`). There a field is what its nodes interpolate,
coordinates are those of the points, and everything that acts at each point is the same text as for numbers.
Derivatives of what is made of fields and coordinates follow from the chain rule. A divergence of something
that has derivatives itself is left standing as a node `weak_divergence`, which goes when the equation takes
its weak form (`weak.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, reduce_axes, split
from ndl.compiler.check.boundaries import Component
from ndl.compiler.check.values import UNKNOWN, BoundaryV, DomainV, ListV, Unknown, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ir.autodiff import pushforward
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.mesh_conditions import MeshConditions
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.subjects import outwards
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.adjoint import spread
from ndl.compiler.source import Span

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields

Make = Callable[[], Any]
WEAK = "weak_divergence"


class MeshFields:
    """What formulas of fields on meshes are in one function of a model."""

    def __init__(self, fields: Fields) -> None:
        self.fields, self.ev, self.space = fields, fields.ev, fields.space
        self.place = "node"
        self._caches: dict[str, dict[Any, Any]] = {}
        self.conditions = MeshConditions(self)
        self.coordinates: dict[int, int] = {}
        """Nodes that are a coordinate at points of quadrature: its number."""
        self.values: dict[int, tuple[Value, str]] = {}
        """Nodes that are a field there: its values at the nodes and the state that it is, if any."""
        self.slopes: set[int] = set()
        self.gradients: dict[int, Value] = {}

    # ------------------------------------------------------------ places

    @property
    def graph(self) -> Any:
        return self.ev.lowering.graph

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Formulas are read at another place: names get other values."""
        if place == self.place:
            yield
            return
        el = self.fields.el
        before, pending = self.place, el.pending
        self._caches[before], self.place = el.cache, place
        el.cache, el.pending = self._caches.setdefault(place, {}), []
        try:
            yield
        finally:
            self._caches[place], self.place = el.cache, before
            el.cache, el.pending = self._caches[before], pending

    def mesh(self, v: Any) -> MeshSpace | None:
        """The mesh on which a value is a field."""
        axes = v.axes if isinstance(v, Value) else ()
        return next((m for a in axes if (m := self.space.mesh_of(a)) is not None), None)

    def data(self, mesh: MeshSpace, what: str, k: int = 0, place: str = "") -> Value:
        """A constant vector as a field."""
        place = place or self.place
        key, size = mesh.data(what, place, k)
        return split(self.fields.source("mesh_data", Span(), key=key, size=size), (mesh.axes[place],))

    def marks(self, mesh: MeshSpace, label: str, marks: Any, place: str) -> Value:
        key, size = mesh.marks(label, marks)
        return split(self.fields.source("mesh_data", Span(), key=key, size=size), (mesh.axes[place],))

    def coordinate(self, mesh: MeshSpace, k: int) -> Value:
        found = self.data(mesh, "point", k)
        if self.place != "node":
            self.coordinates[found.ref.id] = k
        return found

    def field(self, v: Value, state: str = "") -> Value:
        """A stored field at the present place."""
        mesh = self.mesh(v)
        if mesh is None or self.place == "node":
            return v
        found = self.apply(v, mesh, -1)
        self.values[found.ref.id] = v, state
        return found

    def apply(self, v: Value, mesh: MeshSpace, slope: int, back: bool = False) -> Value:
        """From the nodes to the present place; `back`: tested with the functions of the nodes."""
        here, nodes = mesh.axes[self.place], mesh.axes["node"]
        old, new = (here, nodes) if back else (nodes, here)
        at = v.axes.index(old)
        axes = tuple(new if a is old else a for a in v.axes)
        made = self.fields.op(
            "mesh_apply",
            full(v),
            Span(),
            mesh=mesh.key,
            place=self.place,
            slope=slope,
            axis=at,
            size=new.extent.constant,
            transposed=back,
        )
        return split(made, axes)

    def tested(self, v: Any, mesh: MeshSpace, slope: int = -1) -> Value:
        """The integral of a field at the present place times each function (or a derivative of it)."""
        product = self.ev.binary("*", v, self.data(mesh, "weight"), Span())
        assert isinstance(product, Value)
        return self.apply(product, mesh, slope, back=True)

    # ------------------------------------------------------------ derivatives

    def partial(self, v: Value, mesh: MeshSpace, k: int, span: Span) -> Any:
        """The derivative by coordinate k."""
        if self.place == "node":
            return self._projected(v, mesh, k)
        known = self.stored(v)
        if known is not None:
            found: Any = self._gradient_of(v, mesh)[k]
            for j in known[2]:
                found = self.ev.op("index", [found], span, axis=0, at=j)
            self.slopes.add(found.ref.id)
            return found
        if self.has(v.ref):
            return self._standing(self._unit(v, mesh, k, span), mesh, span)
        chained = self.chain(v.ref, mesh, k)
        return 0.0 if chained is None else split(value_of(chained), v.axes)

    def stored(self, v: Value) -> tuple[Value, str, Component] | None:
        """Of a stored field at this place, or a component of one, its values at the nodes, the state that it
        is, and which component."""
        for node, component in outwards(self.graph, v.ref, len(v.axes)):
            if node.id in self.values:
                return (*self.values[node.id], component)
        return None

    def _projected(self, v: Value, mesh: MeshSpace, k: int) -> Value:
        """The derivative of what the nodes interpolate, brought back to the nodes."""
        with self.at("cell"):
            load = self.tested(self.apply(v, mesh, k), mesh)
        return self.riesz(load, mesh)

    def has(self, node: Node) -> bool:
        """Whether a value is made of derivatives of fields."""
        return any(n.id in self.slopes or n.op == WEAK for n in self.graph.needed([node]))

    def varies(self, node: Node) -> bool:
        return any(n.id in self.slopes for n in self.graph.needed([node]))

    def _gradient_of(self, v: Value, mesh: MeshSpace) -> list[Value]:
        """The derivatives of a field; on the boundary with the normal one that conditions give."""
        known = self.stored(v)
        assert known is not None
        nodal, state, _ = known
        found = [self.apply(nodal, mesh, k) for k in range(mesh.elements.mesh.dimension)]
        self.slopes |= {g.ref.id for g in found}
        if self.place == "facet" and state:
            found = self.conditions.corrected(found, mesh, self.conditions.owner(state))
            self.slopes |= {g.ref.id for g in found}
        return found

    def chain(self, node: Node, mesh: MeshSpace, k: int) -> Node | None:
        """The derivative by coordinate k of what is made of fields and coordinates; None for 0."""
        graph, seeds = self.graph, {}
        for n in graph.needed([node]):
            if n.id in self.coordinates:
                if self.coordinates[n.id] == k:
                    seeds[n.id] = spread(graph, graph.add("const", value=1.0), shape_of(n))
                    self.ev.lowering.adopt()
            elif n.id in self.values:
                seeds[n.id] = full(self.apply(self.values[n.id][0], mesh, k)).ref
                self.slopes.add(seeds[n.id].id)
        if not seeds:
            return None
        found = pushforward(graph, node, seeds, ())
        self.ev.lowering.adopt()
        return found

    def gradient(self, v: Value, mesh: MeshSpace, span: Span) -> Any:
        parts = [self.partial(v, mesh, k, span) for k in range(mesh.elements.mesh.dimension)]
        whole = [self._filled(p, v, span) for p in parts]
        made = self.ev.op("stack", whole, span, axis=v.type.rank)
        if isinstance(made, Value) and self.stored(v) is not None:
            self.gradients[made.ref.id] = v
        return made

    def _filled(self, part: Any, like: Value, span: Span) -> Value:
        found = self.ev.value(part, span)
        assert isinstance(found, Value)
        return found if found.type.rank == like.type.rank else self.ev.spread(found, like.type.shape, span)

    def lap(self, v: Value, mesh: MeshSpace, span: Span) -> Any:
        return self.div(self.gradient(v, mesh, span), mesh, span)

    def div(self, v: Value, mesh: MeshSpace, span: Span) -> Any:
        count, last = mesh.elements.mesh.dimension, v.type.rank - 1
        if last < 0 or v.type.shape[-1].constant != count:
            what = f"`div` on {count} coordinates is of as many components, and this is {v.type}"
            return self.ev.error("NDL342", what, span)
        if self.place != "node" and self.has(v.ref):
            return self._standing(v, mesh, span)
        total: Any = 0.0
        for k in range(count):
            part = self.partial(self.component(v, k), mesh, k, span)
            total = part if k == 0 else self.ev.binary("+", total, part, span)
        return total

    def component(self, v: Value, k: int) -> Value:
        return self.made("index", [v], axis=v.type.rank - 1, at=k)

    def made(self, op: str, parts: list[Value], **attrs: Any) -> Value:
        """An op on fields of the mesh."""
        found = self.ev.op(op, parts, Span(), **attrs)
        assert isinstance(found, Value)
        return found

    def _unit(self, v: Value, mesh: MeshSpace, k: int, span: Span) -> Value:
        """v along coordinate k, 0 along others."""
        zero = self.ev.binary("*", 0.0, v, span)
        parts = [v if j == k else zero for j in range(mesh.elements.mesh.dimension)]
        made = self.ev.op("stack", parts, span, axis=v.type.rank)
        assert isinstance(made, Value)
        return made

    def _standing(self, v: Value, mesh: MeshSpace, span: Span) -> Value:
        if any(n.op == WEAK for n in self.graph.needed([v.ref])):
            raise waiting("a derivative of a second derivative on a mesh", span)
        return split(self.fields.op(WEAK, full(v), span), v.axes)

    def along_normal(self, parts: list[Any], mesh: MeshSpace) -> Any:
        total: Any = 0.0
        for k, part in enumerate(parts):
            share = self.ev.binary("*", part, self.data(mesh, "normal", k), Span())
            total = share if k == 0 else self.ev.binary("+", total, share, Span())
        return total

    def dn(self, v: Value, mesh: MeshSpace, span: Span) -> Any:
        """The derivative along the outer normal, on the boundary."""
        if self.place != "facet":
            hint = "it stands in a condition or in an integral over `boundary(Omega)`"
            return self.ev.error("NDL342", "`dn` is the slope at a boundary", span, help=hint)
        grads = [self.partial(v, mesh, k, span) for k in range(mesh.elements.mesh.dimension)]
        return self.along_normal(grads, mesh)

    def riesz(self, load: Value, mesh: MeshSpace, marks: Any = None) -> Value:
        """M^-1 of a load; with a consistent mass matrix among the nodes that are marked."""
        if mesh.fem.lumped:
            found = self.ev.binary("/", load, self.data(mesh, "weight", place="node"), Span())
            assert isinstance(found, Value)
            return found
        import numpy as np

        key, _ = mesh.marks("free", np.ones(len(mesh.elements.nodes)) if marks is None else marks)
        at = load.axes.index(mesh.axes["node"])
        return split(
            self.fields.op("mesh_solve", full(load), Span(), mesh=mesh.key, free=key, axis=at), load.axes
        )

    # ------------------------------------------------------------ integrals

    @contextmanager
    def over(self, found: Any, name: str) -> Iterator[None]:
        """Where the integrand over a set is read."""
        mesh = self.space.meshes.get(found.domain.name if isinstance(found, BoundaryV) else found.name)
        place = (
            "facet" if isinstance(found, BoundaryV) else "cell" if name in ("integral", "mean") else "node"
        )
        if mesh is None:
            yield
        else:
            with self.at(place):
                yield

    def points(self, domain: DomainV, names: Any, span: Span) -> list[Value] | None:
        mesh = self.space.meshes.get(domain.name)
        return None if mesh is None else [self.coordinate(mesh, k) for k in range(len(domain.coordinates))]

    def integral(self, v: Any, mesh: MeshSpace, span: Span, part: Any = None) -> Any:
        """The integral of a field at the present place; over a part of the boundary where it is marked."""
        weight: Any = self.data(mesh, "weight")
        if part is not None:
            weight = self.ev.binary(
                "*", weight, self.marks(mesh, "part", mesh.at_points(part), "facet"), span
            )
        value = self.ev.value(v, span)
        if isinstance(value, Unknown):
            return UNKNOWN
        if any(n.op == WEAK for n in self.graph.needed([value.ref])):
            raise waiting("an integral of second derivatives on a mesh", span)
        product = self.ev.binary("*", value, weight, span)
        return reduce_axes(self.ev, "sum", product, [mesh.axes[self.place]], span)

    def curl(self, v: Value, mesh: MeshSpace, span: Span) -> Any:
        if mesh.elements.mesh.dimension != 2 or v.type.rank > 1:
            return self.ev.not_lowered("this `curl` on a mesh", span)
        if v.type.rank == 0:
            x, y = (self._filled(self.partial(v, mesh, k, span), v, span) for k in range(2))
            return self.ev.value(ListV((y, self.ev.elementwise("neg", [x], span))), span)
        first, second = (self.component(v, k) for k in range(2))
        down = self.partial(first, mesh, 1, span)
        return self.ev.binary("-", self.partial(second, mesh, 0, span), down, span)


def refuse_standing(nodes: Iterable[Node]) -> None:
    """Raises `NDLError` where a function of a model still has a divergence that no weak form took up."""
    for n in nodes:
        if n.op == WEAK:
            raise waiting("this second derivative on a mesh", n.span)


def waiting(what: str, span: Span) -> NDLError:
    return fail("NDL490", f"{what} is not yet lowered", span, help="see the page on fields")


__all__ = ["WEAK", "MeshFields", "refuse_standing", "waiting"]
