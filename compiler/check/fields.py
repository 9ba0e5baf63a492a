"""Fields: domains, differential operators, integrals over domains, parts of boundaries.

When checking, a field is a value of a type `R on Omega`. When a model is lowered its fields are stored on
grids: a field is a value whose bound axes are those of the grid (`lower/fields.py`), so that everything
that acts at each point needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.maps import as_map
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import domain_of
from ndl.compiler.check.values import (
    UNKNOWN,
    BallV,
    BoundaryV,
    Builtin,
    DomainV,
    HostV,
    ListV,
    MeshFileV,
    NotLowered,
    RangeV,
    ShapeV,
    TupleV,
    Unknown,
    Value,
    describe,
    is_number,
)
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import SCALAR, Dim, Tensor, Type

Handler = Callable[..., Any]

FACES = {
    "left": (0, "low"),
    "right": (0, "high"),
    "bottom": (1, "low"),
    "top": (1, "high"),
    "front": (2, "low"),
    "back": (2, "high"),
}


# ---------------------------------------------------------------- domains


def make_domain(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`interval(x in 0..1, y in 0..1)`, `periodic(…)`: coordinates with their ranges."""
    kind = e.func.id if isinstance(e.func, tree.Name) else ""
    names: list[str] = []
    ranges: list[Any] = []
    for a in e.args:
        c = a.value
        found: Any = None
        if isinstance(c, tree.Compare) and c.ops == ("in",) and isinstance(c.operands[0], tree.Name):
            found = ev.eval(c.operands[1], scope)
        if isinstance(found, (RangeV, Unknown)) and isinstance(c, tree.Compare):
            names.append(c.operands[0].span.text)
            ranges.append(found)
            _ascending(ev, found, c)
        else:
            ev.error(
                "NDL341",
                f"`{kind}` wants coordinates with their ranges",
                a.span,
                help=f"write `{kind}(x in 0..1)`",
            )
            return UNKNOWN
    return DomainV("", tuple(names), tuple(ranges), (kind == "periodic",) * len(names))


def set_of_points(ev: Evaluator, e: tree.SetBuilder, scope: Scope) -> Any:
    """`{ x, y | c }`, a domain where a condition on its coordinates holds."""
    twice = [n for n in e.names if e.names.count(n) > 1]
    if twice:
        return ev.error("NDL341", f"this set has the coordinate `{twice[0]}` twice", e.span)
    if ev.checking:
        _truth(ev, e.cond, scope.child({n: Value(SCALAR) for n in e.names}))
    return DomainV("", e.names, (), (False,) * len(e.names), shape=ShapeV(e.cond, scope))


def _truth(ev: Evaluator, cond: tree.Expr, scope: Scope) -> None:
    """The condition of a set is a truth value."""
    found = ev.eval(cond, scope)
    number = is_number(found) and not isinstance(found, bool)
    if number or (isinstance(found, Value) and found.type.kind != "Bool"):
        what = f"the condition of a set is true or false, and this is {describe(found)}"
        ev.error("NDL446", what, cond.span, help="write `{ x, y | x^2 + y^2 < 1 }`")


