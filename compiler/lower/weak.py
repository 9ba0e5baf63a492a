"""The weak form of an equation on a mesh: it is tested with the function phi of each node.

    integral(phi*c*div(F)) = integral over the boundary of phi*c*dot(F, n) - integral(grad(phi*c), F)

On the boundary the normal part of a gradient is what conditions of slope say; where values are given the
functions of their nodes test nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, reduce_axes, split
from ndl.compiler.check.values import Unknown, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.autodiff import pullback
from ndl.compiler.ir.graph import Graph, Node
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.mesh_fields import WEAK, MeshFields, waiting
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.adjoint import spread
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.maps import Map
    from ndl.compiler.lower.models import Slot

Make = Callable[[], Any]
HOMOGENEOUS = ("mul", "neg", "expand", "index", "reshape", "permute", "slice", "sum", "stack", "concat")
"""Ops that make 0 of 0."""


class Weak(MeshFields):
    """What equations on meshes are in one function of a model."""

    def load(self, mesh: MeshSpace, make: Make, type_: Tensor, span: Span, free: bool = False) -> Value:
        """What `make` gives, a field of components as in `type_`, tested with the function of each node.
        `free`: no condition is used where values are given."""
        with self.at("cell"):
            inside = self._field(make(), mesh, type_, span)
            terms = [self._terms(p, mesh, span) for p in self._components(inside)]
        border: list[list[Value]] = [[] for _ in terms]
        if any(second for _, second in terms):
            with self.at("facet"):
                outside = self._field(make(), mesh, type_, span)
                border = [self._fluxes(p, mesh, span, free) for p in self._components(outside)]
        loads = []
        for (plain, second), fluxes in zip(terms, border):
            with self.at("cell"):
                parts = [self.tested(p, mesh) for p in plain]
                for c, flux in second:
                    parts += self._by_parts(c, flux, mesh, span)
            with self.at("facet"):
                parts += [self.tested(f, mesh) for f in fluxes]
            loads.append(self._total(parts, mesh))
        if not type_.rank:
            return loads[0]
        made = self.ev.op("stack", loads, span, axis=0)
        assert isinstance(made, Value)
        return made

    def _total(self, parts: list[Value], mesh: MeshSpace) -> Value:
        total: Any = (
            parts[0] if parts else self.ev.binary("*", 0.0, self.data(mesh, "weight", place="node"), Span())
        )
        for part in parts[1:]:
            total = self.ev.binary("+", total, part, Span())
        assert isinstance(total, Value)
        return total

    def _field(self, value: Any, mesh: MeshSpace, type_: Tensor, span: Span) -> Value:
        """A value at all points of the present place."""
        v = self.ev.value(float(value) if isinstance(value, int) else value, span)
        if isinstance(v, Unknown):
            raise fail("NDL902", "this equation has no value", span)
        if v.type.rank == 0 and type_.rank:
            v = self.ev.spread(v, type_.shape, span)
        axes = (mesh.axes[self.place],)
        return split(aligned(self.ev, v, axes, span), axes)

    def _components(self, v: Value) -> list[Value]:
        if v.type.rank > 1:
            raise waiting("a field of matrices on a mesh", Span())
        return (
            [v] if not v.type.rank else [self.component(v, k) for k in range(v.type.shape[0].constant or 0)]
        )

    def _terms(self, v: Value, mesh: MeshSpace, span: Span) -> tuple[list[Value], list[tuple[Value, Value]]]:
        """A scalar as what has no second derivatives, and pairs (c, F) of c*div(F)."""
        graph = self.graph
        standing = [n for n in graph.needed([v.ref]) if n.op == WEAK]
        if not standing:
            return [v], []
        one = spread(graph, graph.add("const", value=1.0), shape_of(v.ref))
        factors = pullback(graph, v.ref, one, standing, stop=standing)
        self.ev.lowering.adopt()
        second: list[tuple[Value, Value]] = []
        for node, c in zip(standing, factors):
            if c is None:
                continue
            if any(n.op == WEAK for n in graph.needed([c])):
                raise waiting("an equation on a mesh that is not linear in its second derivatives", span)
            (flux,) = graph.operands(node)
            factor, F = (split(value_of(x), v.axes) for x in (c, flux))
            for j in range(factor.type.shape[0].constant or 0) if factor.type.rank else [None]:
                part = (factor, F) if j is None else (self.component(factor, j), self._row(F, j))
                second.append(part)
        rest = without(self.graph, v, standing)
        self.ev.lowering.adopt()
        return ([] if rest is None else [rest]), second

    def _row(self, F: Value, j: int) -> Value:
        return self.made("index", [F], axis=0, at=j)

    def _by_parts(self, c: Value, F: Value, mesh: MeshSpace, span: Span) -> list[Value]:
        """- integral(grad(phi*c), F)."""
        found = []
        if self.has(c.ref) and self.varies(c.ref):
            raise waiting("a second derivative times a derivative on a mesh", span)
        for k in range(mesh.elements.mesh.dimension):
            part = self.component(F, k)
            weighted = self.ev.binary("*", c, part, span)
            found.append(self.tested(self.ev.elementwise("neg", [weighted], span), mesh, k))
            change = self.chain(c.ref, mesh, k)
            if change is not None:
                slope = split(value_of(change), c.axes)
                product = self.ev.binary("*", slope, part, span)
                found.append(self.tested(self.ev.elementwise("neg", [product], span), mesh))
        return found

    # ------------------------------------------------------------ the boundary

    def _fluxes(self, v: Value, mesh: MeshSpace, span: Span, free: bool) -> list[Value]:
        """c*dot(F, n) for each divergence, where it is not 0."""
        found = []
        for c, F in self._terms(v, mesh, span)[1]:
            flux = None if free else self._given_flux(F, mesh, span)
            if flux is None:
                flux = self.along_normal(
                    [self.component(F, k) for k in range(F.type.shape[-1].constant or 0)], mesh
                )
            if not (is_number(flux) and flux == 0):
                found.append(self.ev.binary("*", c, flux, span))
        return found

    def _given_flux(self, F: Value, mesh: MeshSpace, span: Span) -> Any:
        """dot(F, n) of a multiple of a gradient, whose normal part conditions give; None for another F."""
        node, graph = F.ref, self.graph
        if node.id in self.gradients:
            leaf = self.stored(self.gradients[node.id])
            if leaf is None or self.gradients[node.id].type.rank:
                return None
            return self.conditions.normal_slope(mesh, self.conditions.owner(leaf[1], leaf[2]))
        if node.op == "neg":
            (inner,) = graph.operands(node)
            flux = self._given_flux(split(Value(inner.type, inner), F.axes), mesh, span)
            return flux if flux is None or is_number(flux) else self.ev.elementwise("neg", [flux], span)
        if node.op != "mul" or F.type.rank != 1:
            return None
        for inner, factor in (graph.operands(node), graph.operands(node)[::-1]):
            if factor.op != "expand" or len(F.axes) in factor.attr("axes") or self.varies(factor):
                continue
            flux = self._given_flux(split(Value(inner.type, inner), F.axes), mesh, span)
            if flux is None or (is_number(flux) and flux == 0):
                return flux
            (scalar,) = graph.operands(factor)
            attrs = {"shape": tuple(a.extent.constant for a in F.axes), "axes": factor.attr("axes")}
            spread_ = self.ev.builder.op("expand", [Value(scalar.type, scalar)], Span(), attrs)
            return self.ev.binary("*", split(spread_, F.axes), flux, span)
        return None

    # ------------------------------------------------------------ what a model asks

    def rate(self, slot: Slot, make: Make, order: int) -> Value:
        """The rate of a field by the weak form of its equation."""
        (axis,) = slot.axes
        mesh = self.space.mesh_of(axis)
        assert mesh is not None
        type_ = Tensor("R", slot.spec.type.shape[1:])
        load = self.load(mesh, make, type_, slot.spec.span)
        return self._solved(load, mesh, Subject(slot.frame.prefix, slot.name, order), type_)

    def _solved(self, load: Value, mesh: MeshSpace, s: Subject, type_: Tensor) -> Value:
        """The rate with this load, at nodes whose value is not given."""
        if not mesh.fem.lumped and self.conditions.split(mesh, s):
            part_type = replace(type_, shape=type_.shape[1:])
            return self.fields.conditions.each(
                load, lambda j, part: self._solved(part, mesh, s.at(j), part_type), Span()
            )
        given = None if mesh.fem.lumped else self.conditions.value_marks(mesh, s)
        if given is None:
            return self.riesz(load, mesh)
        wanted = self.conditions.lifted(mesh, s, type_) if given.any() else None
        if wanted is not None:
            with self.at("cell"):
                share = self.tested(self.apply(wanted, mesh, -1), mesh)
            load = self.ev.binary("-", load, share, Span())  # type: ignore[assignment]
        return self.riesz(load, mesh, ~given)

    def paired(self, map_: Map, v: Value, span: Span) -> Value | None:
        """The integral of a field times a map of it, by the weak form of the map; None on grids, and for maps
        that are known at nodes alone or have a field as a factor."""
        mesh = self.mesh(v)
        if mesh is None or map_.of_nodes or map_.varies or v.type.kind != "R":
            return None
        nodal = self._whole(v, mesh)
        if nodal is None:
            return None
        s = self.fields.conditions.subject(nodal)
        state = s.prefix + s.name if s is not None and not s.order and not s.component else ""

        def make() -> Any:
            return self.ev.matmul(map_, self.field(nodal, state), span)

        load = self.load(mesh, make, Tensor("R", v.type.shape), span, free=True)
        product = self.ev.value(self.ev.binary("*", nodal, load, span), span)
        assert isinstance(product, Value)
        if v.type.rank:
            product = self.made("sum", [product], axes=tuple(range(v.type.rank)))
        found = reduce_axes(self.ev, "sum", product, [mesh.axes["node"]], span)
        assert isinstance(found, Value)
        return found

    def _whole(self, v: Value, mesh: MeshSpace) -> Value | None:
        """What a field is at the nodes, all its components; None for a formula."""
        known = (v, "", ()) if mesh.axes["node"] in v.axes else self.stored(v)
        return None if known is None or known[2] else known[0]

    def probed(self, map_: Map, v: Value, span: Span) -> tuple[Value, Value] | None:
        """A field like v that depends on nothing, at the nodes, and what a map makes of it inside of cells;
        None on grids and for formulas."""
        mesh = self.mesh(v)
        nodal = None if mesh is None else self._whole(v, mesh)
        if nodal is None:
            return None
        probe = split(self.made("stop_gradient", [full(nodal)]), nodal.axes)
        with self.at("cell"):
            image = self.ev.value(map_.of[0](self.ev, self.field(probe), span), span)
        return (probe, image) if isinstance(image, Value) else None

    def quantity(self, make: Make, span: Span) -> Any:
        """A derived quantity at the nodes; one with derivatives is brought back from the weak form."""
        found: Any = None
        with self.at("cell"):
            found = make()
        mesh = self.mesh(found)
        if mesh is None or not self.has(found.ref):
            return make()
        load = self.load(mesh, make, replace(found.type, on=None, unit=None), span, free=True)
        return self.riesz(load, mesh)


def without(graph: Graph, v: Value, standing: list[Node]) -> Value | None:
    """The value with 0 in place of divergences; None where nothing is left."""
    ids = {n.id for n in standing}
    made: dict[int, Node | None] = {}
    """For what depends on a divergence its image, None for 0."""
    for n in graph.needed([v.ref]):
        if n.id in ids:
            made[n.id] = None
        elif any(i in made for i in n.inputs):
            made[n.id] = _image(graph, n, made)
    node = made[v.ref.id]
    return None if node is None else replace(v, ref=node)


def _image(graph: Graph, n: Node, made: dict[int, Node | None]) -> Node | None:
    inputs = [made.get(i, graph[i]) for i in n.inputs]
    if n.op in ("add", "sub") and None in inputs:
        left, right = inputs
        if left is None:
            return right if right is None or n.op == "add" else graph.add("neg", [right])
        return left
    gone = (n.op == "mul" and None in inputs) or all(x is None for x in inputs)
    if gone and n.op in HOMOGENEOUS:
        return None
    if n.op == "div" and inputs[0] is None and inputs[1] is not None:
        return None
    whole = [_zeros(graph, graph[i]) if x is None else x for i, x in zip(n.inputs, inputs)]
    found: Node = graph.add(n.op, whole, type=n.type, span=n.span, hint=n.hint, **dict(n.attrs))
    return found


def _zeros(graph: Graph, like: Node) -> Node:
    found: Node = spread(graph, graph.add("const", value=0.0), shape_of(like))
    return found
