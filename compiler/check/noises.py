"""A model's noises and the differential forms they stand in: drift and diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ndl.compiler.check.differentials import NotLinear, Summand, differential, summands
from ndl.compiler.check.evaluator import constant_of
from ndl.compiler.check.maps import Map, as_map
from ndl.compiler.check.model_parts import Equation
from ndl.compiler.check.typing import domain_name, resolve_type
from ndl.compiler.check.values import (
    UNKNOWN,
    ModelV,
    Unknown,
    Value,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import did_you_mean
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration


def noise_type(model: Elaboration, name: str) -> Tensor | None:
    """`wiener` is scalar, `wiener[m]` a vector; other laws check but are lowered later."""
    law = model.parts.noises[name].law
    if isinstance(law, tree.FieldType):
        return _field_noise(model, law)
    if not isinstance(law, tree.TypeName) or law.name not in ("wiener", "ou", "poisson", "white"):
        known = model.scope.find(law.name) if isinstance(law, tree.TypeName) else None
        if isinstance(known, ModelV):
            return None
        name_ = law.name if isinstance(law, tree.TypeName) else law.span.text
        model.ev.error(
            "NDL416",
            f"`{name_}` is not a noise",
            law.span,
            help=did_you_mean(name_, ["wiener", "ou", "poisson", "white"])
            or "noises: wiener, ou, poisson, white",
        )
        return None
    found = resolve_type(model.ev, tree.TypeName(law.span, "R", law.dims), model.scope, model.generic)
    for a in law.args:
        if law.name == "wiener" and a.name != "cov":
            model.ev.error(
                "NDL416",
                f"`wiener` takes its covariance `cov=…`, not `{a.span.text}`",
                a.span,
                help="its number of components stands in brackets: `wiener[2]`",
            )
            return None
        value = model.ev.eval(a.value, model.scope)
        if isinstance(value, Map):
            hint = f"write `{law.span.text} on Omega`"
            model.ev.error("NDL588", "a covariance map is that of a noise on a domain", a.span, help=hint)
            return None
    return found if isinstance(found, Tensor) else None


def _field_noise(model: Elaboration, law: tree.FieldType) -> Tensor | None:
    """`white on Omega`, `wiener(cov=K) on Omega`."""
    base = law.value
    name = base.name if isinstance(base, tree.TypeName) else ""
    args = base.args if isinstance(base, tree.TypeName) else ()
    where = law.domain.span.text
    if name == "wiener" and [a.name for a in args] == ["cov"] and not base.dims:  # type: ignore[attr-defined]
        value = model.ev.eval(args[0].value, model.scope)
        if as_map(value) is None and not isinstance(value, Unknown):
            what = f"the covariance of a noise on `{where}` is a linear map, not {describe(value)}"
            model.ev.error("NDL588", what, args[0].span, help="write it like `cov = 0.1*(identity - lap)^-2`")
    elif name != "white" or args:
        hint = f"write `white on {where}`, or `wiener(cov=(identity - lap)^-2) on {where}`"
        model.ev.error("NDL416", f"`{law.span.text}` is not a noise", law.span, help=hint)
    return Tensor(on=domain_name(model.ev, law.domain, model.scope))


def noise_value(model: Elaboration, name: str) -> Any:
    type_ = noise_type(model, name)
    if type_ is None:
        return UNKNOWN
    if type_.on is not None and covariance(model, name) is not None:
        return model.site.coloured(model, name, type_)
    value = model.site.noise(model.prefix + standard(model, name), type_)
    return value if covariance(model, name) is None else spread_noise(model, name, value, first=True)


def covariance(model: Elaboration, name: str) -> tree.Expr | None:
    """`S` of `wiener[m](cov=S)`, K of `wiener(cov=K) on Omega`."""
    law = model.parts.noises[name].law
    law = law.value if isinstance(law, tree.FieldType) else law
    args = law.args if isinstance(law, tree.TypeName) else ()
    return next((a.value for a in args if a.name == "cov"), None)


def standard(model: Elaboration, name: str) -> str:
    """The name of the process with independent components of variance t behind a noise."""
    return name if covariance(model, name) is None else f"standard {name}"


def spread_noise(model: Elaboration, name: str, value: Any, first: bool) -> Any:
    """L value, or value L, with L the Cholesky factor of a noise's covariance."""
    written = covariance(model, name)
    type_ = noise_type(model, name)
    if written is None or type_ is None:
        return value
    found = model.ev.eval(written, model.scope)
    S = model.ev.value(found, written.span)
    if isinstance(S, Unknown):
        return UNKNOWN
    fault = _no_covariance(constant_of(found))
    if fault:
        return model.ev.error("NDL588", f"the covariance of `{name}` {fault}", written.span)
    wanted = (*type_.shape, *type_.shape)
    if S.type.shape != wanted:
        return model.ev.error(
            "NDL305", f"the covariance of `{name}` is {S.type}, but the noise is {type_}", written.span
        )
    if not type_.rank:
        return model.ev.binary("*", model.ev.elementwise("sqrt", [S], written.span), value, written.span)
    L = model.ev.op("cholesky", [S], written.span)
    return model.ev.matmul(L, value, written.span) if first else model.ev.matmul(value, L, written.span)


