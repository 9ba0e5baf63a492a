"""Boundary conditions in one function of a model: what is known at the ends of a field's axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.axes import aligned, full, split
from ndl.compiler.check.boundaries import SLOPE, UNKNOWN_VALUE, VALUE, Component, Condition
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, Builtin, ListV, Unknown, Value, is_number
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.ir.autodiff import jvp
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.grid import weights
from ndl.compiler.lower.parted import Ends, parted_ends, where
from ndl.compiler.lower.subjects import Subject, outwards
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.linearized import ModelMap
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.lower.fields import Fields

Pair = tuple["Condition | None", "Condition | None"]


class Conditions:
    """The conditions of a model and its parts, by the prefix of the part."""

    def __init__(
        self,
        fields: Fields,
        el: Elaboration,
        by_part: Mapping[str, list[Condition]],
        paths: Mapping[str, Any],
    ) -> None:
        self.fields, self.root, self.by_part, self.paths = fields, el, by_part, paths
        self.found: dict[tuple[int, int, str], Any] = {}
        self.kept: list[Condition] = []
        self.reading: set[tuple[int, int, str]] = set()
        self.joined: dict[str, Elaboration] = {}
        self.stands: tuple[Subject, Value] | None = None
        """A value in the place of a state."""

    def frame(self, prefix: str) -> Elaboration:
        """A part of the model, by the prefix of its names."""
        return self._frame(prefix)

    def _frame(self, prefix: str) -> Elaboration:
        return self.joined.get(prefix) or self.root.descend(self.paths[prefix])

    @contextmanager
    def beside(self, frame: Elaboration, conditions: list[Condition]) -> Iterator[None]:
        """Those of a model that a map is the derivative of; nothing stands for its states."""
        before = self.by_part, self.joined, self.found, self.reading, self.stands
        self.by_part = {**self.by_part, frame.prefix: conditions}
        self.joined = {**self.joined, frame.prefix: frame}
        if self.stands is not None:
            self.found, self.reading, self.stands = {}, set(), None
        try:
            yield
        finally:
            self.by_part, self.joined, self.found, self.reading, self.stands = before

    def subject(self, v: Value) -> Subject | None:
        """What a value is when it is a field that has conditions, or a component of one."""
        if not isinstance(v.ref, Node):
            return None
        for node, component in outwards(self.fields.ev.lowering.graph, v.ref, len(v.axes)):
            if self.stands is not None and node.id == self.stands[1].ref.id:
                s = self.stands[0]
                return replace(s, component=(*s.component, *component))
            whole = self._whole(node)
            if whole is not None:
                return Subject(*whole, component)
        return None

    @contextmanager
    def standing(self, s: Subject | None, v: Value) -> Iterator[None]:
        """Conditions are about a value in the place of a state (or of a component): they are read anew."""
        if s is None:
            yield
            return
        before = self.found, self.reading, self.stands
        self.found, self.reading, self.stands = {}, set(), (s, v)
        try:
            yield
        finally:
            self.found, self.reading, self.stands = before

    def _whole(self, node: Node) -> tuple[str, str, int] | None:
        for prefix, conditions in self.by_part.items():
            if not conditions:
                continue
            cache = self._frame(prefix).cache
            for name in {c.field for c in conditions}:
                for order in range(3):
                    known = cache.get((name, order))
                    if isinstance(known, Value) and isinstance(known.ref, Node) and known.ref.id == node.id:
                        return prefix, name, order
        return None

    # ------------------------------------------------------------ components

    def split(self, prefix: str, name: str, domain: str, k: int | None, component: Component = ()) -> bool:
        """Whether conditions on a domain, at the ends of coordinate `k`, say different things of the parts of
        a component."""
        own = (c for c in self.by_part.get(prefix, ()) if c.field == name and c.domain.name == domain)
        return any(c.splits(component) for c in own if k is None or c.axis == k)

    def apart(self, prefix: str, name: str, axis: Axis, component: Component = ()) -> bool:
        """The same along an axis of a grid."""
        domain, k = self.fields.space.owner[axis]
        return self.split(prefix, name, domain, k, component)

    def each(self, v: Value, make: Callable[[int, Value], Value], span: Span) -> Value:
        """What `make` gives for each component of a value, together again; the value itself where it changes
        none."""
        ev = self.fields.ev
        made, changed = [], False
        for j in range(v.type.shape[0].constant or 0):
            part = ev.op("index", [v], span, axis=0, at=j)
            assert isinstance(part, Value)
            made.append(make(j, part))
            changed |= made[-1] is not part
        if not changed:
            return v
        found = ev.op("stack", made, span, axis=0)
        assert isinstance(found, Value)
        return found

    def unsplit(self, prefix: str, name: str, axis: Axis, what: str) -> None:
        """Raises `NDLError` where conditions are about components and `what` takes those of whole fields."""
        for c in self.by_part.get(prefix, ()):
            if c.field == name and c.component and self.apart(prefix, name, axis):
                help = f"give conditions for all of `{name}`, or make its components states of their own"
                raise fail("NDL490", f"{what} is not yet lowered with `{c.subject}`", c.span, help=help)

    def is_one_of(self, v: Value, names: Iterable[tuple[str, str]]) -> bool:
        """Whether a value is one of some states, given as (prefix, name)."""
        for prefix, name in names:
            known = self._frame(prefix).cache.get((name, 0))
            if isinstance(known, Value) and known.ref is v.ref:
                return True
        return False

    def of(self, v: Value, axis: Axis) -> Pair:
        """The conditions of a field at both ends of an axis."""
        subject = self.subject(v)
        if subject is None:
            return None, None
        return self.at_ends(subject.prefix, subject.name, axis, subject.component)

    def at_ends(self, prefix: str, name: str, axis: Axis, component: Component = ()) -> Pair:
        domain, k = self.fields.space.owner[axis]
        if parted_ends(self, prefix, name, axis, component) is not None:
            what = f"a condition on a part of a side of `{domain}`"
            raise fail("NDL490", f"{what} is not yet lowered here", Span(), help="see the page on fields")
        low = high = None
        for c in self.by_part.get(prefix, ()):
            if c.field == name and c.axis == k and c.domain.name == domain and c.about(component):
                low, high = (c, high) if c.side == "low" else (low, c)
        return low, high

    def parts_of(self, v: Value, axis: Axis) -> tuple[str, Ends] | None:
        """Of a field that has conditions on parts of the sides along an axis, its prefix and these."""
        s = self.subject(v)
        ends = None if s is None else parted_ends(self, s.prefix, s.name, axis, s.component)
        return None if s is None or ends is None else (s.prefix, ends)

    # ------------------------------------------------------------ what they say

    def datum(self, c: Condition, v: Value) -> Any:
        """The value of the field, or its derivative along the axis, as a number or a value without that
        axis; of a field's time derivative, the datum's."""
        s = self.subject(v) or Subject("", "")
        return self.data(c, s.prefix, s.order, s.component)

    def data(self, c: Condition, prefix: str, order: int, component: Component = ()) -> Any:
        """The same of a component."""
        found = self._datum(c, prefix, order)
        for j in component[len(c.component) :]:
            if isinstance(found, Value) and found.type.rank:
                found = self.fields.ev.op("index", [found], c.span, axis=0, at=j)
        return found

    def _datum(self, c: Condition, prefix: str, order: int) -> Any:
        key = (id(c), order, self.fields.weak.place)
        if key in self.reading:
            raise itself(c, f"the slope of `{c.field}` by derivatives of `{c.field}`")
        if key not in self.found:
            self.kept.append(c)
            self.reading.add(key)
            self.found[key] = self._made(c, prefix) if order == 0 else self._rate(c, prefix, order)
            self.reading.discard(key)
        return self.found[key]

    def _rate(self, c: Condition, prefix: str, order: int) -> Any:
        """The time derivative along the solution."""
        before = self._datum(c, prefix, order - 1)
        if not isinstance(before, Value):
            return 0.0
        if c.domain.name in self.fields.space.meshes and self._reads_fields(before):
            raise itself(c, f"the values of `{c.field}` by those of a field that changes in time")
        rate = self.fields.ev.lowering.along_solution(self.root, full(before))
        return split(rate, before.axes) if isinstance(rate, Value) else rate

    def _reads_fields(self, v: Value) -> bool:
        graph = self.fields.ev.lowering.graph
        states = [self.root.lookup(name, 0) for name in self.root.parts.rates]
        return any(
            s.ref.id in {n.id for n in graph.needed([full(v).ref])}
            for s in states
            if isinstance(s, Value) and s.axes
        )

    def _made(self, c: Condition, prefix: str) -> Any:
        ev, el = self.fields.ev, self._frame(prefix)
        if c.domain.name in self.fields.space.meshes:
            return self._solved(c, self._on_mesh(el))
        axis = self.fields.space.axes[c.domain.name][c.axis]
        found = self._solved(c, self.face(el, c, axis))
        if isinstance(found, ListV):  # a vector written by its components
            found = ev.value(found, c.span)
        found = self.restricted(found, axis, c.side)
        if c.kind == SLOPE and c.side == "low":
            found = -found if is_number(found) else ev.elementwise("neg", [found], c.span)
        return found

    def _solved(self, c: Condition, scope: Scope) -> Any:
        """The value or the slope along the outer normal, from an equation that is linear in it."""
        ev = self.fields.ev
        if c.given is not None:
            return ev.eval(c.given, scope)
        zero, one = (self._residual(c, scope, s) for s in (0.0, 1.0))
        if is_number(zero) and is_number(one):
            two = self._residual(c, scope, 2.0)
            if one == zero or abs(two - 2 * one + zero) > 1e-9 * (abs(one) + abs(zero)):
                of = f"dn({c.subject})" if c.kind == SLOPE else c.subject
                what = f"this condition does not tell what `{of}` is on `{c.place}`: it is not linear in it"
                raise fail("NDL550", what, c.span, help=f"write `{of} = …`")
        slope = None if is_number(zero) else self._factor(c, scope)
        if slope is not None:
            return ev.binary("/", zero, -slope, c.span)
        return ev.binary("/", zero, ev.binary("-", zero, one, c.span), c.span)

    def _factor(self, c: Condition, scope: Scope) -> float | None:
        """What stands before the unknown of a condition where that is a number known by its formula."""
        ev, unknown = self.fields.ev, self.fields.source("const", c.span, value=0.0)
        whole = ev.value(self._residual(c, scope, unknown), c.span)
        one = ev.value(1.0, c.span)
        if not isinstance(whole, Value) or not isinstance(one, Value):
            return None
        slope = jvp(ev.lowering.graph, full(whole).ref, [unknown.ref], [one.ref])
        ev.lowering.adopt()
        while slope.op == "expand":
            (slope,) = ev.lowering.graph.operands(slope)
        found = slope.attr("value") if slope.op == "const" else None
        return found if isinstance(found, float) and found != 0 else None

    def _residual(self, c: Condition, scope: Scope, at: Any) -> Any:
        """left - right, with a number in place of what the condition determines."""
        ev = self.fields.ev
        names: dict[str, Any] = {UNKNOWN_VALUE if c.component else c.field: at}
        if c.kind == SLOPE:
            names = {"dn": Builtin("dn", lambda *_: at, 1, 1)}
        inner = scope.child(names)
        return ev.binary("-", ev.eval(c.left, inner), ev.eval(c.right, inner), c.span)

    def _on_mesh(self, el: Elaboration) -> Scope:
        """A scope in which a state may be what stands in its place."""
        if self.stands is None or el.prefix != self.stands[0].prefix:
            return el.scope
        s, v = self.stands
        return el.scope.child({s.name: self.fields.weak.field(v, s.prefix + s.name)})

    def face(self, el: Elaboration, c: Condition, axis: Axis) -> Scope:
        """A scope in which fields and coordinates are what they are on one side."""
        grid = self.fields.space.grid_axis(axis)
        names: dict[str, Any] = {axis.name: grid.lower if c.side == "low" else grid.upper}
        for name in el.parts.states:
            if name == c.field and c.kind == VALUE:
                continue
            v = self._state(el, name)
            if isinstance(v, Value) and axis in v.axes:
                if grid.cells:
                    names[name] = self._between(v, axis, c.side)
                else:
                    names[name] = self.restricted(v, axis, c.side)
        return el.scope.child(names)

    def _state(self, el: Elaboration, name: str) -> Any:
        """A state, or what stands in its place."""
        whole = el.lookup(name, 0)
        if self.stands is None or (el.prefix, name) != (self.stands[0].prefix, self.stands[0].name):
            return whole
        s, v = self.stands
        for k, j in reversed(list(enumerate(s.component))):
            outer = whole
            for i in s.component[:k]:
                outer = self.fields.ev.op("index", [outer], Span(), axis=0, at=i)
            v = self._replaced(outer, j, v)
        return v

    def _replaced(self, whole: Value, j: int, part: Value) -> Value:
        """A vector with another component j."""
        ev = self.fields.ev
        count = whole.type.shape[0].constant or 0
        parts: list[Any] = [
            part if k == j else ev.op("index", [whole], Span(), axis=0, at=k) for k in range(count)
        ]
        found = ev.op("stack", parts, Span(), axis=0)
        assert isinstance(found, Value)
        return found

    def restricted(self, v: Any, axis: Axis, side: str) -> Any:
        """A field on one side."""
        if not isinstance(v, Value) or axis not in v.axes:
            return v
        return self._at(v, axis, 0 if side == "low" else self.fields.space.grid_axis(axis).n - 1)

    def _at(self, v: Value, axis: Axis, at: int) -> Any:
        """A field at one point of an axis."""
        rest = tuple(a for a in v.axes if a is not axis)
        return split(self.fields.op("index", full(v), Span(), axis=v.axes.index(axis), at=at), rest)

    def _between(self, v: Value, axis: Axis, side: str) -> Any:
        """A field on a side that lies half a cell outside of the points: the polynomial through the nearest
        ones, exact up to the degree of the grid's order."""
        ev, grid = self.fields.ev, self.fields.space.grid_axis(axis)
        count = min(grid.order + 1, grid.n)
        data = tuple((Fraction(2 * k + 1, 2), 0) for k in range(count))
        found: Any = 0.0
        for k, w in enumerate(weights(data, Fraction(0), 0)):
            point = self._at(v, axis, k if side == "low" else grid.n - 1 - k)
            share = ev.binary("*", float(w), point, Span())
            found = share if k == 0 else ev.binary("+", found, share, Span())
        return found

    def shaped(self, datum: Any, rest: Sequence[Axis], like: Tensor, span: Span) -> Value:
        """A datum as a tensor with the axes `rest` in front of components as in `like`."""
        ev = self.fields.ev
        v = ev.value(float(datum) if isinstance(datum, int) else datum, span)
        if isinstance(v, Unknown):
            raise fail("NDL902", "this condition has no value", span)
        if v.type.rank == 0 and like.rank:
            v = ev.spread(v, like.shape, span)
        return aligned(ev, v, tuple(rest), span) if rest else v

    # ------------------------------------------------------------ values at points of the grid

    def pinned(self, v: Value, axis: Axis, ends: Pair, span: Span) -> Value:
        """A derived field with its given values; a state has them already."""
        s = self.subject(v)
        if s is None or s.name in self._frame(s.prefix).parts.states:
            return v
        return self.imposed(v, axis, ends, span, s.prefix, component=s.component)

    def _kept(self, c: Condition | None, prefix: str, moving: bool) -> Condition | None:
        if c is None or c.kind != VALUE or moving:
            return c
        return c if self.steady(c, prefix) else None

    def steady(self, c: Condition, prefix: str) -> bool:
        """Whether what a condition gives is known before a run starts."""
        datum = self.data(c, prefix, 0)
        if not isinstance(datum, Value):
            return True
        nodes = self.fields.ev.lowering.graph.needed([datum.ref])
        return not any(n.op in ("input", "path") for n in nodes)

    def impose(
        self,
        v: Value,
        axes: Sequence[Axis],
        prefix: str,
        name: str,
        span: Span,
        order: int = 0,
        moving: bool = True,
        homogeneous: bool = False,
    ) -> Value:
        """A field with the values that conditions give it, on all its boundary."""
        for axis in axes:
            mesh = self.fields.space.mesh_of(axis)
            if self.fields.space.scattered(axis):
                continue
            if mesh is not None:
                weak = self.fields.weak.conditions
                v = weak.imposed(v, mesh, prefix, name, order, moving, homogeneous)
            else:
                v = self._imposed_along(v, axis, prefix, name, span, order, moving, homogeneous)
        return v

    def imposed(
        self,
        v: Value,
        axis: Axis,
        ends: Pair,
        span: Span,
        prefix: str = "",
        order: int = 0,
        moving: bool = True,
        homogeneous: bool = False,
        component: Component = (),
    ) -> Value:
        """A field whose values at the ends of an axis are replaced by those given, where there are points.
        Without `moving`, those that change in time stay as they are."""
        grid = self.fields.space.grid_axis(axis)
        ends = (self._kept(ends[0], prefix, moving), self._kept(ends[1], prefix, moving))
        sides = [c is not None and c.kind == VALUE and not grid.cells for c in ends]
        if not any(sides) or axis not in v.axes:
            return v
        place = v.axes.index(axis)
        made = self.fields.op("mask", full(v), span, axis=place, low=sides[0], high=sides[1])
        found: Any = split(made, v.axes)
        for c, side, wanted in zip(ends, ("low", "high"), sides):
            if not wanted or c is None or homogeneous:
                continue
            datum = self.data(c, prefix, order, component)
            if is_number(datum) and datum == 0:
                continue
            flat = self.shaped(datum, [a for a in v.axes if a is not axis], v.type, span)
            share = self.fields.op(
                "lift", flat, span, axis=place, n=grid.n, side=side, weights=(1.0,), scale=1.0
            )
            found = self.fields.ev.binary("+", found, split(share, v.axes), span)
        assert isinstance(found, Value)
        return found

    def _imposed_along(
        self,
        v: Value,
        axis: Axis,
        prefix: str,
        name: str,
        span: Span,
        order: int,
        moving: bool,
        homogeneous: bool,
        component: Component = (),
    ) -> Value:
        if self.apart(prefix, name, axis, component):

            def make(j: int, part: Value) -> Value:
                place = (*component, j)
                return self._imposed_along(part, axis, prefix, name, span, order, moving, homogeneous, place)

            return self.each(v, make, span)
        how = (prefix, order, moving, homogeneous, component)
        parted = parted_ends(self, prefix, name, axis, component)
        if parted is None:
            return self.imposed(v, axis, self.at_ends(prefix, name, axis, component), span, *how)
        for side, several in zip(("low", "high"), parted):
            for c in several:
                pair = (c, None) if side == "low" else (None, c)
                given = self.imposed(v, axis, pair, span, *how)
                if given is not v:
                    v = where(self, prefix, c, given, v)
        return v


@contextmanager
def beside(conditions: Conditions, map_: ModelMap) -> Iterator[Subject]:
    """The conditions of the model that a map is the derivative of are known too; gives the state that the
    map is by."""
    frame = map_.frame
    assert frame is not None
    found = frame.site.lowering.map_conditions[frame.prefix]  # type: ignore[attr-defined]
    with conditions.beside(frame, found):
        yield Subject(frame.prefix, map_.state)


def itself(c: Condition, what: str) -> NDLError:
    """What no condition may read."""
    help = "give it by time, coordinates and parameters, a slope also by the values of fields"
    return fail("NDL482", f"this condition gives {what}", c.span, help=help)
