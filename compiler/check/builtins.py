"""The functions and words of the language itself: what every file sees without importing it."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

from ndl.compiler.check import binders, convolving, fields, quadrature
from ndl.compiler.check.divergence import divergence
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.linear import Diagonal
from ndl.compiler.check.maps import Map, as_map, norm_by
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Builtin,
    DistV,
    HostV,
    ListV,
    ModelV,
    RangeV,
    Training,
    TupleV,
    Unknown,
    Value,
    WordV,
    is_number,
)
from ndl.compiler.ir.grid import SCHEMES
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, Dim, Tensor, Type

Known = Callable[[Any], Any]


def _real(
    name: str, real: Callable[[float], float], other: Callable[[complex], complex] | None = None
) -> Known:
    def fold(x: Any) -> Any:
        return other(x) if isinstance(x, complex) and other is not None else real(x)

    fold.__name__ = name
    return fold


FOLDED: dict[str, Known] = {
    "exp": _real("exp", math.exp, cmath.exp),
    "log": _real("log", math.log, cmath.log),
    "sqrt": _real("sqrt", math.sqrt, cmath.sqrt),
    "sin": _real("sin", math.sin, cmath.sin),
    "cos": _real("cos", math.cos, cmath.cos),
    "tan": _real("tan", math.tan, cmath.tan),
    "asin": _real("asin", math.asin),
    "acos": _real("acos", math.acos),
    "atan": _real("atan", math.atan),
    "sinh": _real("sinh", math.sinh),
    "cosh": _real("cosh", math.cosh),
    "tanh": _real("tanh", math.tanh),
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "sign": lambda x: (x > 0) - (x < 0),
    "erf": math.erf,
    "log1p": math.log1p,
    "expm1": math.expm1,
    "lgamma": math.lgamma,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0,
    "relu": lambda x: max(x, 0),
}
UNARY = (
    *FOLDED,
    *("gelu", "silu", "softplus", "elu", "isfinite", "stop_gradient", "conj", "real", "imag"),
)


def unary(name: str) -> Callable[..., Any]:
    """The handler of an elementwise function of one value."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return unary_value(ev, name, args[0], e.span, e.args[0].value)

    return handler


def unary_value(ev: Evaluator, name: str, x: Any, span: Span, expr: tree.Expr | None = None) -> Any:
    if isinstance(x, (Unknown, HostV)):
        return UNKNOWN
    if is_number(x) and name in FOLDED:
        try:
            return FOLDED[name](x)
        except (ValueError, OverflowError, TypeError):
            return (
                math.inf
                if name in ("exp", "sinh", "cosh")
                else ev.error("NDL343", f"`{name}` is not defined at {x}", span)
            )
    if is_number(x) and name == "stop_gradient":
        return x
    if name == "exp" and (inner := as_map(x)) is not None:
        return Map("exp", inner)
    return ev.elementwise(name, [x], span, [expr] if expr is not None else [])


