"""The functions and words of the language itself: what every file sees without importing it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ndl.compiler.check import (
    binders,
    convolving,
    derivatives,
    fields,
    imposed,
    linearized,
    nearness,
    point_sets,
    quadrature,
    tensors,
)
from ndl.compiler.check.builtin_names import HOSTED, INITIALISERS, LATER, LAWS, WORDS
from ndl.compiler.check.divergence import divergence
from ndl.compiler.check.elementwise import UNARY, angle, composite, scaled_log, unary, unary_value
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.remade import remake
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    DistV,
    HostV,
    ModelV,
    RangeV,
    Training,
    Unknown,
    Value,
    WordV,
)
from ndl.compiler.ir.grid import SCHEMES
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Type


def _law(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    name = e.func.id if isinstance(e.func, tree.Name) else e.func.span.text.split(".")[-1]
    if args and all(isinstance(a, RangeV) for a in args):
        return WordV(name, tuple(args), options)
    return DistV("poisson_law" if name == "poisson" else name, tuple(args), e.span)


def _uniform(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`uniform(a, b)` is a law; `uniform(65)`, `uniform(64, 64, order=4)` a grid in a setting."""
    return DistV("uniform", (*args, *([WordV("options", (), options)] if options else [])), e.span)


def _word(name: str) -> Callable[..., Any]:
    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return WordV(name, tuple(args), options)

    return handler


DATA_HELP = (
    "a training reads it, `data = table(…)`; a coefficient is written in numbers, "
    "or given with the model, `M(k=…)`"
)


def _running_sum(ev: Evaluator, x: Any, span: Span) -> Any:
    v = ev.value(x, span)
    return v if isinstance(v, Unknown) else ev.op("cumsum", [v], span, axis=0)


def _root_mean_square(ev: Evaluator, x: Any, span: Span) -> Any:
    v = ev.value(x, span)
    if isinstance(v, Unknown):
        return v
    mean = ev.op("mean", [ev.elementwise("mul", [v, v], span)], span, axes=None)
    return ev.elementwise("sqrt", [mean], span)


IN_MODELS = {"cumsum": _running_sum, "rms": _root_mean_square}
"""Functions of the run that formulas have as operations."""


def _host(name: str, kind: str = "value") -> Callable[..., Any]:
    """A function of the run: the host evaluator has it, the checker knows that it exists."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        if ev.host is not None and not ev.checking:
            return ev.host.call(ev, name, args, options, e, scope)
        if name in IN_MODELS and (isinstance(args[0], Value) or not ev.checking):
            return IN_MODELS[name](ev, args[0], e.span)
        if ev.checking:
            return HostV(kind)
        if kind == "data":
            what = f"`{name}` is the data of a run, and has no value in a formula of a model"
            return ev.error("NDL577", what, e.span, help=DATA_HELP)
        if name == "interpolate":
            advice = "a path does it: `input u: R on time`, given with the model, `M(u=linear(ts, us))`"
            return ev.not_lowered("`interpolate` in a model", e.span, advice)
        return ev.not_lowered(f"`{name}` here", e.span)

    return handler


def _later(name: str) -> Callable[..., Any]:
    """A function of the language that this version checks and does not lower."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return UNKNOWN if ev.checking else ev.not_lowered(f"`{name}`", e.span)

    return handler


