"""`noise U: ou(theta, sigma)`: a state with a noise of its own, dU = -theta*U*dt + sigma*dW, started from its
stationary law N(0, sigma^2/(2 theta)). Where `dU` stands in an equation, its right side takes its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.model_parts import Equation, Parts
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree

DRIVER = " driver"


def expand_coloured(ev: Evaluator, parts: Parts) -> None:
    """Turn every `ou` noise of a model into a state, its equation and a Wiener noise."""
    rates: dict[str, tree.Expr] = {}
    for name, noise in list(parts.noises.items()):
        if isinstance(noise.law, tree.TypeName) and noise.law.name == "ou":
            found = _arguments(ev, noise.law)
            del parts.noises[name]
            if found is not None:
                rates[f"d{name}"] = _expand(parts, noise, *found)
    if rates:
        for name, eq in parts.rates.items():
            if eq.kind == "differential" and f"d{name}" not in rates:
                parts.rates[name] = replace(eq, value=substituted(eq.value, rates))


def _arguments(ev: Evaluator, law: tree.TypeName) -> tuple[tree.Expr, tree.Expr] | None:
    """theta and sigma, in order or by name."""
    named = {a.name: a.value for a in law.args if a.kind == "keyword"}
    rest = [a.value for a in law.args if a.kind == "positional"]
    for name in ("theta", "sigma"):
        if name not in named and rest:
            named[name] = rest.pop(0)
    if set(named) != {"theta", "sigma"} or rest:
        ev.error("NDL322", "`ou` takes a rate and a strength", law.span, help="write `ou(theta, sigma)`")
        return None
    return named["theta"], named["sigma"]


def _expand(parts: Parts, noise: tree.Noise, theta: tree.Expr, sigma: tree.Expr) -> tree.Expr:
    """Enter the state, its start and its equation; the right side of dU."""
    span, law, name = noise.span, noise.law, noise.name
    assert isinstance(law, tree.TypeName)
    two = tree.Num(span, 2, "2")
    root = tree.Call(
        span, tree.Name(span, "sqrt"), (tree.Arg(span, "positional", None, _times(span, two, theta)),)
    )
    spread = tree.Binary(span, "/", sigma, root)
    zero = tree.Num(span, 0, "0")
    start = tuple(tree.Arg(span, "positional", None, e) for e in (zero, spread))
    type_ = tree.TypeName(law.span, "R", law.dims)
    parts.states[name] = {
        0: tree.DeclItem(
            span,
            name,
            noise.name_span,
            type=type_,
            law=tree.Call(span, tree.Name(span, "normal"), start),
        )
    }
    driver = name + DRIVER
    parts.noises[driver] = tree.Noise(
        span, driver, noise.name_span, tree.TypeName(law.span, "wiener", law.dims)
    )
    drift = _times(
        span, _times(span, tree.Unary(span, "-", theta), tree.Name(span, name)), tree.Name(span, "dt")
    )
    value = tree.Binary(span, "+", drift, _times(span, sigma, tree.Name(span, "d" + driver)))
    parts.rates[name] = Equation("differential", name, 1, value, span)
    return value


def _times(span: Span, a: tree.Expr, b: tree.Expr) -> tree.Expr:
    return tree.Binary(span, "*", a, b)


def substituted(e: Any, values: dict[str, tree.Expr]) -> Any:
    """An expression with names replaced."""
    return replaced(e, lambda n: values.get(n.id) if isinstance(n, tree.Name) and not n.primes else None)


def replaced(e: Any, new: Callable[[Any], Any]) -> Any:
    """A tree with those nodes replaced for which `new` gives another; what has none stays the same node."""
    found = new(e)
    if found is not None:
        return found
    if isinstance(e, tuple):
        items = tuple(replaced(i, new) for i in e)
        return e if all(a is b for a, b in zip(e, items)) else items
    if isinstance(e, tree.Node) and is_dataclass(e):
        old = {f.name: getattr(e, f.name) for f in fields(e) if f.name != "span"}
        changed = {n: r for n, v in old.items() if (r := replaced(v, new)) is not v}
        return replace(e, **changed) if changed else e
    return e