def _no_covariance(numbers: Any) -> str:
    """Why numbers are the covariance of nothing that varies in every direction, or ""."""
    import numpy as np

    S = np.array([[numbers]] if isinstance(numbers, int | float) else numbers, dtype=object)
    if numbers is None or S.ndim != 2 or S.shape[0] != S.shape[1]:
        return ""
    S = S.astype(float)
    apart = np.argwhere(S != S.T)
    if len(apart):
        i, j = apart[0]
        return f"is not symmetric: {S[i, j]:g} in row {i}, column {j}, and {S[j, i]:g} in row {j}, column {i}"
    least = float(np.linalg.eigvalsh(S)[0])
    bound = len(S) * np.finfo(float).eps * float(np.abs(S).max())
    shown = 0 if least > -bound else least
    return "" if least > bound else f"is not positive definite: {shown:g} is an eigenvalue"


def differential_names(model: Elaboration) -> frozenset[str]:
    names = {*model.parts.noises, *model.parts.inputs, "t"}
    return frozenset(names)


def forms(model: Elaboration, eq: Equation) -> list[Summand]:
    """The summands of a differential form, each differential known."""
    names = differential_names(model)
    try:
        return summands(eq.value, names)
    except NotLinear as problem:
        inside = _stranger(model, problem.expr, names)
        if inside is not None:
            name, span = inside
            model.ev.error(
                "NDL417",
                f"`d{name}` is no differential: there is no noise or input `{name}`",
                span,
                help=did_you_mean(name, names) or f"declare `noise {name}: wiener`",
            )
        else:
            model.ev.error(
                "NDL418",
                f"a summand of `d{eq.name}` has no single differential: {problem.why}",
                problem.expr.span,
                help="write it as an expression times `dt`, a noise's or an input's differential",
            )
        return []


def _stranger(model: Elaboration, e: tree.Expr, names: frozenset[str]) -> tuple[str, Span] | None:
    """A `dB` of which nothing is declared."""
    found = differential(e)
    if found is not None and found[0] not in names and model.scope.find("d" + found[0]) is None:
        return found[0], e.span
    for inner in (getattr(e, "left", None), getattr(e, "right", None), getattr(e, "operand", None)):
        if isinstance(inner, tree.Expr):
            deeper = _stranger(model, inner, names)
            if deeper is not None:
                return deeper
    return None