def _solve(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    from ndl.compiler.check.applications import solve_call

    return solve_call(ev, e, scope)


def _prev(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    found = getattr(ev.context, "previous", None)
    v = ev.eval(e.args[0].value, scope)
    k = ev.known(ev.eval(e.args[1].value, scope)) if len(e.args) > 1 else 1
    if found is not None and not ev.checking:
        return found(ev, e.args[0].value, k, e.span)
    if not ev.checking:
        return ev.not_lowered(
            "`prev` of anything but a state, or by a `k` that is no number from 1 to 99,", e.span
        )
    return v


def _root(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    start = ev.eval(e.args[1].value, scope)
    if ev.checking:
        ev.eval(e.args[0].value, scope)
        return start if isinstance(start, Value) else UNKNOWN
    return ev.worker.root(ev, ev.eval(e.args[0].value, scope), start, e.span)


def call_with_values(ev: Evaluator, func: Builtin, args: list[Any], span: Span) -> Any:
    """A builtin passed around as a value (`act = tanh`) and applied."""
    if func.name in UNARY:
        return unary_value(ev, func.name, args[0], span)
    if func.name in ("max", "min") and len(args) > 1:
        return binders.extreme(ev, func.name, args, span, [tree.Num(span, 0, "")] * len(args))
    name = tree.Name(span, func.name)
    places = tuple(tree.Arg(span, "positional", None, name) for _ in args)
    if not func.raw:
        return func.handler(ev, args, {}, tree.Call(span, name, places), Scope())
    return ev.error("NDL320", f"`{func.name}` binds names and cannot be passed as a function", span)


def make_builtins() -> Scope:
    """The scope under everything."""
    names: dict[str, Any] = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}
    names |= {"true": True, "false": False, "ito": WordV("ito"), "stratonovich": WordV("stratonovich")}

    def add(
        name: str,
        handler: Callable[..., Any],
        least: int,
        most: int | None,
        *keywords: str,
        raw: bool = False,
    ) -> None:
        names[name] = Builtin(name, handler, least, most, keywords, raw)

    for n in UNARY:
        add(n, unary(n), 1, 1)
    add("ln", composite(lambda ev, x, span: unary_value(ev, "log", x, span)), 1, 1)
    add("arg", composite(angle), 1, 1)
    add("log2", composite(scaled_log(2)), 1, 1)
    add("log10", composite(scaled_log(10)), 1, 1)
    for n in ("sum", "mean", "prod", "max", "min", "var", "std", "softmax", "argmax", "argmin", "all", "any"):
        add(n, binders.reduction, 1, None, raw=True)
    names["all_of"] = names["all"]
    add("integral", quadrature.integral, 1, 2, raw=True)
    add("expect", quadrature.expectation, 2, None, raw=True)
    add("kl", divergence, 2, 2)
    for table in (tensors.FUNCTIONS, derivatives.FUNCTIONS):
        for n, (handler, least, most, keywords) in table.items():
            add(n, handler, least, most, *keywords)
    for n, (handler, least, most) in derivatives.RAW.items():
        add(n, handler, least, most, raw=True)
    names["identity"] = Diagonal(1)
    add("prev", _prev, 1, 2, raw=True)
    add("root", _root, 2, 2, raw=True)
    for n in ("lap", "div", "curl", "dn"):
        add(n, fields.calculus(n), 1, 1)
    add("boundary", fields.boundary(tuple(fields.FACES)), 1, 1)
    for n in fields.FACES:
        add(n, fields.boundary((n,)), 1, 1)
    add("mesh", fields.make_mesh, 1, 4, raw=True)
    add("points", point_sets.make_points, 1, 4, raw=True)
    add("part", fields.named_part, 2, 2)
    add("ball", fields.ball, 2, 2)
    for n, handler in nearness.FUNCTIONS.items():
        add(n, handler, 2, 2)
    for n in ("interval", "periodic"):
        add(n, fields.make_domain, 1, 3, raw=True)
    for n in LAWS:
        add(n, _law, 0, None, "*")
    for n in INITIALISERS:
        names[n] = WordV(n)
    add("uniform", _uniform, 1, None, "*")
    for n in WORDS:
        names[n] = WordV(n)
    for n in ("nodes", "cells", "components", "characteristic", *SCHEMES):
        names[n] = WordV(n)
    for n in ("rising", "falling", "crossing"):
        add(n, _word(n), 1, 1)
    add("sample", _word("sample"), 0, 1)
    for n, (kind, least, most, keywords) in HOSTED.items():
        add(n, _host(n, kind), least, most, *keywords)
    for n in LATER:
        add(n, _later(n), 0, None, "*")
    for n, (handler, count, keywords) in convolving.FUNCTIONS.items():
        add(n, handler, count, count, *keywords)
    add("linearize", linearized.linearize, 1, 2, "grid", raw=True)
    add("eig", linearized.eig, 1, 2)
    add("remake", remake, 1, 1, "*")
    add("impose", imposed.impose, 3, 3)
    add("residual", imposed.residual, 2, None, "grid")
    add("solve", _solve, 1, 1, "*", raw=True)
    names["training"] = Training()
    names["epoch"] = UNKNOWN
    return Scope(None, names)


__all__ = ["ModelV", "call_with_values", "make_builtins"]
