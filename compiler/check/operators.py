"""Operators: constructing makes weights, applying uses them; dimensions are solved from the use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.check.calls import apply, header_names
from ndl.compiler.check.covariances import check_covariance
from ndl.compiler.check.evaluator import MAX_DEPTH, Evaluator, merge_axes
from ndl.compiler.check.habits import OPTIONS, instead
from ndl.compiler.check.nearness import law_on_points
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import bind_sets, declared, domain_of, header_sets, of_fields
from ndl.compiler.check.signatures import inner_signature
from ndl.compiler.check.statements import run_block
from ndl.compiler.check.typing import resolve_type, unify_type
from ndl.compiler.check.values import (
    UNKNOWN,
    DistV,
    HostV,
    ListV,
    NetV,
    OperatorV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
)
from ndl.compiler.check.weights import Item, read_item, without_value
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, Dim, Map, Tensor, Tuple, Type


def header_dims(decl: tree.Operator | tree.Model, scope: Scope) -> frozenset[str]:
    """The generic dimension names of a header, and of a model's inputs, states, parameters and constants."""
    found: set[str] = set()

    def visit(t: tree.TypeExpr | None) -> None:
        if isinstance(t, tree.TypeName):
            for d in t.dims:
                expr_names(d, found)
        elif isinstance(t, tree.FieldType):
            visit(t.value)
        elif isinstance(t, tree.MapType):
            for p in (*t.params, t.result):
                visit(p)
        elif isinstance(t, tree.TupleType):
            for p in t.items:
                visit(p)

    for p in (*decl.data, *decl.options):
        visit(p.type)
    visit(getattr(decl, "result", None))
    bound = {p.name for p in decl.options}
    if isinstance(decl, tree.Model):
        declared = [s for s in decl.body if isinstance(s, tree.Declare)]
        for item in (i for s in declared if s.keyword == "input" for i in s.items):
            visit(item.type)
        told = set(found)
        for item in (i for s in declared if s.keyword in ("state", "param", "const") for i in s.items):
            visit(item.type)
        bound |= {n for n in found - told if scope.find(n) is not None}
        bound |= {i.name for s in declared if s.keyword != "input" for i in s.items}
        assigned = [t for s in decl.body if isinstance(s, tree.Assign) for t in s.targets]
        bound |= {t.id for t in assigned if isinstance(t, tree.Name)}
    return frozenset(n for n in found if n not in bound and not isinstance(scope.find(n), (int, float)))


def expr_names(e: tree.Expr, into: set[str]) -> None:
    if isinstance(e, tree.Name):
        into.add(e.id)
    elif isinstance(e, tree.Binary):
        expr_names(e.left, into)
        expr_names(e.right, into)


def call_operator(
    ev: Evaluator,
    op: OperatorV,
    args: list[Any],
    options: dict[str, Any],
    span: Span,
    expect: Type | None,
    place: Any,
    scope: Scope | None = None,
) -> Any:
    """`MLP(width=32)` constructs; `MLP(width=32)(x)` and `f(x)` apply."""
    if not op.built:
        built = construct(ev, op, options, span, place)
        if built is None:
            return UNKNOWN
        if not args and (op.decl.data or isinstance(expect, Map)):
            return built
        return apply_operator(ev, built, args, span, expect, scope)
    if options:
        for name in options:
            ev.error(
                "NDL323", f"options such as `{name}` are set where `{op.decl.name}` is constructed", span
            )
        return UNKNOWN
    return apply_operator(ev, op, args, span, expect, scope)


def construct(
    ev: Evaluator, op: OperatorV, options: dict[str, Any], span: Span, place: Any
) -> OperatorV | None:
    """Fix options and dimensions; the weights are made where the result is first applied."""
    generic = header_dims(op.decl, op.module.scope)
    names = [p.name for p in op.decl.options]
    dims = dict(op.dims)
    chosen = dict(op.options)
    for key, value in options.items():
        if key in generic:
            number = ev.known(value)
            if isinstance(number, int):
                dims[key] = Dim.of(number)
            elif isinstance(value, Value) and ev.checking:
                dims[key] = value.ref if isinstance(value.ref, Dim) else Dim.of(f"{key}{span.start}")
            elif not isinstance(number, Unknown):
                ev.error("NDL304", f"the dimension `{key}` must be a whole number", span)
                return None
        elif key in names:
            chosen[key] = value
        else:
            ev.error(
                "NDL323",
                f"`{op.decl.name}` has no option `{key}`",
                span,
                help=instead(key, [*names, *generic], OPTIONS)
                or did_you_mean(key, [*names, *generic])
                or f"its options are {', '.join([*names, *sorted(generic)]) or 'none'}",
            )
            return None
    return replace(op, options=chosen, dims=dims, built=True, place=op.place or place)


