"""Functions of linear maps of fields by products with vectors: maps whose coefficients vary, conditions of
both value and slope, meshes.

A map is taken of a field that stands for the state, under its conditions. The derivative of that along a
vector is the homogeneous map; where it still depends on the field the map is not linear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import full, split
from ndl.compiler.check.linearized import ModelMap, model_maps
from ndl.compiler.check.maps import Argument, Map
from ndl.compiler.check.values import UNKNOWN, Unknown, Value
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ir.autodiff import dependents, jvp, pullback
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.linearity import is_linear
from ndl.compiler.lower.builder import value_of
from ndl.compiler.lower.conditions import beside
from ndl.compiler.lower.mesh_space import MeshSpace
from ndl.compiler.lower.subjects import Subject
from ndl.compiler.ops.families.fields import SOURCES
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.lower.fields import Fields


def by_products(fields: Fields, map_: Map, v: Value, span: Span) -> Any:
    """A function of a map, `exp` or a power, of a field `v`. Raises `NDLError` (NDL475, NDL490, NDL590)."""
    if v.type.kind == "C" and not map_.complex:
        return _by_parts(fields, map_, v, span)
    if v.type.kind != "R" or map_.complex:
        return fields.ev.not_lowered("a function of a complex map with varying coefficients", span)
    for leaf in model_maps(map_):
        with beside(fields.conditions, leaf) as subject:
            return Products(fields, map_, v, span, subject).result()
    return Products(fields, map_, v, span).result()


def _by_parts(fields: Fields, map_: Map, v: Value, span: Span) -> Any:
    """Of the real part and the imaginary one."""
    ev = fields.ev
    parts = [ev.value(ev.elementwise(k, [v], span), span) for k in ("real", "imag")]
    a, b = (UNKNOWN if isinstance(p, Unknown) else by_products(fields, map_, p, span) for p in parts)
    return ev.binary("+", a, ev.binary("*", 1j, b, span), span)


class Products:
    """One function of a map, applied once."""

    def __init__(
        self, fields: Fields, map_: Map, v: Value, span: Span, subject: Subject | None = None
    ) -> None:
        self.fields, self.ev, self.map, self.span = fields, fields.ev, map_, span
        self.mesh = fields.on_mesh(v.axes)
        self.v = v if self.mesh is None else self._nodal(v, self.mesh)
        self.subject = self._subject() if subject is None else subject

    @property
    def graph(self) -> Graph:
        return self.ev.lowering.graph

    def result(self) -> Any:
        s = self._exponent()
        if isinstance(s, Unknown):
            return UNKNOWN
        weights, free = self._weights(), self._free()
        way, image = self._traced(free)
        turned = self._transposed(way, image)
        along, back, captured = extracted(self.graph, way, image, *turned)
        kind = "exp" if self.map.op == "exp" else "inverse" if s == -1 else "^"
        attrs: dict[str, Any] = {"kind": kind, "function": along, "back": back}
        if self.mesh is not None and not self.mesh.fem.lumped:
            attrs["mesh"] = self.mesh.key
        power = self._value(1.0 if kind != "^" else s)
        operands = [self.v, power, weights, free, *map(value_of, captured)]
        made = self.ev.builder.op("map_function", [full(x) for x in operands], self.span, attrs)
        found = split(made, self.v.axes)
        return found if self.mesh is None else self.fields.weak.field(found)

    def _exponent(self) -> Any:
        s = 1 if self.map.op == "exp" else self.ev.known(self.map.of[1])
        return float(s) if isinstance(s, int) and s != -1 else s

    def _nodal(self, v: Value, mesh: MeshSpace) -> Value:
        """A field by its nodes."""
        weak = self.fields.weak
        if mesh.axes["node"] in v.axes:
            return v
        known = weak.stored(v)
        if known is None:
            raise fail(
                "NDL490",
                "a function of a map, of a formula on a mesh, is not yet lowered here",
                self.span,
                help="write the formula after the `@`, not as an argument",
            )
        nodal, _, component = known
        for j in component:
            nodal = self.ev.op("index", [nodal], self.span, axis=0, at=j)  # type: ignore[assignment]
        return nodal

    # ------------------------------------------------------------ the state that is stood for

    def _subject(self) -> Subject | None:
        """Whose conditions the map takes: those of the field itself, else of the one state of its domain
        that has the same components."""
        conditions = self.fields.conditions
        known = conditions.subject(self.v)
        if known is not None and known.order == 0:
            return known
        domain = self.fields.space.domain_of(self.v.axes)
        names = {
            (prefix, c.field)
            for prefix, several in conditions.by_part.items()
            for c in several
            if c.domain.name == domain and self._alike(prefix, c.field)
        }
        if not names:
            self._need_none(domain)
            return None
        if len(names) > 1:
            self._refuse("several states with conditions")
        return Subject(*names.pop())

    def _alike(self, prefix: str, name: str) -> bool:
        state = self.fields.conditions.frame(prefix).lookup(name, 0)
        return isinstance(state, Value) and state.type.shape == self.v.type.shape

    def _need_none(self, domain: str | None) -> None:
        axes = [a for a in self.v.axes if a in self.fields.space.owner]
        if self.mesh is not None or not all(self.fields.space.grid_axis(a).periodic for a in axes):
            self._refuse("none")

    def _refuse(self, what: str) -> None:
        raise fail(
            "NDL590",
            f"a function of this map takes the conditions of a state, and there are {what}",
            self.span,
            help="apply it to a state that has a value or a slope on all of the boundary",
        )

    # ------------------------------------------------------------ the space

    def _weights(self) -> Value:
        if self.mesh is not None:
            w: Any = self.fields.weak.data(self.mesh, "weight", place="node")
        else:
            w = self.fields.weights(self.v.axes, self.span)
        w = w if self.v.type.rank == 0 else self.ev.spread(w, self.v.type.shape, self.span)
        return self._like(w)

    def _like(self, w: Any) -> Value:
        """A value with all axes of v."""
        from ndl.compiler.check.axes import aligned

        return split(aligned(self.ev, self._value(w), self.v.axes, self.span), self.v.axes)

    def _value(self, v: Any) -> Value:
        found = self.ev.value(v, self.span)
        if isinstance(found, Unknown):
            raise fail("NDL471", "this map has no value here", self.span)
        return found

    def _free(self) -> Value:
        """1, and 0 where conditions give the value."""
        one: Any = self.ev.value(1.0, self.span)
        if self.v.type.rank:
            one = self.ev.spread(one, self.v.type.shape, self.span)
        ones = self._like(one)
        s = self.subject
        if s is None:
            return ones
        whole = ones
        for j in reversed(s.component):
            count = self.fields.conditions.frame(s.prefix).lookup(s.name, 0).type.shape[0].constant
            parts = [whole if k == j else self.ev.binary("*", 1.0, whole, self.span) for k in range(count)]
            whole = self.ev.op("stack", parts, self.span, axis=0)  # type: ignore[assignment]
        found = self.fields.conditions.impose(
            whole, self.v.axes, s.prefix, s.name, self.span, homogeneous=True
        )
        for j in s.component:
            found = self.ev.op("index", [found], self.span, axis=0, at=j)  # type: ignore[assignment]
        return found

    # ------------------------------------------------------------ the map

    def _traced(self, free: Value) -> tuple[Node, Node]:
        """A vector, and the image of it."""
        way = self._probe(self.v)
        image = self._applied(self.map.of[0], self._times(way, free), free)
        if image.type.shape != self.v.type.shape:
            raise fail("NDL471", "this map does not give what it takes: a field of the same kind", self.span)
        return way.ref, full(self._times(image, free)).ref

    def _probe(self, v: Value) -> Value:
        """A value of its own like v."""
        return split(self.ev.builder.op("stop_gradient", [full(v)], self.span, {}), self.v.axes)

    def _times(self, v: Value, factor: Any) -> Value:
        return self._like(self.ev.binary("*", v, factor, self.span))

    def _applied(self, map_: Map, v: Value, free: Value) -> Value:
        """A map of a vector: sums and products of those of its leaves."""
        ev, span = self.ev, self.span
        if map_.op == "T":
            inner = map_.of[0]
            if inner.op == "base" and inner.back is None:
                return self._turned(inner, v, free)
            return self._applied(inner.transposed(), v, free)
        if map_.op in ("^", "exp"):
            return self._value(map_.on(ev, v, span))
        if map_.op == "identity":
            return v
        if map_.op == "matrix":
            raise fail("NDL471", "a matrix is no map of fields", span)
        if isinstance(map_, ModelMap):
            return self._value(map_.on(ev, v, span))
        if map_.op == "base":
            sums = of_argument(self.fields, map_, span)
            return self._leaf(map_, v, free) if sums is None else self._applied(sums, v, free)
        a, b = map_.of
        second = self._applied(b, v, free)
        if map_.op == "@":
            return self._applied(a, self._times(second, free), free)
        first = self._factor(a) if map_.op == "*" else self._applied(a, v, free)
        return self._like(ev.binary(map_.op, first, second, span))

    def _factor(self, factor: Any) -> Any:
        """What a map is multiplied by, on meshes at the nodes."""
        varies = isinstance(factor, Value) and self.fields.on_mesh(factor.axes) is not None
        return self._nodal(factor, self.mesh) if varies and self.mesh is not None else factor

    def _leaf(self, leaf: Map, v: Value, free: Value) -> Value:
        """A map known by its formula: the derivative along v of what it makes of a field that stands for the
        state."""
        stand, image = self._image(leaf)
        lowering = self.ev.lowering
        found = jvp(self.graph, image, [stand], [full(v).ref], lowering.weights.parts)
        lowering.adopt()
        if stand.id in {n.id for n in self.graph.needed([found])}:
            raise self._bent()
        return split(value_of(found), self.v.axes)

    def _turned(self, leaf: Map, v: Value, free: Value) -> Value:
        """Its transpose in the inner product of the space."""
        if self.mesh is not None and not self.mesh.fem.lumped:
            self.ev.not_lowered("the transpose of a map with a consistent mass matrix", self.span)
        stand, image = self._image(leaf)
        weights, lowering = self._weights(), self.ev.lowering
        dual = full(self._times(v, weights)).ref
        (back,) = pullback(self.graph, image, dual, [stand], parts=lowering.weights.parts)
        lowering.adopt()
        if back is None:
            return self._times(v, 0.0)
        if stand.id in {n.id for n in self.graph.needed([back])}:
            raise self._bent()
        found = self._times(split(value_of(back), self.v.axes), free)
        return self._like(self.ev.binary("/", found, weights, self.span))

    def _bent(self) -> NDLError:
        return fail(
            "NDL475",
            "this function is not linear, and stands where a linear map is needed",
            self.span,
            help="apply it as a function, `f(u)`; `jac(e, x)` is the linear map near a point",
        )

    def _image(self, leaf: Map) -> tuple[Node, Node]:
        """A field that stands for the state, and what the map makes of it."""
        field = self._probe(self.v)
        if self.mesh is None:
            with self.fields.conditions.standing(self.subject, field):
                image = self.ev.value(leaf.on(self.ev, field, self.span), self.span)
        else:
            self.fields.tracing = True
            try:
                with self.fields.conditions.standing(self.subject, field):
                    image = self._by_weak_form(leaf, field, self.mesh)
            finally:
                self.fields.tracing = False
        if isinstance(image, Unknown) or image.type.shape != self.v.type.shape:
            raise fail("NDL471", "this map does not give what it takes: a field of the same kind", self.span)
        return field.ref, self.ev.lowering.node(full(self._like(image)))

    def _by_weak_form(self, leaf: Map, v: Value, mesh: MeshSpace) -> Value:
        """M^-1 times the sums against the functions of the nodes."""
        weak, s = self.fields.weak, self.subject

        def make() -> Any:
            return leaf.on(self.ev, weak.field(v, "" if s is None else s.prefix + s.name), self.span)

        with weak.at("cell"):
            image = self._value(make())
            if not is_linear(self.graph, full(image).ref, v.ref):
                raise self._bent()
        with weak.at("node"):
            load = weak.load(mesh, make, Tensor("R", self.v.type.shape), self.span)
        given = None if s is None else weak.conditions.value_marks(mesh, s)
        return weak.riesz(load, mesh, None if given is None else ~given)

    def _transposed(self, way: Node, image: Node) -> tuple[Node, Node]:
        """A vector, and what the plain transpose makes of it."""
        other, lowering = self._probe(self.v), self.ev.lowering
        (back,) = pullback(self.graph, image, full(other).ref, [way], parts=lowering.weights.parts)
        lowering.adopt()
        return other.ref, full(self._times(other, 0.0)).ref if back is None else back


def of_argument(fields: Fields, leaf: Map, span: Span) -> Map | None:
    """What a function of a field is as a sum of maps, where it is one."""
    if len(leaf.of) < 2:
        return None
    try:
        found = fields.ev.apply(leaf.of[1], [Argument()], span)
    except NDLError:  # it is not made of sums and multiples alone
        return None
    return found if isinstance(found, Map) else None


def extracted(
    graph: Graph, way: Node, image: Node, other: Node, back: Node
) -> tuple[Function, Function, list[Node]]:
    """Two functions of a vector each, and what both capture."""
    captured: dict[int, Node] = {}
    for start, end in ((way, image), (other, back)):
        captured |= {n.id: n for n in _inside(graph, start, end)[1]}
    held = list(captured.values())
    return _function("along", graph, way, image, held), _function("back", graph, other, back, held), held


def _inside(graph: Graph, start: Node, end: Node) -> tuple[list[Node], list[Node]]:
    """The nodes that are copied into a function of `start`, and those that it captures: real numbers that
    do not depend on it. What is made without operands is made anew, and so are truth values and integers."""
    needed = graph.needed([end])
    moving = dependents(graph, [start], needed)
    wanted, captured = {end.id}, []
    copied = []
    for n in reversed(needed):
        if n.id not in wanted or n.id == start.id:
            continue
        anew = not n.inputs and (n.op == "const" or n.op in SOURCES)
        whole = isinstance(n.type, Tensor) and n.type.kind in ("Z", "Bool")
        if n.id in moving or anew or (whole and n.inputs):
            copied.append(n)
            wanted |= set(n.inputs)
        else:
            captured.append(n)
    return copied[::-1], captured[::-1]


def _function(name: str, graph: Graph, start: Node, end: Node, captured: Sequence[Node]) -> Function:
    made = Graph()
    image = {start.id: made.add("input", type=start.type, name="v")}
    for k, c in enumerate(captured):
        image[c.id] = made.add("input", type=c.type, name=f"captured{k}")
    inputs = tuple(image.values())
    for n in _inside(graph, start, end)[0]:
        operands = [image[i] for i in n.inputs]
        image[n.id] = made.add(n.op, operands, type=n.type, span=n.span, **dict(n.attrs))
    return Function(name, made, inputs, ((name, image[end.id]),))


__all__ = ["by_products", "of_argument"]