def composite(make: Callable[[Evaluator, Any, Span], Any]) -> Callable[..., Any]:
    """A function of one value made of others."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        return UNKNOWN if isinstance(args[0], (Unknown, HostV)) else make(ev, args[0], e.span)

    return handler


def _scaled_log(base: float) -> Callable[[Evaluator, Any, Span], Any]:
    def make(ev: Evaluator, x: Any, span: Span) -> Any:
        if is_number(x) and x > 0:
            return math.log2(x) if base == 2 else math.log10(x)
        return ev.binary("/", unary_value(ev, "log", x, span), math.log(base), span)

    return make


def _norm(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if len(args) == 2:
        v = ev.value(args[0], e.span)
        if isinstance(v, Unknown) or isinstance(args[1], Unknown):
            return UNKNOWN
        return norm_by(ev, v, args[1], e.span)
    if isinstance(args[0], (Unknown, HostV)):
        return UNKNOWN
    if is_number(args[0]):
        return abs(args[0])
    own = getattr(args[0], "norm", None)
    if own is not None:
        return own(ev, e.span)
    v = ev.value(args[0], e.args[0].value.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    square = ev.op("mul", [v, v], e.span)
    if isinstance(square, Unknown):
        return UNKNOWN
    total = binders.reduce_components(ev, "sum", square, e.span)
    return ev.elementwise("sqrt", [total], e.span)


def _dot(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if any(isinstance(a, (Unknown, HostV)) for a in args):
        return UNKNOWN
    product = ev.binary("*", args[0], args[1], e.span, [a.value for a in e.args])
    v = ev.value(product, e.span)
    return UNKNOWN if isinstance(v, Unknown) else binders.reduce_components(ev, "sum", v, e.span)


def _outer(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    a, b = (ev.value(x, e.span) for x in args)
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return UNKNOWN
    if a.type.rank != 1 or b.type.rank != 1:
        return ev.error("NDL344", f"`outer` wants two vectors, not {a.type} and {b.type}", e.span)
    return ev.op("einsum", [a, b], e.span, equation="a,b->ab")


def _linalg(op: str) -> Callable[..., Any]:
    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        v = ev.value(args[0], e.span)
        return UNKNOWN if isinstance(v, Unknown) else ev.op(op, [v], e.span, [e.args[0].value])

    return handler


def _trace(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = ev.value(args[0], e.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    return ev.op("einsum", [v], e.span, [e.args[0].value], equation="aa->")


def _concat(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    values = [ev.value(a, e.span) for a in args]
    good = [v for v in values if isinstance(v, Value)]
    if len(good) < len(values):
        return UNKNOWN
    good = [ev.op("reshape", [v], e.span, shape=(1,)) if v.type.rank == 0 else v for v in good]  # type: ignore[misc]
    return ev.op("concat", good, e.span, [a.value for a in e.args], axis=int(options.get("axis", 0)))


def _reshape(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = ev.value(args[0], e.span)
    given = args[1].items if len(args) == 2 and isinstance(args[1], ListV) else args[1:]
    shape = [ev.known(a) for a in given]
    if isinstance(v, Unknown) or any(isinstance(a, Unknown) for a in given):
        return UNKNOWN
    if any(not isinstance(s, int) for s in shape):
        if ev.checking:  # a generic dimension, not yet a number
            return UNKNOWN
        wanted = "whole numbers known when compiling: `reshape(v, 8, 4)`"
        return ev.error("NDL345", f"the extents of `reshape` are {wanted}", e.span)
    return ev.op("reshape", [v], e.span, shape=tuple(shape))


def _linspace(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    a, b, n = (ev.known(x) for x in args)
    if not all(is_number(x) for x in (a, b)) or not isinstance(n, int):
        return UNKNOWN
    if not 2 <= n <= 10_000_000:
        return ev.error("NDL345", f"`linspace` needs at least 2 points, not {n}", e.span)
    if ev.checking:
        return Value(Tensor("R", (Dim.of(n),)))
    step = (b - a) / (n - 1)
    return ev.builder.const(
        (*(a + step * k for k in range(n - 1)), float(b)), Tensor("R", (Dim.of(n),)), e.span
    )


def _identity(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    n = ev.known(args[0])
    if not isinstance(n, int):
        return UNKNOWN
    rows = tuple(tuple(float(i == j) for j in range(n)) for i in range(n))
    return ev.builder.const(rows, Tensor("R", (Dim.of(n), Dim.of(n))), e.span)


def _filled(value: float) -> Callable[..., Any]:
    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        shape = [ev.known(a) for a in args]
        if any(not isinstance(n, int) for n in shape):
            return UNKNOWN
        start = ev.builder.const(value, Tensor(), e.span)
        return ev.spread(start, tuple(Dim.of(n) for n in shape), e.span) if shape else start

    return handler


def _len(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    v = args[0]
    if isinstance(v, (ListV, TupleV)):
        return len(v.items)
    if isinstance(v, Value) and v.type.rank:
        found = v.type.shape[0]
        return Value(INTEGER, found) if found.constant is None else found.constant
    return UNKNOWN


def _shape(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`shape(x)`: the extents, whole numbers that are known when compiling."""
    if isinstance(args[0], (Unknown, HostV)):
        return UNKNOWN
    v = ev.value(args[0], e.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    return ListV(tuple(Value(INTEGER, d) if d.constant is None else d.constant for d in v.type.shape))


def _append(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if isinstance(args[0], (ListV, TupleV)):
        return ListV((*args[0].items, args[1]))
    return UNKNOWN


def _spread(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`spread(v, n, m)`: `v` repeated along new last axes; the extents follow from the use when left out."""
    v = ev.value(args[0], e.span)
    shape = [ev.known(a) for a in args[1:]]
    if isinstance(v, Unknown) or not shape or any(not isinstance(n, int) for n in shape):
        return UNKNOWN if ev.checking else ev.not_lowered("`spread` without extents", e.span)
    full = (*(d.constant if d.constant is not None else d for d in v.type.shape), *shape)
    return ev.op("expand", [v], e.span, shape=full, axes=tuple(range(v.type.rank)))


def _atan2(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if all(is_number(a) for a in args):
        return math.atan2(*args)
    return ev.elementwise("atan2", args, e.span, [a.value for a in e.args])


def _mod(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    if all(is_number(a) for a in args) and args[1]:
        return args[0] % args[1]
    return ev.elementwise("mod", args, e.span, [a.value for a in e.args])


def _smooth(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`smooth(e)`: its discontinuities are not located."""
    mark = getattr(ev.builder, "smooth", None)
    return mark(args[0]) if mark is not None else args[0]


# ---------------------------------------------------------------- derivatives


def _diff(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`diff(e, x, y, …)`: partial derivatives, one after the other."""
    return _derive(ev, e, scope, "diff")


def _jac(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`jac(e, x)`: the axes of e, then those of x."""
    return _derive(ev, e, scope, "jac")


def _grad(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`grad(u)` of a field; `grad(e, x)` by a vector; `grad(e, model.params)`."""
    if len(e.args) == 1:
        return fields.gradient(ev, ev.eval(e.args[0].value, scope), e, scope)
    return _derive(ev, e, scope, "grad")


def _series(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`series(f, x, t, p)` in a step: coefficients 0, …, p of the solution of x' = f(x, t) through x at t."""
    f, x, t, order = args
    if not isinstance(order, int) or order < 1:
        if isinstance(order, Unknown):
            return UNKNOWN
        return ev.error("NDL313", "the order of a series must be a whole number known when compiling", e.span)
    make = getattr(f, "series", None)
    if make is None:
        what = "`series` is of the right-hand side that a step is given"
        return ev.error("NDL351", what, e.args[0].span, help="write `series(f, x, t, order)`")
    return make(ev, x, t, order, e.span)


def _phi(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`phi(f, k, h, v)` in a step: phi_k(h L) v for the linear part L of f; phi_0 is the exponential."""
    f, order, h, v = args
    if isinstance(order, Unknown):
        return UNKNOWN
    if not isinstance(order, int) or order < 0:
        what = "the number of a phi function must be a whole number known when compiling"
        return ev.error("NDL313", what, e.args[1].span)
    make = getattr(f, "phi", None)
    return _no_linear_part(ev, e) if make is None else make(ev, order, h, v, e.span)


def _linear_part(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
    """`linear_part(f, v)` in a step: L v for the linear part L of f that is known as a formula."""
    make = getattr(args[0], "linear_part", None)
    return _no_linear_part(ev, e) if make is None else make(ev, args[1], e.span)


def _no_linear_part(ev: Evaluator, e: tree.Call) -> Any:
    what = f"`{e.func.span.text}` is of the right-hand side that a step is given"
    return ev.error("NDL351", what, e.args[0].span, help="its first argument is the step's `f`")


def _derive(ev: Evaluator, e: tree.Call, scope: Scope, kind: str) -> Any:
    by = [a.value for a in e.args[1:]]
    if ev.checking:
        v = ev.eval(e.args[0].value, scope)
        found = [ev.eval(b, scope) for b in by]
        if not isinstance(v, Value):
            v = ev.value(v, e.span) if is_number(v) else UNKNOWN
        shape: tuple[Dim, ...] = v.type.shape if isinstance(v, Value) else ()
        for x in found:
            if is_number(x):
                continue
            if not isinstance(x, Value) or not isinstance(v, Value):
                return UNKNOWN
            if kind == "grad" and v.type.rank:
                return ev.error("NDL346", f"`grad` is of a scalar, not of {v.type}", e.span, help="use `jac`")
            shape = (*shape, *x.type.shape) if kind != "diff" or not v.type.rank else shape
        return Value(Tensor("R", shape)) if isinstance(v, Value) else UNKNOWN
    return ev.builder.derive(ev, e.args[0].value, by, scope, kind, e.span)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- laws, words, the host


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


def _host(name: str, kind: str = "value") -> Callable[..., Any]:
    """A function of the run: the host evaluator has it, the checker knows that it exists."""

    def handler(ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope) -> Any:
        if ev.host is not None and not ev.checking:
            return ev.host.call(ev, name, args, options, e, scope)
        return HostV(kind) if ev.checking else ev.not_lowered(f"`{name}` here", e.span)

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
    return ev.builder.root(ev, ev.eval(e.args[0].value, scope), start, e.span)  # type: ignore[attr-defined]


LAWS = [
    "normal",
    "lognormal",
    "loguniform",
    "bernoulli",
    "choice",
    "exponential",
    "gamma",
    "beta",
    "poisson",
    "poisson_law",
    "categorical",
    "complex_normal",
    "truncated_normal",
    "within",
    "sphere",
    "green",
    "ritz",
    "student",
    "laplace",
    "dirichlet",
]
INITIALISERS = [
    "glorot",
    "glorot_normal",
    "he",
    "he_uniform",
    "lecun",
    "lecun_uniform",
    "fan_uniform",
    "orthogonal",
]
WORDS = [
    "same",
    "reflect",
    "replicate",
    "steps",
    "end",
    "discrete",
    "adjoint",
    "reversible",
    "none",
    "cpu",
    "cuda",
    "auto",
    "float32",
    "float64",
    "bfloat16",
    "exact",
    "fresh",
    "torch",
    "triton",
    "numpy",
    "checkpoint",
    "trapezoid",
    "gauss",
    "simpson",
    "fourier",
    "chebyshev",
    "fem",
    "lumped",
    "consistent",
    "fem",
    "lumped",
    "consistent",
    "pareto",
    "fit",
    "phase_portrait",
    "loss_curve",
    "histogram",
    "animation",
    "spectrum",
    "rising",
    "falling",
    "crossing",
    "every_",
    "sample",
    "adam",
    "adamw",
    "sgd",
    "rmsprop",
    "adagrad",
    "lbfgs",
    "rprop",
    "nadam",
    "radam",
    "adamax",
    "adadelta",
    "asgd",
    "evolution",
    "cosine",
    "exponential_decay",
    "step_decay",
    "warmup",
    "one_cycle",
    "plateau",
    "constant",
    "linear_decay",
    "ema",
    "swa",
    "tensorboard",
    "pod",
    "deim",
    "qdeim",
    "gappy",
    "mean_zeros",
    "mean_size",
    "expression",
    "score",
    "loss",
    "add",
    "sub",
    "mul",
    "neg",
    "square",
    "mup",
    "wide",
    "imex",
    "deep_ritz",
    "gaunt",
    "O3",
    "SO3",
]
HOSTED = {
    "train": "training result",
    "path": "path",
    "spline": "path",
    "linear": "path",
    "hermite": "path",
    "rectilinear": "path",
    "log_signature": "path",
    "table": "data",
    "store": "data",
    "sort": "value",
    "cumsum": "value",
    "interpolate": "value",
    "isnan": "value",
    "nll": "value",
    "cross_entropy": "value",
    "accuracy": "value",
    "smooth_l1": "value",
    "rel_l2": "value",
    "print": "value",
    "size": "value",
    "rms": "value",
    "quantile": "value",
    "median": "value",
    "cov": "value",
    "reduce": "model",
    "truncate": "model",
    "prune": "model",
}
LATER = [
    "residual",
    "linearize",
    "substitute",
    "lift",
    "ntk",
    "nngp",
    "limit",
    "parametrize",
    "remake",
    "tokens",
    "weak_form",
    "facts",
    "edit",
    "interacts",
    "equivariant",
    "impose",
    "fft",
    "ifft",
    "resample",
    "values",
    "field",
    "points",
    "distance",
    "closest",
    "tensor_product",
    "harmonics",
    "mnist",
    "hermite_polynomial",
    "eig",
    "tag",
    "cp",
    "tucker",
    "tt",
    "white_noise",
    "epoch_mean",
]


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
    add("log2", composite(_scaled_log(2)), 1, 1)
    add("log10", composite(_scaled_log(10)), 1, 1)
    for n in ("sum", "mean", "prod", "max", "min", "var", "std", "softmax", "argmax", "argmin", "all", "any"):
        add(n, binders.reduction, 1, None, raw=True)
    names["all_of"] = names["all"]
    add("integral", quadrature.integral, 1, 2, raw=True)
    add("expect", quadrature.expectation, 2, None, raw=True)
    add("kl", divergence, 2, 2)
    add("norm", _norm, 1, 2)
    add("dot", _dot, 2, 2)
    add("outer", _outer, 2, 2)
    for n, op in {
        "inv": "inv",
        "det": "det",
        "expm": "expm",
        "cholesky": "cholesky",
        "logdet": "logdet",
    }.items():
        add(n, _linalg(op), 1, 1)
    for n in ("batch_mean", "batch_var", "batch_sum", "batch_size"):
        add(n, _linalg(n), 1, 1)
    add("trace", _trace, 1, 1)
    add("concat", _concat, 1, None, "axis")
    add("reshape", _reshape, 2, None)
    add("linspace", _linspace, 3, 3)
    add("eye", _identity, 1, 1)
    names["identity"] = Diagonal(1)
    add("zeros", _filled(0.0), 0, None)
    add("ones", _filled(1.0), 0, None)
    add("len", _len, 1, 1)
    add("shape", _shape, 1, 1)
    add("append", _append, 2, 2)
    add("spread", _spread, 1, None)
    add("atan2", _atan2, 2, 2)
    add("mod", _mod, 2, 2)
    add("smooth", _smooth, 1, 1)
    add("diff", _diff, 2, None, raw=True)
    add("jac", _jac, 2, 2, raw=True)
    add("grad", _grad, 1, 2, raw=True)
    add("series", _series, 4, 4)
    add("phi", _phi, 4, 4)
    add("linear_part", _linear_part, 2, 2)
    add("prev", _prev, 1, 2, raw=True)
    add("root", _root, 2, 2, raw=True)
    for n in ("lap", "div", "curl", "dn"):
        add(n, fields.calculus(n), 1, 1)
    add("boundary", fields.boundary(tuple(fields.FACES)), 1, 1)
    for n in fields.FACES:
        add(n, fields.boundary((n,)), 1, 1)
    add("mesh", fields.make_mesh, 1, 4, raw=True)
    add("part", fields.named_part, 2, 2)
    add("ball", fields.ball, 2, 2)
    for n in ("interval", "periodic"):
        add(n, fields.make_domain, 1, 3, raw=True)
    for n in LAWS:
        add(n, _law, 0, None, "*")
    for n in INITIALISERS:
        names[n] = WordV(n)
    add("uniform", _uniform, 1, None, "*")
    for n in WORDS:
        names[n] = WordV(n)
    for n in ("nodes", "cells", *SCHEMES):
        names[n] = WordV(n)
    for n in ("rising", "falling", "crossing"):
        add(n, _word(n), 1, 1)
    add("sample", _word("sample"), 0, 1)
    for n, kind in HOSTED.items():
        add(n, _host(n, kind), 0, None, "*")
    for n in LATER:
        add(n, _later(n), 0, None, "*")
    for n, (handler, count, keywords) in convolving.FUNCTIONS.items():
        add(n, handler, count, count, *keywords)
    add("solve", _solve, 1, 1, "*", raw=True)
    names["training"] = Training()
    names["epoch"] = UNKNOWN
    return Scope(None, names)


__all__ = ["ModelV", "call_with_values", "make_builtins"]