def option_scope(ev: Evaluator, op: OperatorV) -> Scope:
    """What an operator's header sees: its options as chosen, or at their defaults, each of which may read
    those before it."""
    scope = bind_sets(ev, op, op.module.scope.child())
    for option in op.decl.options:
        if option.name in op.options:
            scope.names[option.name] = op.options[option.name]
        elif option.default is not None:
            scope.names[option.name] = ev.eval(option.default, scope)
    return scope


def solve_dims(
    ev: Evaluator,
    op: OperatorV,
    args: Sequence[Any],
    span: Span,
    expect: Type | None,
    where: Scope | None = None,
) -> tuple[OperatorV, Type | None] | None:
    """The operator with the dimensions and sets of an application, and its result type; None after an error.
    `where` is the scope that knows the domains of the arguments."""
    decl, scope = op.decl, op.module.scope
    generic = header_dims(decl, scope)
    dims = dict(op.dims)
    if len(args) != len(decl.data):
        ev.error("NDL322", f"`{decl.name}` takes {len(decl.data)} arguments, {len(args)} are given", span)
        return None
    op = solve_sets(ev, op, args, expect, where)
    inner = option_scope(ev, op)
    for parameter, value in zip(decl.data, args):
        wanted = resolve_type(ev, parameter.type, inner, dims) if parameter.type else None
        if not isinstance(value, Value) or not isinstance(wanted, Tensor):
            continue
        apart = wanted.on is not None and value.type.on is not None and wanted.on != value.type.on
        if apart or not unify_type(wanted, value.type, dims, generic):
            shown = wanted.substitute(dims)
            ev.error(
                "NDL307",
                f"`{decl.name}` wants {shown} for `{parameter.name}`, but is given {value.type}",
                span,
            )
            return None
    result = resolve_type(ev, decl.result, inner, dims) if decl.result else None
    if result is not None and expect is not None and not isinstance(result, Map):
        unify_type(result, expect, dims, generic)
        result = resolve_type(ev, decl.result, inner, dims) if decl.result else None
    return replace(op, dims=dims), result


def solve_sets(
    ev: Evaluator, op: OperatorV, args: Sequence[Any], expect: Type | None, where: Scope | None
) -> OperatorV:
    """The operator with the domains that its sets stand for, from the fields that it is given and the type of
    field that is wanted."""
    decl = op.decl
    names = header_sets(decl)
    if not names:
        return op
    given = [(p.type, domain_of(ev, a, where)) for p, a in zip(decl.data, args)]
    if isinstance(expect, Tensor):
        given.append((decl.result, domain_of(ev, Value(expect), where)))
    sets = dict(op.sets)
    for written, domain in given:
        plain = isinstance(written, tree.FieldType) and isinstance(written.domain, tree.Name)
        if domain is None or not plain or not isinstance(written, tree.FieldType):
            continue
        name = written.domain.id if isinstance(written.domain, tree.Name) else ""
        free = declared(ev, name, op.module.scope) is None
        if (free and name not in sets) or not ev.checking:
            sets[name] = domain
    return replace(op, sets=sets)


def apply_operator(
    ev: Evaluator,
    op: OperatorV,
    args: Sequence[Any],
    span: Span,
    expect: Type | None,
    scope: Scope | None = None,
) -> Any:
    """The result of an operator on data."""
    values = [ev.value(a, span) if not callable_value(a) else a for a in args]
    if any(isinstance(v, Unknown) for v in values):
        return UNKNOWN
    if ev.builder.mode == "eager" and of_fields(op.decl):
        return ev.worker.apply_operator(ev, op, values, span)
    solved = solve_dims(ev, op, values, span, expect, scope)
    if solved is None:
        return UNKNOWN
    op, result = solved
    if ev.checking:
        if decl_is_open(op.decl):
            return checked_body(ev, op, values, span)
        return pointwise(result_value(result, values), op.decl, values)
    free = [n for n in header_dims(op.decl, op.module.scope) if n not in op.dims]
    if free:
        return ev.error(
            "NDL308",
            f"nothing here tells the dimension `{free[0]}` of `{op.decl.name}`",
            span,
            help=f"write `{op.decl.name}({free[0]}=…)`",
        )
    return ev.worker.apply_operator(ev, op, values, span)


