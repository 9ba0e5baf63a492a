"""Models and solvers applied: `M(k=3, rho ~ law)`, `tsit5(rtol=1e-6)`, `solve(M, …)` and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.grids import CHOICES, HELP, KINDS
from ndl.compiler.check.habits import OPTIONS, SETTINGS, instead
from ndl.compiler.check.model_parts import Parts, collect
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import Argument, declarations
from ndl.compiler.check.plotted import plots_of
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    DomainV,
    FileV,
    HostV,
    ListV,
    MethodV,
    ModelV,
    Object,
    SolverV,
    Unknown,
    Value,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import NDLError, did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

SOLVE_SETTINGS = [
    "span",
    "method",
    "save",
    "ensemble",
    "seed",
    "gradient",
    "write",
    "portion",
    "plot",
    "grid",
    "precision",
    "device",
    "backend",
    "max_steps",
    "noise_step",
    "samples",
]
TRAIN_SETTINGS = [
    "data",
    "method",
    "loss",
    "fit",
    "optimizer",
    "schedule",
    "steps",
    "epochs",
    "batch",
    "validate",
    "checkpoint",
    "seed",
    "samples",
    "span",
    "gradient",
    "save",
    "grid",
    "precision",
    "device",
    "backend",
    "plot",
    "write",
    "clip",
    "clip_value",
    "project",
    "metrics",
    "patience",
    "monitor",
    "least",
    "average",
    "horizon",
    "folds",
    "seeds",
    "log",
    "every",
    "max_steps",
    "noise_step",
    "ensemble",
    "vary",
]
METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "ode": ("h", "steps", "cfl", "max_steps"),
    "sde": ("h", "steps", "max_steps"),
    "split": ("h", "steps", "max_steps"),
    "root": ("tol", "max_steps"),
    "linear": ("tol", "max_steps"),
    "energy": ("tol", "max_steps"),
    "integral": ("quadrature", "tol", "max_steps"),
    "constraint": ("max_steps",),
}
AROUND = "method"
"""What a solver for constraints calls the method that it is around."""

ADAPTIVE = ("rtol", "atol", "h0", "hmax", "beta")


def parts_of(ev: Evaluator, decl: tree.Model) -> Parts:
    """A model's statements sorted, once for each declaration."""
    known: dict[int, Parts] = ev.sink.__dict__.setdefault("model_parts", {})
    if id(decl) not in known:
        known[id(decl)] = collect(ev, decl)
    return known[id(decl)]


def model_names(parts: Parts) -> list[str]:
    """What an application of a model may set."""
    header = [p.name for p in (*parts.decl.data, *parts.decl.options)]
    return [
        *header,
        *parts.params,
        *parts.consts,
        *parts.states,
        *parts.inputs,
        *parts.nets,
        *parts.terms,
        *parts.domains,
        "seed",
    ]


def apply_model(ev: Evaluator, model: ModelV, e: tree.Call, scope: Scope) -> Any:
    """`M(k=3, x=1.0, f=g)`, `M(rho ~ law)`, `M(rho in [..])`; positional arguments are its data."""
    parts = parts_of(ev, model.decl)
    known = [*model_names(parts), *sorted(header_dims(model.decl, model.module.scope))]
    values, laws, members = dict(model.values), dict(model.laws), dict(model.members)
    data = list(model.data)
    for a in e.args:
        e_in = a.value
        if a.kind == "positional" and isinstance(e_in, tree.Compare) and e_in.ops == ("in",):
            target = e_in.operands[0]
            name = target.id if isinstance(target, tree.Name) else ""
            if _known(ev, parts, name, known, target.span):
                listed = replace(a, value=e_in.operands[1])
                members[name + "'" * getattr(target, "primes", 0)] = argument(ev, listed, scope)
            continue
        value = argument(ev, a, scope)
        if a.kind == "positional":
            data.append(value)
        elif _known(ev, parts, a.name or "", known, a.name_span or a.span):
            shown = (a.name or "") + "'" * a.primes
            (laws if a.kind == "draw" else values)[shown] = value
    if len(data) > len(parts.decl.data) and not any(isinstance(d, (Unknown, HostV)) for d in data):
        ev.error(
            "NDL322",
            f"`{model.decl.name}` takes {len(parts.decl.data)} data, {len(data)} are given",
            e.span,
            help="parameters and states are set by name: `" + model.decl.name + "(k=…)`",
        )
    return replace(model, values=values, laws=laws, members=members, data=tuple(data))


