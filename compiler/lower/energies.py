"""`minimize integral(L(u, grad(u), x), x in Omega)`: the Euler–Lagrange equation of each field.

With p = dL/du and q_a = dL/d(du/dx_a), taken at each point, a minimiser has p - sum_a dq_a/dx_a = 0. The
divergence is worked out by the chain rule, so that second derivatives of u are compact differences. Where no
condition stands at an end of an axis, the natural one does: q_a = 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.binders import clause_of
from ndl.compiler.check.boundaries import SLOPE, Component
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import Axis, DomainV, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.autodiff import pullback, pushforward
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.fields import Fields
from ndl.compiler.lower.subjects import Subject, outwards
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.adjoint import spread
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.models import Slot

OVER_THE_GRID = (
    "stencil",
    "multiplier",
    "truncate",
    "modal",
    "einsum",
    "sum",
    "mean",
    "lift",
)


def stationary(el: Elaboration, slots: list[Slot]) -> dict[str, Value]:
    """The Euler–Lagrange residual of each field, `slot.axes` bound, without its conditions."""
    energies = el.parts.energies
    if len(energies) != 1:
        raise _waiting("more than one energy", energies[1].span)
    (energy,) = energies
    sign = -1.0 if energy.sense == "maximize" else 1.0
    domain = domain_of(el, energy.value)
    density, span = density_of(el, energy.value, domain), energy.value.span
    fields: Fields = el.ev.fields
    _natural(el, fields, domain, {slot.name for slot in slots})
    if domain.name in fields.space.meshes:
        return _on_mesh(el, fields, energy.value, slots, sign)
    axes = fields.space.add(el.ev, domain, span)
    one = Energy(el, fields, axes, aligned(el.ev, density, axes, span).ref, span)
    found = {}
    for slot in slots:
        residual = one.variation(slot)
        found[slot.spec.name] = residual if sign > 0 else _value(el.ev.elementwise("neg", [residual], span))
    return found


def _natural(el: Elaboration, fields: Fields, domain: DomainV, names: set[str]) -> None:
    """Raises `NDLError` (NDL574) where a condition gives a slope other than 0: the minimum among all fields
    has the natural one."""
    for c in fields.conditions.by_part.get(el.prefix, ()):
        if c.kind != SLOPE or c.field not in names or c.domain.name != domain.name:
            continue
        with fields.weak.at("facet" if domain.name in fields.space.meshes else "node"):
            slope = fields.conditions.data(c, el.prefix, 0, c.component)
        if not (is_number(slope) and slope == 0):
            raise fail(
                "NDL574",
                f"the slope of `{c.subject}` at `{c.place}` is that of the energy, and cannot be given",
                c.span,
                help="write the equation in place of the energy, `0 = div(grad(u)) + f`, with this condition",
            )


def _waiting(what: str, span: Span) -> Exception:
    return fail("NDL490", f"{what} is not yet lowered", span, help="see the page on fields")


def _value(v: Any) -> Value:
    assert isinstance(v, Value)
    return v


def _on_mesh(
    el: Elaboration, fields: Fields, e: tree.Expr, slots: list[Slot], sign: float
) -> dict[str, Value]:
    """The derivatives of an energy by the values at the nodes: the weak form of its Euler–Lagrange
    equation."""
    domain = domain_of(el, e)
    mesh = fields.space.meshes[domain.name]
    with fields.weak.at("cell"):
        total = fields.weak.integral(density_of(el, e, domain), mesh, e.span)
    states = [el.lookup(slot.name, 0) for slot in slots]
    graph = el.ev.lowering.graph
    seed = graph.add("const", value=sign)
    found = pullback(graph, total.ref, seed, [v.ref for v in states])
    el.ev.lowering.adopt()
    made = {}
    for slot, v, node in zip(slots, states, found):
        zero = _value(el.ev.binary("*", 0.0, v, e.span))
        made[slot.spec.name] = zero if node is None else split(value_of(node), v.axes)
    return made


def domain_of(el: Elaboration, e: tree.Expr) -> DomainV:
    """The domain of an energy, its grid made."""
    clause = _clause(el, e)
    domain = None if clause is None or clause.set is None else el.ev.eval(clause.set, el.scope)
    if not isinstance(domain, DomainV):
        raise _waiting("an energy over this set", e.span)
    el.ev.fields.space.add(el.ev, domain, e.span)
    return domain


def _clause(el: Elaboration, e: tree.Expr) -> Any:
    call = e if isinstance(e, tree.Call) and isinstance(e.func, tree.Name) else None
    if call is None or call.func.span.text != "integral" or len(call.args) != 2:
        raise _waiting("an energy that is not `integral(…, x in Omega)`", e.span)
    return clause_of(el.ev, call.args[1], el.scope)


def density_of(el: Elaboration, e: tree.Expr, domain: DomainV) -> Value:
    """The integrand of an energy."""
    clause = _clause(el, e)
    assert isinstance(e, tree.Call)
    call = e
    names = el.ev.fields.points(domain, clause.pattern.names, clause.span)
    found = el.ev.value(el.ev.eval(call.args[0].value, el.scope.child(names)), e.span)
    if not isinstance(found, Value) or found.type.rank:
        raise _waiting("an energy whose density is no number", call.args[0].span)
    return found


class Energy:
    """One density, its derivatives taken at each point."""

    def __init__(
        self, el: Elaboration, fields: Fields, axes: tuple[Axis, ...], node: Node, span: Span
    ) -> None:
        self.el, self.fields, self.axes, self.node, self.span = el, fields, axes, node, span
        self.builder: Any = el.ev.builder
        self.slopes = {i: s for i, s in fields.slopes.items() if self._read(i)}
        self._flux: dict[tuple[int, int], Node] = {}

    def _read(self, node: int) -> bool:
        return any(n.id == node for n in self.builder.graph.needed([self.node]))

    def _at_points(self, wrt: list[Node]) -> list[Node | None]:
        """The derivatives of the density by some of what it reads, at each point."""
        graph = self.builder.graph
        stop = [graph[i] for i in self.slopes]
        one = spread(graph, graph.add("const", value=1.0), shape_of(self.node))
        found = pullback(graph, self.node, one, wrt, stop=stop)
        self.builder.adopt()
        return found

    def variation(self, slot: Slot) -> Value:
        """p - sum_a dq_a/dx_a, with the natural conditions."""
        state = self.el.lookup(slot.name, 0)
        self._refuse(state.ref)
        own = [(i, a, c) for i, (v, a) in self.slopes.items() for c in self._part(v, state)]
        nodes = [self.builder.graph[i] for i, _, _ in own]
        found = self._at_points([state.ref, *nodes])
        total: Any = 0.0 if found[0] is None else split(value_of(found[0]), self.axes)
        fluxes: dict[Axis, Any] = {}
        for (_, axis, component), flux in zip(own, found[1:]):
            if flux is None:
                continue
            whole = self._within(flux, component, state.type)
            before = fluxes.get(axis)
            fluxes[axis] = whole if before is None else self.el.ev.binary("+", before, whole, self.span)
            slope = self._along(flux, axis)
            if slope is not None:
                change = self._within(slope, component, state.type)
                total = self.el.ev.binary("-", total, change, self.span)
        residual = self.el.ev.value(total, self.span)
        assert isinstance(residual, Value)
        v = split(aligned(self.el.ev, residual, self.axes, self.span), self.axes)
        return self._natural(slot, v, fluxes)

    def _part(self, v: Value, state: Value) -> list[Component]:
        """Which component of a state a value is, if it is one."""
        nodes = outwards(self.builder.graph, v.ref, len(v.axes))
        return [component for node, component in nodes if node.id == state.ref.id]

    def _within(self, node: Node, component: Component, like: Tensor) -> Value:
        """An array over the grid as that component of a field, the others being 0."""
        found = split(value_of(node), self.axes)
        for k in reversed(range(len(component))):
            zero = self.el.ev.binary("*", 0.0, found, self.span)
            parts = [found if j == component[k] else zero for j in range(like.shape[k].constant or 0)]
            found = _value(self.el.ev.op("stack", parts, self.span, axis=0))
        return found

    def _refuse(self, state: Node) -> None:
        """Only values and first derivatives of fields may stand in a density."""
        graph = self.builder.graph
        live = {state.id}
        for node in graph.needed([self.node]):
            if node.id in self.slopes or not any(i in live for i in node.inputs):
                continue
            live.add(node.id)
            inner = isinstance(node.type, Tensor) and node.type.rank >= len(self.axes)
            if node.op in OVER_THE_GRID and not (node.op == "sum" and inner):
                raise _waiting("an energy with higher derivatives or means of a field", self.span)

    def _along(self, flux: Node, axis: Axis) -> Node | None:
        """The total derivative of a flux along an axis, by the chain rule."""
        graph, seeds = self.builder.graph, {}
        reads = {n.id for n in graph.needed([flux])}
        for i, where in self.fields.coordinates.items():
            if i in reads and where is axis:
                ones = spread(graph, graph.add("const", value=1.0), shape_of(graph[i]))
                self.builder.adopt()
                seeds[i] = ones
        for i, (v, other) in self.slopes.items():
            if i in reads:
                seeds[i] = self._plain(self._second(v, axis, other), graph[i])
        for i, v in self.el.site.leaves.items():  # type: ignore[attr-defined]
            if i in reads and axis in v.axes:
                seeds[i] = self._plain(self.fields.partial(v, axis.name, self.span), graph[i])
        if not seeds:
            return None
        found = pushforward(graph, flux, seeds, ())
        self.builder.adopt()
        return found

    def _second(self, v: Value, axis: Axis, other: Axis) -> Any:
        return self.fields.partial(v, axis.name + other.name, self.span)

    def _plain(self, v: Any, like: Node) -> Node:
        """A derivative as an array of the shape of what is differentiated."""
        value = self.el.ev.value(v, self.span)
        assert isinstance(value, Value) and isinstance(like.type, Tensor)
        made = aligned(self.el.ev, value, self.axes, self.span)
        node: Node = self.builder.node(made)
        return node

    def _natural(self, slot: Slot, v: Value, fluxes: dict[Axis, Value]) -> Value:
        """q_a = 0 at the ends of an axis that have no condition."""
        for axis, flux in fluxes.items():
            v = self._natural_along(Subject(slot.frame.prefix, slot.name), v, axis, flux)
        return v

    def _natural_along(self, s: Subject, v: Value, axis: Axis, flux: Value) -> Value:
        conditions, grid = self.fields.conditions, self.fields.space.grid_axis(axis)
        if conditions.apart(s.prefix, s.name, axis, s.component):

            def make(j: int, part: Value) -> Value:
                own = _value(self.el.ev.op("index", [flux], self.span, axis=0, at=j))
                return self._natural_along(s.at(j), part, axis, own)

            return conditions.each(v, make, self.span)
        ends = conditions.at_ends(s.prefix, s.name, axis, s.component)
        sides = [c is None and not grid.periodic for c in ends]
        if not any(sides):
            return v
        if grid.cells:
            raise _waiting("an energy without conditions between the points of `at = cells`", self.span)
        place = v.axes.index(axis)
        op, n = self.fields.op, grid.n
        kept = op("mask", full(v), self.span, axis=place, low=sides[0], high=sides[1])
        total: Any = split(kept, v.axes)
        for side, wanted in zip(("low", "high"), sides):
            if wanted:
                end = op("index", full(flux), self.span, axis=place, at=0 if side == "low" else n - 1)
                scale = -1.0 if side == "low" else 1.0
                share = op("lift", end, self.span, axis=place, n=n, side=side, weights=(1.0,), scale=scale)
                total = self.el.ev.binary("+", total, split(share, v.axes), self.span)
        return _value(total)