def pointwise(found: Any, decl: tree.Operator, values: Sequence[Any]) -> Any:
    """What an operator of tensors gives of fields is a field: it acts at each point."""
    on = next((v.type.on for v in values if isinstance(v, Value) and v.type.on is not None), None)
    if on is None or of_fields(decl):
        return found
    return on_domain(found, on)


def on_domain(found: Any, on: str) -> Any:
    """A value as a field on a domain."""
    if isinstance(found, TupleV):
        return TupleV(tuple(on_domain(i, on) for i in found.items))
    return replace(found, type=replace(found.type, on=on)) if isinstance(found, Value) else found


def decl_is_open(decl: tree.Operator) -> bool:
    """Whether the types of an operator's result are told by its body alone, at each use."""
    return decl.result is None


def checked_body(ev: Evaluator, op: OperatorV, values: Sequence[Any], span: Span) -> Any:
    """What an operator without a result type gives for data of these types: its body, checked with them."""
    decl = op.decl
    if op.decl in ev.active:
        return UNKNOWN  # an operator that applies itself: each use is checked by itself
    if ev.depth > MAX_DEPTH * 5:
        return ev.error("NDL310", f"`{decl.name}` applies itself without end", span)
    scope = option_scope(ev, op)
    scope.names.update({name: Value(INTEGER, d) for name, d in op.dims.items()})
    plain = [replace(v, axes=()) if isinstance(v, Value) else v for v in values]
    scope.names.update(zip((p.name for p in decl.data), plain))
    saved, ev.context = ev.context, CheckContext()
    ev.depth += 5
    ev.active.append(op.decl)
    try:
        found = run_block(ev, decl.body, scope)
    finally:
        ev.context = saved
        ev.depth -= 5
        ev.active.pop()
    if isinstance(found, (ListV, int, float)):
        found = ev.value(found, span)
    axes = merge_axes([v for v in values if isinstance(v, Value)])
    if isinstance(found, Value):
        return Value(found.type, None, axes)
    if isinstance(found, TupleV):
        parts = (ev.value(i, span) for i in found.items)
        return TupleV(tuple(Value(i.type, None, axes) if isinstance(i, Value) else UNKNOWN for i in parts))
    return UNKNOWN


def callable_value(a: Any) -> bool:
    from ndl.compiler.check.values import Builtin, Closure, FnV

    return isinstance(a, (Closure, FnV, Builtin, OperatorV, NetV))


def result_value(result: Type | None, args: Sequence[Any] = ()) -> Any:
    """What a call with these arguments gives, as the checker sees it."""
    if isinstance(result, Tensor):
        return Value(result, None, merge_axes([a for a in args if isinstance(a, Value)]))
    if isinstance(result, Tuple):
        return TupleV(tuple(result_value(i, args) for i in result.items))
    return UNKNOWN


def call_net(ev: Evaluator, net: NetV, args: list[Any], span: Span, scope: Scope | None = None) -> Any:
    """Apply a named net: its signature says what it wants."""
    values = [ev.value(a, span) if not callable_value(a) else a for a in args]
    if any(isinstance(v, Unknown) for v in values):
        return UNKNOWN
    signature = net.signature
    if isinstance(signature, Map):
        if len(signature.params) != len(values):
            return ev.error(
                "NDL322",
                f"`{net.name}` takes {len(signature.params)} arguments, {len(values)} are given",
                span,
            )
        for wanted, value in zip(signature.params, values):
            if isinstance(wanted, Tensor) and isinstance(value, Value) and wanted.shape != value.type.shape:
                if any(d.constant is None for d in (*wanted.shape, *value.type.shape)):
                    continue
                if wanted.on is not None and ev.builder.mode == "eager":
                    continue  # of a field there is an array of its values
                return ev.error("NDL307", f"`{net.name}` wants {wanted}, but is given {value.type}", span)
    if ev.checking:
        if isinstance(signature, Map):
            return _at_points(signature, values)
        if isinstance(net.target, OperatorV):
            solved = solve_dims(ev, net.target, values, span, None, scope)
            return UNKNOWN if solved is None else result_value(solved[1], values)
        return UNKNOWN if net.target is None else apply(ev, net.target, values, {}, span, None)
    return ev.worker.apply_net(ev, net, values, span)


