"""Calls and attributes: what stands before `(` or `.` decides what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ndl.compiler.check.evaluator import MAX_DEPTH, Evaluator
from ndl.compiler.check.scope import Deferred, Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    Closure,
    DistV,
    DomainV,
    FileV,
    FnV,
    HostV,
    ListV,
    MethodV,
    ModelV,
    ModuleV,
    NetV,
    NotLowered,
    Object,
    OperatorV,
    SolverV,
    TupleV,
    Unknown,
    Value,
    WordV,
    describe,
)
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Type


def call(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """A call as written: functions that bind names, models and solvers read their own syntax."""
    func = ev.eval(e.func, scope)
    if isinstance(func, Builtin):
        if not _arity(ev, func, e):
            return UNKNOWN
        if func.raw:
            return func.handler(ev, e, scope, expect)
    if isinstance(func, ModelV):
        from ndl.compiler.check.applications import apply_model

        return apply_model(ev, func, e, scope)
    if isinstance(func, tuple) and func and isinstance(func[0], SolverV):
        from ndl.compiler.check.applications import make_method

        return make_method(ev, func, e, scope)
    if isinstance(func, Builtin) and any(a.kind in ("draw", "part") for a in e.args):
        arguments(ev, e, scope)  # says that they have no meaning here
        return UNKNOWN
    if isinstance(func, Builtin) and expect is not None and func.name in SHAPE_KEEPING:
        args = [ev.eval(a.value, scope, expect) for a in e.args if a.kind == "positional"]
        options = {a.name or "": ev.eval(a.value, scope) for a in e.args if a.kind != "positional"}
        return func.handler(ev, args, options, e, scope)
    args, options = arguments(ev, e, scope)
    if isinstance(func, Builtin):
        return func.handler(ev, args, options, e, scope)
    return apply(ev, func, args, options, e.span, expect, place=e, scope=scope)


SHAPE_KEEPING = frozenset(["tanh", "relu", "gelu", "sigmoid", "silu", "softplus", "elu", "sin", "cos", "exp"])


def _arity(ev: Evaluator, func: Builtin, e: tree.Call) -> bool:
    """Number and names of the arguments of a builtin."""
    given = sum(a.kind != "keyword" for a in e.args)
    if given < func.least or (func.most is not None and given > func.most):
        wanted = (
            str(func.least)
            if func.least == func.most
            else f"at least {func.least}"
            if func.most is None
            else f"{func.least} to {func.most}"
        )
        many = "argument" if wanted == "1" else "arguments"
        ev.error("NDL322", f"`{func.name}` takes {wanted} {many}, {given or 'none'} given", e.span)
        return False
    if "*" not in func.keywords:
        for a in e.args:
            if a.kind == "keyword" and a.name not in func.keywords:
                ev.error(
                    "NDL323",
                    f"`{func.name}` has no option `{a.name}`",
                    a.name_span or a.span,
                    help=did_you_mean(a.name or "", func.keywords)
                    or (f"it takes {', '.join(func.keywords)}" if func.keywords else None),
                )
                return False
    return True


def arguments(ev: Evaluator, e: tree.Call, scope: Scope) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a plain call."""
    args: list[Any] = []
    options: dict[str, Any] = {}
    for a in e.args:
        value = ev.eval(a.value, scope)
        if a.kind == "positional":
            args.append(value)
        elif a.kind == "keyword":
            options[a.name or ""] = value
        else:
            word = "~" if a.kind == "draw" else ":"
            ev.error("NDL324", f"`{a.name} {word} …` has no meaning in this call", a.span)
    return args, options