def drift(model: Elaboration, eq: Equation) -> Any:
    """The sum of the parts with `dt` and with inputs' differentials."""
    wanted = model.state_type(eq.name, 1)
    total: Any = None
    for s in forms(model, eq):
        if s.name in model.parts.noises:
            continue
        factor = 1 if s.factor is None else model.ev.eval(s.factor, model.scope)
        if s.name != "t":
            factor = _driven(model, s, factor, eq)
        total = factor if total is None else model.ev.binary("+", total, factor, eq.value.span)
    return model.fit(0 if total is None else total, eq, wanted)


def _driven(model: Elaboration, s: Summand, factor: Any, eq: Equation) -> Any:
    """`factor * dX` as `factor * X'`."""
    type_, on_time = model.input_type(s.name)
    if type_ is None:
        return UNKNOWN
    if not on_time:
        return model.ev.error(
            "NDL419",
            f"`{s.name}` is constant in time, so `d{s.name}` is zero",
            eq.value.span,
            help=f"declare `input {s.name}: {type_} on time`",
        )
    given = model.replaced(s.name)
    rate = model._given_rate(s.name) if given else model.site.input_rate(model.prefix + s.name, type_)
    for at in s.at:
        index = model.ev.known(model.ev.eval(at, model.scope))
        if is_number(index) and isinstance(rate, Value):
            extent = rate.type.shape[0].constant if rate.type.rank else 0
            if extent is not None and not -extent <= index < extent:
                return model.ev.error("NDL332", f"the index {index} is outside {rate.type}", at.span)
            rate = model.ev.op("index", [rate], at.span, axis=0, at=int(index) % (extent or 1))
    if s.matrix:
        return model.ev.matmul(factor, rate, eq.value.span)
    return model.ev.binary("*", factor, rate, eq.value.span)


def noise_parts(model: Elaboration, eq: Equation) -> list[tuple[str, Summand, Any]]:
    """(noise, summand, coefficient) for each noise's part of a differential form."""
    found = []
    if eq.kind != "differential":
        return []
    for s in forms(model, eq):
        if s.name in model.parts.noises:
            factor = 1 if s.factor is None else model.ev.eval(s.factor, model.scope)
            found.append((s.name, s, _noise_factor(model, eq, s, factor)))
    return found


def _noise_factor(model: Elaboration, eq: Equation, s: Summand, factor: Any) -> Any:
    """Check a noise's coefficient against the state's and the noise's shapes."""
    state, noise = model.state_type(eq.name), noise_type(model, s.name)
    value = model.ev.value(factor, eq.value.span)
    if state is None or noise is None or isinstance(value, Unknown):
        return value
    span = s.factor.span if s.factor is not None else eq.value.span
    if s.matrix:
        ok = value.type.rank == state.rank + noise.rank and value.type.shape == (
            *state.shape,
            *noise.shape,
        )
        if not ok and all(d.constant is not None for d in value.type.shape):
            return model.ev.error(
                "NDL301",
                f"`{span.text} @ d{s.name}` is {value.type} times {noise}, but `{eq.name}` is {state}",
                span,
            )
        return value
    for at in s.at:
        index, extent = model.ev.known(model.ev.eval(at, model.scope)), noise.extents[0] if noise.rank else 0
        if is_number(index) and not -extent <= index < extent:
            return model.ev.error("NDL332", f"the index {index} is outside `{s.name}`: {noise}", at.span)
    noise_shape = () if s.at else noise.shape
    if noise_shape and noise_shape != state.shape:
        return model.ev.error(
            "NDL301",
            f"`*` pairs components, but `{eq.name}` is {state} and `{s.name}` is {noise}",
            span,
            help=f"write `G @ d{s.name}`, or declare `noise {s.name}: wiener{_dims(state)}`",
        )
    if value.type.rank and value.type.shape != state.shape:
        return model.ev.error(
            "NDL301", f"the coefficient of `d{s.name}` is {value.type}, but `{eq.name}` is {state}", span
        )
    return value


def _dims(t: Tensor) -> str:
    return f"[{', '.join(map(str, t.shape))}]" if t.shape else ""