def _at_points(signature: Map, values: Sequence[Any]) -> Any:
    """What a net gives: of fields that its signature does not speak of a field."""
    found = result_value(signature.result, values)
    pairs = [(w, v) for w, v in zip(signature.params, values) if isinstance(v, Value)]
    on = next((v.type.on for w, v in pairs if v.type.on and not getattr(w, "on", None)), None)
    told = isinstance(signature.result, Tensor) and signature.result.on is not None
    return found if on is None or told else on_domain(found, on)


class CheckContext:
    """Declarations inside an operator's body, as the checker sees them."""

    def __init__(self, kind: str = "operator") -> None:
        self.kind = kind
        self.spans: dict[str, Span] = {}

    def declared(self, name: str) -> Span | None:
        return self.spans.get(name)

    def statement(self, ev: Evaluator, stmt: tree.Stmt, scope: Scope) -> None:
        if isinstance(stmt, tree.Declare):
            for item in stmt.items:
                if stmt.keyword in ("param", "const"):
                    without_value(ev, stmt.keyword, item)
                found = read_item(ev, item, scope)
                self.spans[item.name] = item.name_span
                scope.names[item.name] = UNKNOWN if found.type is None else Value(found.type)
        elif isinstance(stmt, tree.Net):
            scope.names[stmt.name] = read_net(ev, stmt, scope)
        elif isinstance(stmt, tree.Draw):
            scope.names[stmt.name] = draw_value(ev, stmt, scope)
        elif isinstance(stmt, tree.Reset):
            ev.eval(stmt.target, scope)
            ev.eval(stmt.value, scope)
        elif isinstance(stmt, tree.Observe):
            ev.eval(stmt.law, scope)
            scope.names[stmt.name] = UNKNOWN
        else:
            ev.error("NDL401", "this statement has no meaning here", stmt.span)


def read_net(ev: Evaluator, stmt: tree.Net, scope: Scope, owner: Any = None, target: Any = None) -> NetV:
    """`net f: sig = Net(...)`, with the signature's dimensions given to the operator; `target` takes the
    place of what is written."""
    signature = resolve_type(ev, stmt.signature, scope) if stmt.signature else None
    inner: Map | None = None
    if target is None and stmt.value is not None:
        # a map is wanted, so that an operator without data is constructed here and not applied
        target = ev.eval(stmt.value, scope, signature if isinstance(signature, Map) else Map((), Tensor()))
    origin = None
    if isinstance(target, NetV) and target.origin is not None:  # remade
        signature, origin, target = signature or target.signature, target.origin, target.target
    if isinstance(target, OperatorV):
        if not target.built:
            target = construct(ev, target, {}, stmt.span, stmt)
        inner = inner_signature(ev, target, signature) if target is not None else None
        seen = inner or signature
        if target is not None and isinstance(seen, Map):
            solved = solve_dims(
                ev,
                target,
                [Value(p) for p in seen.params if isinstance(p, Tensor)],
                stmt.span,
                seen.result,
                scope,
            )
            if solved is not None:
                target, result = solved
                dims = target.dims
                generic = header_dims(target.decl, target.module.scope)
                if (
                    isinstance(result, Tensor)
                    and isinstance(seen.result, Tensor)
                    and not unify_type(result, seen.result, dict(dims), generic)
                ):
                    ev.error(
                        "NDL309",
                        f"`{stmt.name}` is declared to give {seen.result}, but "
                        f"`{target.decl.name}` gives {result}",
                        stmt.span,
                    )
    elif target is not None and not isinstance(target, Unknown) and not callable_value(target):
        if isinstance(target, WordV) and target.name != "expression":
            ev.not_lowered("a formula as a net (`expression(…)`)", stmt.span)
        elif not isinstance(target, WordV):
            target = ev.error(
                "NDL348",
                f"`net {stmt.name}` is made of {describe(target)}, which is no operator",
                stmt.span if stmt.value is None else stmt.value.span,
                help=f"write `net {stmt.name}: R[2] -> R = MLP(width=32, depth=2)`, or another operator",
            )
    return NetV(stmt.name, signature, target, stmt.per, owner, inner, origin)