def apply(
    ev: Evaluator,
    func: Any,
    args: list[Any],
    options: dict[str, Any],
    span: Span,
    expect: Type | None,
    place: Any = None,
    scope: Scope | None = None,
) -> Any:
    """Apply a function value to values."""
    if isinstance(func, Unknown):
        return UNKNOWN
    if isinstance(func, Closure):
        return _closure(ev, func, args, span)
    if isinstance(func, FnV):
        return _fn(ev, func, args, options, span)
    if isinstance(func, (OperatorV, NetV)):
        from ndl.compiler.check.operators import call_net, call_operator

        turns = scope.turns if scope is not None else ()
        if isinstance(func, OperatorV):
            return call_operator(ev, func, args, options, span, expect, (place, turns), scope)
        return call_net(ev, func, args, span, scope)
    if isinstance(func, Builtin):
        from ndl.compiler.check.builtins import call_with_values

        return call_with_values(ev, func, args, span)
    if isinstance(func, Object):
        return func.call(ev, args, options, span)
    if isinstance(func, WordV):
        return WordV(func.name, tuple(args), options)
    if isinstance(func, (HostV, NotLowered)):
        return UNKNOWN if ev.checking or isinstance(func, HostV) else ev.not_lowered(func.construct, span)
    if isinstance(func, Value):
        from ndl.compiler.check.fields import at_point, is_field

        if is_field(ev, func):
            return at_point(ev, func, args, span, scope)
        owner = _owner_of(place, scope)
        if owner is not None:
            return owner.at_time(ev, place.func.id, func, args, place.span)
        if ev.builder.mode == "eager":
            return ev.builder.evaluate_path(ev, func, args, span)  # type: ignore[attr-defined]
        return _not_a_function(ev, func, span, place)
    several = isinstance(func, ListV) and any(isinstance(f, (Object, NetV)) for f in func.items)
    hint = "choose one of its members: `f[0](…)`" if several else None
    return ev.error("NDL320", f"{describe(func)} cannot be called", span, help=hint)


def _not_a_function(ev: Evaluator, value: Value, span: Span, place: Any) -> Any:
    """A value in the place of a function: most likely a product without its sign."""
    if not (isinstance(place, tree.Call) and isinstance(place.func, tree.Name)):
        return ev.error("NDL320", f"{value.type} cannot be called", span)
    name = place.func.id
    inside = ", ".join(a.span.text for a in place.args)
    hint = f"a product has its sign, `{name}*({inside})`" if len(place.args) == 1 else None
    if value.type.rank:
        hint = f"an entry is `{name}[{inside}]`" + (f", and {hint}" if hint else "")
    return ev.error("NDL320", f"`{name}` is {value.type}, and cannot be called", span, help=hint)


def _owner_of(place: Any, scope: Scope | None) -> Any:
    """The model, or the part, whose state or input on time the call `x(e)` names; None for other calls."""
    if not (isinstance(place, tree.Call) and isinstance(place.func, tree.Name)):
        return None
    while scope is not None:
        owner = getattr(scope.lazy, "__self__", None)
        moves = getattr(owner, "moves", None)
        if moves is not None and moves(place.func.id):
            return owner
        scope = scope.parent
    return None


def bind_pattern(
    ev: Evaluator, pattern: tree.Pattern, args: Sequence[Any], span: Span
) -> dict[str, Any] | None:
    """Names of a lambda's or binder's pattern with their values."""
    names = pattern.names
    if len(names) == 1 and not pattern.bracket:
        if len(args) != 1:
            ev.error("NDL322", f"this function takes 1 argument, {len(args)} are given", span)
            return None
        return {names[0]: args[0]}
    if len(args) == 1 and len(names) != 1:
        parts = take_apart(ev, args[0], len(names), span)
        return None if parts is None else dict(zip(names, parts))
    if len(args) != len(names):
        ev.error("NDL322", f"this function takes {len(names)} arguments, {len(args)} are given", span)
        return None
    return dict(zip(names, args))


def take_apart(ev: Evaluator, value: Any, count: int, span: Span) -> list[Any] | None:
    """A tuple, a list or a tensor's first axis as `count` values."""
    if isinstance(value, (Unknown, HostV)):
        return [UNKNOWN] * count
    if isinstance(value, (TupleV, ListV)):
        if len(value.items) != count:
            ev.error("NDL325", f"{len(value.items)} values cannot be given to {count} names", span)
            return None
        return list(value.items)
    if isinstance(value, Value) and value.type.rank:
        extent = value.type.shape[0].constant
        if extent is not None and extent != count:
            ev.error("NDL325", f"{value.type} has {extent} parts, not {count}", span)
            return None
        return [ev.op("index", [value], span, axis=0, at=i) for i in range(count)]
    ev.error("NDL325", f"{describe(value)} does not come apart into {count} values", span)
    return None


def _closure(ev: Evaluator, func: Closure, args: list[Any], span: Span) -> Any:
    names = bind_pattern(ev, func.expr.pattern, args, span)
    if names is None:
        return UNKNOWN
    return ev.eval(func.expr.body, func.scope.child(names))