def argument(ev: Evaluator, a: tree.Arg, scope: Scope) -> Any:
    """An argument's value; in a model, which may apply parts that read each other, it is put off."""
    if getattr(ev.context, "defers", False):
        return Argument(lambda: ev.eval(a.value, scope), a.value.span)
    return ev.eval(a.value, scope)


def _known(ev: Evaluator, parts: Parts, name: str, known: Sequence[str], span: Span) -> bool:
    if name in known:
        return True
    ev.error(
        "NDL208",
        f"`{parts.name}` has no parameter, state, input or option `{name}`",
        span,
        help=did_you_mean(name, known) or f"it has {', '.join(known)}",
    )
    return False


# ---------------------------------------------------------------- methods


def make_method(ev: Evaluator, solvers: tuple[SolverV, ...], e: tree.Call, scope: Scope) -> Any:
    """A solver with options; a splitting names its parts."""
    split = any(s.decl.kind == "split" for s in solvers)
    around = any(s.decl.kind == "constraint" for s in solvers)
    allowed = method_options(solvers)
    options: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    positional: list[Any] = []
    for a in e.args:
        if a.kind == "part":
            parts[a.name or ""] = as_method(ev, ev.eval(a.value, scope), a.span)
        elif a.kind == "keyword":
            if a.name not in allowed:
                ev.error(
                    "NDL501",
                    f"`{solvers[0].decl.name}` has no option `{a.name}`",
                    a.name_span or a.span,
                    help=instead(a.name or "", allowed, OPTIONS)
                    or did_you_mean(a.name or "", allowed)
                    or f"its options are {', '.join(allowed)}",
                )
                continue
            options[a.name or ""] = ev.eval(a.value, scope)
        elif a.kind == "positional" and split and isinstance(a.value, tree.Name):
            parts[a.value.id] = None
        elif a.kind == "positional" and around and not parts:
            parts[AROUND] = as_method(ev, ev.eval(a.value, scope), a.span)
        elif a.kind == "positional":
            positional.append(ev.eval(a.value, scope))
        else:
            ev.error("NDL324", "`~` has no meaning in a method", a.span)
    _tolerances(ev, options, e)
    _data(ev, solvers, positional, e)
    return MethodV(solvers, options, parts, tuple(positional), e.span)


def _data(ev: Evaluator, solvers: Sequence[SolverV], given: Sequence[Any], e: tree.Call) -> None:
    """A solver is given as many things before its options as its header names."""
    name, wanted = solvers[0].decl.name, [p.name for p in solvers[0].decl.data]
    if len(given) != len(wanted):
        things = ", ".join(f"`{w}`" for w in wanted) or "none"
        ev.error(
            "NDL322",
            f"`{name}` takes {len(wanted)} data ({things}), {len(given)} are given",
            e.span,
            help=f"write `{name}({', '.join([*wanted, 'tol=…'])})`" if wanted else "options are set by name",
        )


def _tolerances(ev: Evaluator, options: Mapping[str, Any], e: tree.Call) -> None:
    for name in ("rtol", "atol", "h", "tol", "steps", "cfl"):
        value = ev.known(options.get(name)) if name in options else None
        if is_number(value) and not (isinstance(value, (int, float)) and value > 0):
            if name in ("rtol", "atol") and value == 0:
                continue
            ev.error("NDL502", f"`{name}` must be positive, not {value}", e.span)


def method_options(solvers: Sequence[SolverV]) -> list[str]:
    """The options that a method knows: the solver's own and those of its kind."""
    found: list[str] = []
    for s in solvers:
        found.extend(p.name for p in s.decl.options)
        found.extend(METHOD_OPTIONS.get(s.decl.kind, ()))
        if s.decl.embedded is not None:
            found.extend(ADAPTIVE)
    return list(dict.fromkeys(found))


