"""`noise N: poisson(rate)`: the number of jumps of a Poisson process, 0 at the start, as a state that an
event at each jump raises by 1.

Between the jumps of `dx = f*dt + g*dW + h*dN` the rest of the equation goes on; at a jump x becomes x + h, h
at the values just before it. Steps end at the jumps (a jump-adapted scheme: Platen and Bruti-Liberati 2010,
chapter 6), so that any method keeps its order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.check.coloured import substituted
from ndl.compiler.check.differentials import NotLinear, occurs, summands, terms
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.model_parts import Equation, Parts
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree


def expand_jumps(ev: Evaluator, parts: Parts) -> None:
    """Turn every `poisson` noise of a model into a counting state and an event for each of its components."""
    names = frozenset({*parts.noises, *parts.inputs, "t"})
    for name, noise in list(parts.noises.items()):
        law = noise.law
        if not isinstance(law, tree.TypeName) or law.name != "poisson":
            continue
        del parts.noises[name]
        rate, size = _rate(ev, law), _size(ev, law)
        jumping = _split(ev, parts, name, names)
        if size == 0:
            continue  # an error is reported
        parts.states[name] = {
            0: tree.DeclItem(
                noise.span,
                name,
                noise.name_span,
                type=tree.TypeName(law.span, "R", law.dims),
                value=tree.Num(noise.span, 0, "0"),
            )
        }
        for k in range(1 if size is None else size):
            one = _unit(noise.span, size, k)
            event = _event(noise, rate, {name: [tree.Name(noise.span, f"d{name}")], **jumping}, one)
            parts.events.append(event)
            parts.jumps[id(event)] = name if size is None else f"{name}[{k}]"


def _rate(ev: Evaluator, law: tree.TypeName) -> tree.Expr:
    given = [a.value for a in law.args if a.kind == "positional" or a.name == "rate"]
    if len(given) != 1 or len(law.args) != 1:
        ev.error(
            "NDL322", "`poisson` takes a rate, the mean number of jumps in a unit of time", law.span,
            help="write `poisson(2.0)`",
        )  # fmt: skip
        return tree.Num(law.span, 1, "1")
    return given[0]


def _size(ev: Evaluator, law: tree.TypeName) -> int | None:
    """The number of components; None for a scalar."""
    if not law.dims:
        return None
    dim = law.dims[0]
    if len(law.dims) == 1 and isinstance(dim, tree.Num) and float(dim.value).is_integer():
        return int(dim.value)
    ev.error("NDL438", "the number of components of `poisson` is written as a number", law.span)
    return 0


def _split(ev: Evaluator, parts: Parts, name: str, names: frozenset[str]) -> dict[str, list[tree.Expr]]:
    """Take the summands with `dN` out of the equations; what each state jumps by, `dN` still in it."""
    found: dict[str, list[tree.Expr]] = {}
    for state, eq in list(parts.rates.items()):
        if eq.kind != "differential" or not occurs(eq.value, frozenset({name})):
            continue
        try:
            if eq.part is not None:
                raise NotLinear(eq.value, "it belongs to several states")
            jumps, rest = _parted(eq.value, name, names)
        except NotLinear as problem:
            ev.error(
                "NDL418",
                f"a summand of `d{state}` has no single differential: {problem.why}",
                problem.expr.span,
                help="write it as an expression times `dt`, a noise's or an input's differential",
            )
            jumps, rest = [], []
        found[state] = jumps
        parts.rates[state] = replace(eq, value=_total(rest, eq))
    return found


def _parted(e: tree.Expr, name: str, names: frozenset[str]) -> tuple[list[tree.Expr], list[tree.Expr]]:
    jumps: list[tree.Expr] = []
    rest: list[tree.Expr] = []
    for term, negative in terms(e, names):
        one = tree.Unary(term.span, "-", term) if negative else term
        if occurs(term, frozenset({name})):
            summands(term, names)  # raises where it is not linear
            jumps.append(one)
        else:
            rest.append(one)
    return jumps, rest


def _total(rest: list[tree.Expr], eq: Equation) -> tree.Expr:
    span = eq.value.span
    total: tree.Expr = (
        rest[0] if rest else tree.Binary(span, "*", tree.Num(span, 0, "0"), tree.Name(span, "dt"))
    )
    for e in rest[1:]:
        total = tree.Binary(span, "+", total, e)
    return total


def _unit(span: Span, size: int | None, k: int) -> tree.Expr:
    """What `dN` is at a jump of component k."""
    if size is None:
        return tree.Num(span, 1, "1")
    return tree.ListExpr(span, tuple(tree.Num(span, float(i == k), str(int(i == k))) for i in range(size)))


def _event(noise: tree.Noise, rate: tree.Expr, jumping: dict[str, list[tree.Expr]], one: tree.Expr) -> Any:
    span = noise.span
    trigger = tree.Call(
        rate.span, tree.Name(rate.span, "poisson"), (tree.Arg(rate.span, "positional", None, rate),)
    )
    body = []
    for state, jumps in jumping.items():
        value: tree.Expr = tree.Name(span, state)
        for e in jumps:
            jump = substituted(e, {f"d{noise.name}": one})
            value = tree.Binary(e.span, "+", value, jump)
        body.append(tree.Reset(span, tree.Name(span, state), value))
    return tree.When(span, trigger, tuple(body))