def _fn(ev: Evaluator, func: FnV, args: list[Any], options: dict[str, Any], span: Span) -> Any:
    decl = func.decl
    if ev.checking and ev.undecided and func in ev.active:
        return UNKNOWN  # a recursion whose end is not known here: each use is checked by itself
    if func in ev.endless:
        return UNKNOWN
    if ev.depth > MAX_DEPTH * 5:
        ev.endless.update(ev.active)  # each of their calls would come down here again
        return ev.error("NDL310", f"`{decl.name}` calls itself without end", span)
    names = header_names(ev, decl.name, decl.data, decl.options, args, options, span, func.module.scope)
    if names is None:
        return UNKNOWN
    from ndl.compiler.check.statements import run_block

    ev.depth += 5
    ev.active.append(func)
    try:
        return run_block(ev, decl.body, func.module.scope.child(names))
    finally:
        ev.active.pop()
        ev.depth -= 5


def header_names(
    ev: Evaluator,
    name: str,
    data: tuple[tree.Parameter, ...],
    allowed: tuple[tree.Parameter, ...],
    args: Sequence[Any],
    options: Mapping[str, Any],
    span: Span,
    scope: Scope,
) -> dict[str, Any] | None:
    """Names of a header bound to the arguments of a call; None after an error."""
    names: dict[str, Any] = {}
    if len(args) > len(data):
        ev.error("NDL322", f"`{name}` takes {len(data)} arguments, {len(args)} are given", span)
        return None
    for parameter, value in zip(data, args):
        names[parameter.name] = value
    known = {p.name for p in (*data, *allowed)}
    for key, value in options.items():
        if key not in known:
            ev.error("NDL323", f"`{name}` has no option `{key}`", span, help=did_you_mean(key, known))
            return None
        if key in names:
            ev.error("NDL326", f"`{key}` is given twice", span)
            return None
        names[key] = value
    for parameter in (*data, *allowed):
        if parameter.name in names:
            continue
        if parameter.default is None:
            ev.error("NDL322", f"`{name}` needs `{parameter.name}`", span)
            return None
        names[parameter.name] = ev.eval(parameter.default, scope.child(names))
    return names


def attribute(ev: Evaluator, value: Any, e: tree.Attr) -> Any:
    """`value.name`."""
    span = e.name_span or e.span
    shown = e.name + "'" * e.primes
    if isinstance(value, Unknown):
        return UNKNOWN
    if isinstance(value, ModuleV):
        exports = value.module.exports()
        if e.name in exports:
            found = exports[e.name]
            found = found.get() if isinstance(found, Deferred) else found
            return ev.file_value(found) if isinstance(found, FileV) else found
        if e.name.startswith("_") and e.name in value.module.names:
            return ev.error("NDL206", f"`{e.name}` is private to `{value.module.path.stem}`", span)
        return ev.error(
            "NDL205",
            f"`{value.module.path.stem}` has no `{e.name}`",
            span,
            help=did_you_mean(e.name, exports),
        )
    if isinstance(value, Object):
        return value.attribute(ev, e.name, e.primes, span)
    if isinstance(value, HostV):
        if value.names is None or shown in value.names or e.name in value.names:
            return (
                HostV("value") if value.kind != "solution" or e.name not in NESTED else HostV(NESTED[e.name])
            )
        return ev.error(
            "NDL207", f"this {value.kind} has no `{shown}`", span, help=did_you_mean(e.name, value.names)
        )
    if isinstance(value, Value):
        if e.name == "T":
            return ev.op("permute", [value], e.span, axes=tuple(reversed(range(value.type.rank))))
        return ev.error("NDL207", f"{value.type} has no `{shown}`", span)
    if isinstance(value, ListV) and e.name == "T":
        found = ev.value(value, e.span)
        return UNKNOWN if isinstance(found, Unknown) else ev.op("permute", [found], e.span, axes=(1, 0))
    if isinstance(value, (Builtin, Closure)) and e.name == "T":
        map_ = ev.linear_map(value)
        if map_ is not value:
            return map_.attribute(ev, "T", 0, span)
    if isinstance(value, (ModelV, NetV)):
        return ev.builder.attribute(ev, value, e.name, span) if hasattr(ev.builder, "attribute") else UNKNOWN
    if isinstance(value, (DomainV, MethodV, DistV, WordV)):
        return UNKNOWN
    return ev.error("NDL207", f"{describe(value)} has no `{shown}`", span)


NESTED = {"final": "final state", "stats": "statistics", "steps": "steps", "events": "events", "grid": "grid"}