def as_method(ev: Evaluator, value: Any, span: Span) -> Any:
    """A setting's method: a bare name is a call with defaults."""
    if isinstance(value, (MethodV, Unknown)):
        return value
    if isinstance(value, tuple) and value and isinstance(value[0], SolverV):
        data = value[0].decl.data
        if data:
            name = value[0].decl.name
            what = f"`{name}` needs what it works with: {', '.join(f'`{p.name}`' for p in data)}"
            return ev.error("NDL322", what, span, help=f"write `{name}({', '.join(p.name for p in data)})`")
        return MethodV(value, span=span)
    if isinstance(value, WordV):
        return value
    hint = f"write `{value}()`" if isinstance(value, str) and value.isidentifier() else None
    return ev.error("NDL503", f"a method is needed here, not {describe(value)}", span, help=hint)


# ---------------------------------------------------------------- settings


def solve_call(ev: Evaluator, e: tree.Call, scope: Scope) -> Any:
    """`solve(Model, key=value, …)`."""
    target = ev.eval(e.args[0].value, scope)
    settings = {a.name or "": (a.value, a.name_span or a.span) for a in e.args[1:] if a.kind == "keyword"}
    if ev.host is not None and not ev.checking:
        return ev.host.solve(ev, target, settings, scope, e.span)
    check_settings(ev, target, settings, SOLVE_SETTINGS, scope, e.span)
    if not ev.checking:
        return ev.not_lowered("`solve` inside a compiled formula", e.span)
    return solution_type(ev, target)


def solution_type(ev: Evaluator, target: Any) -> HostV:
    """The solution of a model, with the names that it has."""
    if not isinstance(target, ModelV):
        return HostV("solution")
    parts = parts_of(ev, target.decl)
    names = [*parts.spans, "t", "final", "steps", "stats", "events", "grid", "model", "valid"]
    names += [o.name for o in parts.observes]
    for s in parts.states:
        names += [s + "'" * k for k in range(1, max(parts.order(s), 1))]
    return HostV("solution", tuple(names), target)


def check_settings(
    ev: Evaluator,
    target: Any,
    settings: Mapping[str, tuple[tree.Expr, Span]],
    known: Iterable[str],
    scope: Scope,
    span: Span,
) -> dict[str, Any]:
    """Evaluate the settings of a run; unknown names are errors with the nearest setting."""
    found: dict[str, Any] = {}
    for name, (value, where) in settings.items():
        if name not in known:
            hint = instead(name, known, SETTINGS) or did_you_mean(name, known)
            ev.error("NDL504", f"`{name}` is no setting of `solve`", where, help=hint)
            continue
        found[name] = ev.eval(value, setting_scope(ev, target, scope, name))
    if "plot" in found:
        _check_plot(ev, settings["plot"][0])
    if "method" in found:
        value, where = settings["method"]
        found["method"] = as_method(ev, found["method"], value.span)
        check_method(ev, target, found["method"], value.span)
    return found


def _check_plot(ev: Evaluator, value: tree.Expr) -> None:
    try:
        plots_of(value)
    except NDLError as trouble:
        if ev.strict:
            raise
        for d in trouble.diagnostics:
            ev.sink.add(d)


def setting_scope(ev: Evaluator, target: Any, scope: Scope, name: str) -> Scope:
    """A method's options and a plot may name what the model declares. What is misspelt in a grid or a method
    is meant to be a grid or a method."""
    if name == "grid":
        return Scope(scope, advice=lambda n: did_you_mean(n, [*KINDS, *CHOICES, *_sizes(scope)]) or HELP)
    own = scope
    if name in ("plot", "method", "observe") and isinstance(target, ModelV):
        parts = parts_of(ev, target.decl)
        hidden = {n: HostV("value") for n in parts.spans if scope.find(n) is None or name == "plot"}
        own = scope.child(hidden)
        if name == "plot":
            own.lazy = lambda n, primes: HostV("value") if 0 < primes < parts.order(n) else None
    elif name in ("plot", "method", "observe") and isinstance(target, (HostV, Unknown)):
        own = any_name(scope)
    if name == "method":
        return Scope(own, advice=lambda n: _nearest_method(n, own))
    return own