def make_mesh(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`mesh("wing.msh")`, with coordinates x and y; others are named: `mesh("block.msh", x, y, z)`."""
    first, *rest = (a.value for a in e.args)
    names = [c.id for c in rest if isinstance(c, tree.Name)]
    if not isinstance(first, tree.Str) or len(names) < len(rest):
        what = "`mesh` takes the name of a file, and names for its coordinates"
        return ev.error(
            "NDL341", what, e.span, help='write `mesh("wing.msh")` or `mesh("block.msh", x, y, z)`'
        )
    coordinates = tuple(names or ("x", "y"))
    return DomainV("", coordinates, (), (False,) * len(coordinates), shape=MeshFileV(first.value, e.span))


def part_of_set(ev: Evaluator, e: tree.Restrict, scope: Scope) -> Any:
    """`boundary(S) if c`: where a condition holds as well."""
    found = ev.eval(e.value, scope)
    if isinstance(found, Unknown):
        return found
    if not isinstance(found, BoundaryV):
        return NotLowered("a part of a set (`S if c`)", e.span)
    if ev.checking:
        own = {c: Value(SCALAR) for c in found.domain.coordinates if scope.find(c) is None}
        _truth(ev, e.cond, scope.child(own))
    return replace(found, where=(*found.where, e.cond), text=e.span.text)


def named_part(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`part(Wing, "inlet")`: what a mesh calls by a name."""
    domain, name = args
    if isinstance(domain, (Unknown, HostV)):
        return UNKNOWN
    if (
        not isinstance(domain, DomainV)
        or not isinstance(domain.shape, MeshFileV)
        or not isinstance(name, str)
    ):
        what = f"`part` is of a mesh by a name, not of {describe(domain)}"
        return ev.error(
            "NDL444", what, e.span, help='write `part(Wing, "inlet")`, with `domain Wing = mesh(…)`'
        )
    return BoundaryV(domain, (), name, text=e.span.text)


def _ascending(ev: Evaluator, found: Any, e: tree.Compare) -> None:
    if not isinstance(found, RangeV):
        return
    lo, hi = ev.known(found.lo), ev.known(found.hi)
    if is_number(lo) and is_number(hi) and not lo < hi:
        ev.error("NDL341", f"the range of `{e.operands[0].span.text}` is empty", e.operands[1].span)


def boundary(faces: tuple[str, ...]) -> Handler:
    """`boundary(S)`, and parts of it by their names; of a periodic domain from an application, empty."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        (domain,) = args
        if isinstance(domain, (Unknown, HostV, NotLowered)):
            return UNKNOWN if ev.checking else ev.not_lowered(f"`{e.span.text}`", e.span)
        if not isinstance(domain, DomainV):
            what = f"`{e.func.span.text}` is of a domain, not of {describe(domain)}"
            return ev.error("NDL444", what, e.span)
        if domain.shape is not None:
            if len(faces) > 1:
                return BoundaryV(domain, (), text=e.span.text)
            what = f"`{domain.name}` is no box, so it has no side `{faces[0]}`"
            hint = f"write `boundary({domain.name})`, or a part of it, `boundary({domain.name}) if x > 0`"
            return ev.error("NDL444", what, e.span, help=hint)
        found = [FACES[name] for name in faces if FACES[name][0] < len(domain.coordinates)]
        if not found:
            own = [f for f, (axis, _) in FACES.items() if axis < len(domain.coordinates)]
            along = ", ".join(domain.coordinates)
            what = f"`{domain.name}` has the coordinates {along}, so it has no side `{faces[0]}`"
            hint = f"its sides are {', '.join(f'`{f}({domain.name})`' for f in own)}"
            return ev.error("NDL444", what, e.span, help=hint)
        bounded = tuple(f for f in found if not domain.periodic[f[0]])
        if not bounded and not domain.given:
            c = domain.coordinates[found[0][0]]
            return ev.error(
                "NDL444",
                f"`{domain.name}` is periodic in `{c}`, so `{e.span.text}` is empty",
                e.span,
                help="remove the condition: a periodic field needs none",
            )
        return BoundaryV(domain, bounded, text=e.span.text)

    return handler


# ---------------------------------------------------------------- derivatives


def derivative(name: str, coordinates: dict[str, str]) -> Builtin | None:
    """`dx`, `dxy`, …: a partial derivative by one-letter coordinates in sight."""
    if len(name) < 2 or name[0] != "d" or any(c not in coordinates for c in name[1:]):
        return None
    return Builtin(name, partial(_partial, name[1:]), 1, 1)


def _partial(
    letters: str, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope
) -> Any:
    """A derivative that keeps the components."""
    if ev.checking:
        return _field(ev, args[0], e)
    return _lowered(ev, e).partial(args[0], letters, e.span)


def _lowered(ev: Evaluator, e: tree.Call) -> Any:
    """What fields are on the grids of the model that is being lowered."""
    return ev.fields if ev.fields is not None else ev.not_lowered(f"`{e.func.span.text}` of a field", e.span)


def _field(ev: Evaluator, v: Any, e: tree.Call) -> Any:
    if isinstance(v, Value) and v.type.on is None:
        return ev.error(
            "NDL342",
            f"`{e.func.span.text}` needs a field, not {v.type}",
            e.span,
            help="declare it `R on Omega`",
        )
    # coordinates have no unit, so what a derivative has is not known
    return Value(replace(v.type, unit=None)) if isinstance(v, Value) else UNKNOWN


def calculus(name: str) -> Handler:
    """`lap`, `div`, `curl` of fields, `dn` at a boundary."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        if not ev.checking:
            return getattr(_lowered(ev, e), name)(args[0], e.span)
        v = _field(ev, args[0], e)
        if not isinstance(v, Value):
            return UNKNOWN
        if name == "div":
            return Value(replace(v.type, shape=v.type.shape[:-1])) if v.type.rank else _no_vector(ev, v, e)
        return _curl(v, _coordinates(v, scope)) if name == "curl" else v

    return handler


def _no_vector(ev: Evaluator, v: Value, e: tree.Call) -> Any:
    what = f"`{e.func.span.text}` is of a vector field, and this is {v.type}"
    return ev.error("NDL342", what, e.span, help="`lap` is of a scalar, `div` of a vector")


def _curl(v: Value, count: int | None) -> Any:
    """Of a vector in the plane a scalar, of a scalar there a vector; in space of a vector a vector."""
    if count == 2:
        shape = () if v.type.rank else (Dim.of(2),)
        return Value(replace(v.type, shape=shape))
    return v


def _coordinates(v: Value, scope: Scope) -> int | None:
    """How many coordinates the domain of a field has, if it is declared."""
    found: Scope | None = scope
    while found is not None:
        for d in found.names.values():
            if isinstance(d, DomainV) and d.name == v.type.on:
                return len(d.coordinates) or None
            if getattr(d, "kind", "") == "domain" and getattr(d.stmt, "name", "") == v.type.on:
                return _written_coordinates(d.stmt.value)
        found = found.parent
    return None


def _written_coordinates(e: tree.Expr) -> int | None:
    """Those of `interval(…)`, `periodic(…)` and products of such."""
    if isinstance(e, tree.Binary) and e.op == "*":
        counts = [_written_coordinates(side) for side in (e.left, e.right)]
        return None if None in counts else sum(c for c in counts if c is not None)
    if isinstance(e, tree.SetBuilder):
        return len(e.names)
    if not isinstance(e, tree.Call):
        return None
    mesh = isinstance(e.func, tree.Name) and e.func.id == "mesh"
    return max(len(e.args) - 1, 0) or 2 if mesh else len(e.args)


def gradient(ev: Evaluator, value: Any, e: tree.Call, scope: Scope) -> Any:
    """`grad(u)` of a field: one component more for each coordinate."""
    if not ev.checking:
        return _lowered(ev, e).grad(value, e.span)
    v = _field(ev, value, e)
    if not isinstance(v, Value):
        return UNKNOWN
    count = _coordinates(v, scope)
    last = Dim.of(f"dim({v.type.on})" if count is None else count)
    return Value(replace(v.type, shape=(*v.type.shape, last)))


# ---------------------------------------------------------------- reductions over domains


def over_domain(ev: Evaluator, name: str, e: tree.Call, clause: Any, found: Any, scope: Scope) -> Any:
    """`integral(e, x in Omega)`, `mean(…)`, `max(…)`: the field's value without its domain; also over parts
    of a boundary and balls."""
    names = clause.pattern.names

    def body(points: Mapping[str, Any]) -> tuple[Any, Any]:
        inner = scope.child(dict(points))
        cond = ev.eval(clause.cond, inner) if clause.cond is not None else None
        return ev.eval(e.args[0].value, inner), cond

    if not ev.checking:
        if not isinstance(found, SETS):
            return ev.not_lowered(f"`{name}` over this set", e.span)
        if ev.fields is None and ev.host is not None:
            return ev.host.over_set(name, found, names, body, e.span)
        fields = _lowered(ev, e)
        if isinstance(found, BallV):
            found = _told(ev, found, names, e.args[0].value, scope)
        if fields.places.meshed(found, e.span):
            return _over_mesh(ev, name, e, clause, found, scope)
        apart = isinstance(found, DomainV) and _apart(found, names, e.args[0].value)
        return fields.places.over(name, found, names, apart, body, e.span)
    points: dict[str, Any] = dict.fromkeys(names, Value(SCALAR))
    domain = found.domain if isinstance(found, BoundaryV) else found
    if isinstance(domain, DomainV):
        many = Dim.of(len(domain.coordinates))
        shape = (many,) if len(names) == 1 and len(domain.coordinates) > 1 else ()
        points = {n: Value(Tensor(shape=shape, on=domain.name)) for n in names}
    elif isinstance(found, BallV):
        points = _of_ball(found, names)
    v, _ = body(points)
    if clause.cond is not None:
        _truth(ev, clause.cond, scope.child(points))
    if isinstance(v, Value):
        return Value(replace(v.type, on=None, unit=None if name == "integral" else v.type.unit))
    return UNKNOWN if isinstance(v, (Unknown, HostV, NotLowered, ListV, TupleV)) else v


def _of_ball(ball: BallV, names: Sequence[str]) -> dict[str, Any]:
    """The points of a ball as the checker sees them."""
    centre = ball.centre[0] if ball.centre else None
    if any(isinstance(c, (Unknown, HostV)) for c in ball.centre):
        return dict.fromkeys(names, UNKNOWN)
    if isinstance(centre, Value) and centre.type.rank == 1:
        return dict.fromkeys(names, Value(Tensor(shape=centre.type.shape)))
    many = len(ball.centre)
    shape = (Dim.of(many),) if len(names) == 1 and many > 1 else ()
    return dict.fromkeys(names, Value(Tensor(shape=shape)))


SETS = (DomainV, BoundaryV, BallV)


def _over_mesh(ev: Evaluator, name: str, e: tree.Call, clause: Any, found: Any, scope: Scope) -> Any:
    """The same by finite elements."""
    fields = ev.fields
    assert fields is not None
    if clause.cond is not None and name != "integral":
        return ev.not_lowered(f"`{name}` over a part of a set", clause.span)
    if clause.cond is not None and isinstance(found, BoundaryV):
        found = replace(found, where=(*found.where, clause.cond))
    domain = found.domain if isinstance(found, BoundaryV) else found
    with fields.over(found, name):
        inner = scope.child(fields.points(domain, clause.pattern.names, clause.span))
        v = ev.eval(e.args[0].value, inner)
        if isinstance(found, BoundaryV):
            return fields.reduce_boundary(name, v, found, scope, e.span)
        if clause.cond is not None:
            v = ev.choose(ev.eval(clause.cond, inner), v, 0.0, e.span)
        return fields.reduce(name, v, domain, e.span)


def _apart(domain: DomainV, names: Sequence[str], body: tree.Node) -> bool:
    """Whether a binder's point is another one than that at which the formula stands: it has names of its own,
    and the body says where fields are taken, or speaks of the coordinates too."""
    if not names or set(names) & set(domain.coordinates):
        return False
    nodes = list(walk(body))
    calls = [n for n in nodes if isinstance(n, tree.Call) and any(_is(a.value, names) for a in n.args)]
    fields = [n for n in calls if isinstance(n.func, tree.Name)]
    spoken = any(isinstance(n, tree.Name) and n.id in domain.coordinates for n in nodes)
    return spoken or bool(fields)


def _is(e: tree.Node, names: Sequence[str]) -> bool:
    return isinstance(e, tree.Name) and e.id in names


def ball(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`ball(x, r)`, `ball([x, y], r)`: the points at most r from a centre."""
    centre, radius = args
    parts = centre.items if isinstance(centre, (ListV, TupleV)) else (centre,)
    if isinstance(centre, Value) and centre.type.rank == 1 and centre.type.shape[0].constant is not None:
        count = centre.type.shape[0].constant
        parts = tuple(ev.op("index", [centre], e.span, axis=0, at=k) for k in range(count))
    return BallV(tuple(parts), radius)


def _told(ev: Evaluator, ball: BallV, names: Sequence[str], body: tree.Node, scope: Scope) -> BallV:
    """A ball of the points of the field that the body takes at its points, `mean(v(y), y in ball(x, r))`."""
    for n in walk(body):
        if (
            isinstance(n, tree.Call)
            and isinstance(n.func, tree.Name)
            and any(_is(a.value, names) for a in n.args)
        ):
            found = scope.find(n.func.id)
            domain = domain_of(ev, found, scope) if isinstance(found, Value) else None
            if domain is not None and domain.coordinates:
                return replace(ball, domain=domain)
    return ball


def is_field(ev: Evaluator, v: Value) -> bool:
    """Whether a value is a function on a domain."""
    if ev.checking:
        return v.type.on not in (None, "time")
    return ev.fields is not None and ev.fields.space.domain_of(v.axes) is not None


def _is_vector(ev: Evaluator, point: Any, span: Any) -> bool:
    v = ev.value(point, span)
    return isinstance(v, Unknown) or v.type.rank == 1


def at_point(ev: Evaluator, v: Value, args: list[Any], span: Any, scope: Scope | None) -> Any:
    """`u(p)`: the value of a field at a point; a field again where p is one."""
    if not ev.checking:
        return ev.fields.places.at(v, args, span)
    count = _coordinates(v, scope) if scope is not None else None
    if count is not None and len(args) != count and not (len(args) == 1 and _is_vector(ev, args[0], span)):
        what = f"a point of `{v.type.on}` has {count} coordinates, and {len(args)} are given"
        return ev.error("NDL322", what, span, help="write one argument for each coordinate, or a vector")
    on = next((a.type.on for a in args if isinstance(a, Value) and a.type.on is not None), None)
    return Value(replace(v.type, on=on))


def _coordinate(name: str, scope: Scope) -> Any:
    """A coordinate in sight of that name; None for another thing."""
    found: Scope | None = scope
    while found is not None and name not in found.names:
        owner = getattr(found.lazy, "__self__", None)
        if found.lazy is not None and name in getattr(owner, "coordinates", ()):
            return found.lazy(name, 0)
        found = found.parent
    return None


def part_of_axis(ev: Evaluator, e: tree.Call, clause: Any, found: RangeV, scope: Scope) -> Any:
    """`integral(u, x in a..b)` by a coordinate of a field; None where the name is no coordinate in sight."""
    names = clause.pattern.names
    outer = _coordinate(names[0], scope) if len(names) == 1 else None
    if not isinstance(outer, Value):
        return None
    inner = scope.child({names[0]: outer})
    v = ev.eval(e.args[0].value, inner)
    if not ev.checking:
        axis = outer.axes[0]
        return ev.fields.places.part(v, axis, found.lo, found.hi, e.span)
    if not isinstance(v, Value):
        return UNKNOWN
    alone = _coordinates(v, scope) in (1, None)
    return Value(replace(v.type, on=None if alone else v.type.on))


def whole_integral(ev: Evaluator, e: tree.Call, scope: Scope) -> Any:
    """`integral(u)`: over all of the domain of a field."""
    v = ev.eval(e.args[0].value, scope)
    if not ev.checking:
        fields = _lowered(ev, e)
        return fields.integral(v, [a for a in getattr(v, "axes", ()) if a in fields.space.owner], e.span)
    field = _field(ev, v, e)
    return Value(replace(field.type, on=None)) if isinstance(field, Value) else UNKNOWN


def inverse_of_map(ev: Evaluator, map_: Any, right: Any, span: Any) -> Any:
    """`(u -> u - a*lap(u))^-1 @ w`, `lap^-1 @ w`."""
    made = as_map(map_)
    return ev.not_lowered("the inverse of this map", span) if made is None else made.solve_to(ev, right, span)