def draw_value(ev: Evaluator, stmt: tree.Draw, scope: Scope) -> Any:
    """`z: T ~ law` as the checker sees it."""
    law = ev.eval(stmt.law, scope)
    declared = resolve_type(ev, stmt.type, scope) if stmt.type is not None else None
    check_covariance(ev, stmt.name, law, declared if isinstance(declared, Tensor) else Tensor(), stmt.span)
    if isinstance(declared, Tensor):
        host = getattr(ev.context, "kind", "") == "train" and declared.on is not None
        return HostV("a drawn field") if host else Value(declared)
    if isinstance(law, DistV):
        return law_type(ev, law)
    return UNKNOWN


def law_type(ev: Evaluator, law: DistV) -> Any:
    """The type of one draw: that of the law's arguments, or of the points of a set."""
    point = law_on_points(ev, law)
    if point is not None:
        return point
    for a in law.args:
        if isinstance(a, Value):
            return Value(Tensor("R", a.type.shape))
        if not isinstance(a, (int, float)):
            return UNKNOWN
    return Value(Tensor("R"))


def check_operator(ev: Evaluator, op: OperatorV) -> None:
    """Check an operator's body by itself: dimensions stand for themselves, options at their defaults."""
    decl = op.decl
    names: dict[str, Any] = {p.name: UNKNOWN for p in decl.data}
    options: dict[str, Any] = {}
    outer = op.module.scope
    for p in decl.options:
        options[p.name] = ev.eval(p.default, outer.child(options)) if p.default is not None else UNKNOWN
    generic = header_dims(decl, outer)
    scope = bind_sets(ev, op, outer.child())
    scope.names |= {**options, **{g: Value(Tensor("Z"), Dim.of(g)) for g in generic}}
    if of_fields(decl):
        from ndl.compiler.check.open_weights import open_weights

        scope.names |= {n: Value(Tensor("Z"), Dim.of(n)) for n, _ in open_weights(op)}
    for p in decl.data:
        wanted = resolve_type(ev, p.type, scope, {g: Dim.of(g) for g in generic}) if p.type else None
        names[p.name] = result_value(wanted) if not isinstance(wanted, Map) else NetV(p.name, wanted, None)
    scope.names.update(names)
    result = resolve_type(ev, decl.result, scope, {g: Dim.of(g) for g in generic}) if decl.result else None
    saved, ev.context = ev.context, CheckContext()
    found = run_block(ev, decl.body, scope, result)
    ev.context = saved
    if of_fields(decl):
        from ndl.compiler.check.resampled import check_samplings

        check_samplings(ev, decl, scope)
    if found is None and decl.result is not None:
        ev.error("NDL403", f"`{decl.name}` returns nothing", decl.name_span, help="end it with `return …`")
    if isinstance(found, Value) and isinstance(result, Tensor) and found.type.shape != result.shape:
        if found.type.rank == result.rank and any(d.names for d in (*found.type.shape, *result.shape)):
            if all(n in generic for d in (*found.type.shape, *result.shape) for n in d.names):
                ev.error(
                    "NDL309",
                    f"`{decl.name}` is declared to give {result}, but returns {found.type}",
                    decl.name_span,
                )
        else:
            ev.error(
                "NDL309",
                f"`{decl.name}` is declared to give {result}, but returns {found.type}",
                decl.name_span,
            )
    elif isinstance(found, Value) and isinstance(result, Tensor) and found.type.on not in (None, result.on):
        what = f"`{decl.name}` is declared to give {result}, but returns {found.type}"
        ev.error("NDL309", what, decl.name_span)


__all__ = [
    "CheckContext",
    "Item",
    "apply_operator",
    "call_net",
    "call_operator",
    "check_operator",
    "header_names",
]