METHOD_HELP = (
    "write `tsit5(rtol=1e-6)`, `rk4(h=0.01)`, for stiff equations `rodas5()`, for steady ones `newton()` or "
    "`direct()`"
)


def _nearest_method(name: str, scope: Scope) -> str:
    names = scope.all_names()
    methods = [n for n in names if isinstance(scope.find(n), (SolverV, MethodV))]
    return did_you_mean(name, methods) or did_you_mean(name, names) or METHOD_HELP


def _sizes(scope: Scope) -> list[str]:
    """The names in sight that may stand in a grid: numbers and domains."""
    found = ((n, scope.find(n)) for n in scope.all_names())
    return [n for n, v in found if is_number(v) or isinstance(v, (FileV, DomainV, Value))]


def any_name(scope: Scope) -> Scope:
    """A scope of a model that only a run has: what is known nowhere else may be a name of it."""
    inner = scope.child()
    inner.lazy = lambda n, primes: None if scope.find(n, primes) is not None else HostV("value")
    return inner


def check_method(ev: Evaluator, target: Any, method: Any, span: Span) -> None:
    """The kind of a method fits the kind of the model."""
    if not isinstance(method, MethodV) or not isinstance(target, ModelV):
        return
    parts, joined = parts_of(ev, target.decl), declarations(ev, target)
    kinds = {s.decl.kind for s in method.solvers}
    fields = any(_is_field(o) for p in joined for o in p.states.values())
    noises = [n for p in joined for n in p.noises]
    if noises and "sde" not in kinds and "split" not in kinds:
        noise = noises[0]
        ev.error(
            "NDL505",
            f"`{method.name}` cannot solve `{parts.name}`: it has the noise `{noise}`",
            span,
            notes=("a method for ordinary equations does not see noise",),
            help="use one for noise, such as `euler_maruyama(h=0.01)`, `milstein(h=0.01)` or `heun(h=0.01)`",
        )
    elif not noises and kinds == {"sde"} and any(p.jumps for p in joined):
        ev.error(
            "NDL505",
            f"`{method.name}` is a method for Wiener noise, and `{parts.name}` has only jumps",
            span,
            notes=("between the jumps it is an ordinary equation, and steps end at the jumps",),
            help="use `tsit5` or another method for ordinary equations",
        )
    elif not noises and kinds == {"sde"} and not fields:
        ev.error(
            "NDL505",
            f"`{method.name}` is a method for noise, and `{parts.name}` has none",
            span,
            help="use `tsit5` or another method for ordinary equations",
        )
    if "split" in kinds:
        for name in method.parts:
            if name not in parts.terms:
                ev.error(
                    "NDL506",
                    f"`{parts.name}` has no term `{name}`",
                    span,
                    help=did_you_mean(name, parts.terms)
                    or f"its terms are {', '.join(parts.terms) or 'none'}",
                )
        missing = [t for t in parts.terms if t not in method.parts]
        if missing and method.parts:
            ev.error("NDL506", f"the splitting leaves out the term `{missing[0]}`", span)
    integral = any(r.kind == "integral" for p in joined for r in p.rates.values())
    if integral and "integral" not in kinds:
        ev.error(
            "NDL505",
            f"`{method.name}` cannot solve the integral equation of `{parts.name}`",
            span,
            help="use `picard(quadrature=trapezoid(400))` or `nystrom(quadrature=gauss(24))`",
        )


def _is_field(orders: Mapping[int, tree.DeclItem]) -> bool:
    return any(
        isinstance(i.type, tree.FieldType) and i.type.domain.span.text != "time" for i in orders.values()
    )


__all__ = [
    "UNKNOWN",
    "ListV",
    "Object",
    "Value",
    "apply_model",
    "check_settings",
    "make_method",
    "parts_of",
    "solve_call",
]
