"""Written types to types; unification of dimensions; conversion to a declared type."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.habits import TYPES
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, Builtin, DomainV, DualV, Unknown, Value, is_number
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import INTEGER, Dim, Map, Tensor, Tuple, Type, Units

KINDS = ("R", "C", "Z", "Bool")


def resolve_type(
    ev: Evaluator, written: tree.TypeExpr, scope: Scope, dims: Mapping[str, Dim] | None = None
) -> Type | None:
    """A type; dimension names in `dims` or known as integers are filled in, others stay generic.
    None for types that only later work knows (irreps, models as types)."""
    if isinstance(written, tree.TypeName):
        if written.name not in KINDS:
            found = scope.find(written.name)
            if found is None or isinstance(found, Builtin):
                meant = TYPES.get(written.name)
                hint = f"write `{meant}`" if meant else "types are R, C, Z, Bool"
                ev.error("NDL303", f"`{written.name}` is not a type", written.span, help=hint)
            return None
        shape = []
        for d in written.dims:
            if isinstance(d, tree.Str):
                return None
            shape.append(dimension(ev, d, scope, dims or {}))
        return Tensor(written.name, tuple(shape), unit=units(written.unit))
    if isinstance(written, tree.FieldType):
        inner = resolve_type(ev, written.value, scope, dims)
        if not isinstance(inner, Tensor):
            return None
        return Tensor(inner.kind, inner.shape, domain_name(ev, written.domain, scope), inner.unit)
    if isinstance(written, tree.MapType):
        params = [resolve_type(ev, p, scope, dims) for p in written.params]
        result = resolve_type(ev, written.result, scope, dims)
        if result is None or any(p is None for p in params):
            return None
        return Map(tuple(p for p in params if p is not None), result)
    if isinstance(written, tree.TupleType):
        items = [resolve_type(ev, p, scope, dims) for p in written.items]
        return None if any(i is None for i in items) else Tuple(tuple(i for i in items if i is not None))
    return None


def domain_name(ev: Evaluator, written: tree.Expr, scope: Scope) -> str:
    """The name under which two fields are on the same domain; a set nobody declared is generic."""
    if isinstance(written, tree.Name):
        found = scope.find(written.id)
        if isinstance(found, DomainV):
            return found.name
        return written.id
    if isinstance(written, tree.Call) and written.func.span.text == "dual":
        made = ev.eval(written, scope)
        if isinstance(made, DualV):
            return made.name
    return written.span.text.replace(" ", "")


def units(written: tree.UnitExpr | None) -> Units | None:
    if written is None:
        return None
    total: dict[str, Fraction] = {}
    for name, power in written.factors:
        total[name] = total.get(name, Fraction(0)) + power
    return tuple(sorted((n, p) for n, p in total.items() if p))


def dimension(ev: Evaluator, written: tree.Expr, scope: Scope, dims: Mapping[str, Dim]) -> Dim:
    """A dimension: integer arithmetic over names."""
    if isinstance(written, tree.Num) and float(written.value).is_integer():
        return Dim.of(int(written.value))
    if isinstance(written, tree.Name):
        if written.id in dims:
            return dims[written.id]
        found = scope.find(written.id)
        if is_number(found):
            if float(found) != int(found) or found < 0:
                ev.error("NDL304", f"`{written.id}` is {found}, which is no dimension", written.span)
                return Dim.of(written.id)
            return Dim.of(int(found))
        if ev.checking and isinstance(found, Value) and isinstance(found.ref, Dim):
            return found.ref  # a length that a generic dimension tells
        return Dim.of(written.id)
    if isinstance(written, tree.Binary) and written.op in ("+", "-", "*", "//"):
        a = dimension(ev, written.left, scope, dims)
        b = dimension(ev, written.right, scope, dims)
        if written.op == "+":
            return a + b
        if written.op == "-":
            return a - b
        return a * b if written.op == "*" else a // b
    inner = scope.child({n: Value(INTEGER, d) if d.constant is None else d.constant for n, d in dims.items()})
    named = {n.id: inner.find(n.id) for n in walk(written) if isinstance(n, tree.Name)}
    if any(v is None or (not ev.checking and isinstance(getattr(v, "ref", 0), Dim)) for v in named.values()):
        return Dim.of(f"({written.span.text})")  # of a name that only the use will tell
    value = ev.known(ev.eval(written, inner))
    if is_number(value) and float(value).is_integer():
        return Dim.of(int(value))
    if ev.checking and isinstance(value, Value) and value.type.kind == "Z" and not value.type.rank:
        return value.ref if isinstance(value.ref, Dim) else Dim.of(f"({written.span.text})")
    if not isinstance(value, Unknown):
        ev.error("NDL304", "a dimension is a whole number, a name or arithmetic over them", written.span)
    return Dim.of(f"({written.span.text})")


def unify(pattern: Dim, actual: Dim, dims: dict[str, Dim], generic: frozenset[str]) -> bool:
    """Solve a written dimension for its unbound generic name; whether the two can agree."""
    pattern = pattern.substitute(dims)
    if pattern == actual:
        dims.update({n: Dim.of(n) for n in pattern.names if n in generic and n not in dims})
        return True
    free = [n for n in pattern.names if n in generic and n not in dims]
    if len(free) == 1:
        name = free[0]
        slope = sum(c for m, c in pattern.terms if m == ((name, 1),))
        rest = Dim(tuple((m, c) for m, c in pattern.terms if m != ((name, 1),)))
        if slope and name not in rest.names:
            difference = actual - rest
            quotient = difference // slope
            if quotient * slope == difference:
                dims[name] = quotient
                return True
        return False
    return len(free) > 1


def unify_type(pattern: Type, actual: Type, dims: dict[str, Dim], generic: frozenset[str]) -> bool:
    if isinstance(pattern, Tensor) and isinstance(actual, Tensor):
        if len(pattern.shape) != len(actual.shape):
            return False
        return all(unify(p, a, dims, generic) for p, a in zip(pattern.shape, actual.shape))
    if isinstance(pattern, Tuple) and isinstance(actual, Tuple):
        return len(pattern.items) == len(actual.items) and all(
            unify_type(p, a, dims, generic) for p, a in zip(pattern.items, actual.items)
        )
    return True


def convert(ev: Evaluator, value: Any, wanted: Type | None, what: str, span: Span) -> Any:
    """A value as a declared type: numbers fill a shape; anything else must agree."""
    if not isinstance(wanted, Tensor) or isinstance(value, Unknown):
        return ev.value(value, span) if wanted is None else UNKNOWN if isinstance(value, Unknown) else value
    found = ev.value(value, span)
    if isinstance(found, Unknown):
        return UNKNOWN
    if found.type.rank == 0 and wanted.rank:
        found = ev.spread(found, wanted.shape, span)
    if ev.checking and wanted.on is None and apart(found.type, wanted):
        what = f"{what} is {wanted}, and its value is a field, {found.type}"
        return ev.error("NDL302", what, span, help=f"declare it `R on {found.type.on}`")
    if found.type.shape != wanted.shape and not _open(found.type, wanted):
        return ev.error(
            "NDL305",
            f"{what} is declared {wanted}, but its value is {found.type}",
            span,
            help=f"declare it {found.type}, or give it a value of shape {wanted}",
        )
    if wanted.unit is not None and found.type.unit is not None and wanted.unit != found.type.unit:
        return ev.error("NDL306", f"{what} is declared {wanted}, but its value is {found.type}", span)
    return Value(wanted, found.ref, found.axes) if found.type != wanted else found


def apart(found: Tensor, wanted: Tensor) -> bool:
    """Whether a value is a field on another domain than wanted, or where a number is."""
    return found.on not in (None, "time", wanted.on)


def _open(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes may still agree because a generic name stands in one of them."""
    return len(a.shape) == len(b.shape) and all(
        x == y or x.constant is None or y.constant is None for x, y in zip(a.shape, b.shape)
    )
