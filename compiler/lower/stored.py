"""Weights and results of operators that are fields: along which axes they stand, how complex ones are
kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ndl.compiler.check.axes import aligned, split
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.sets import declared
from ndl.compiler.check.values import Axis, DomainV, DualV, Value, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import ParamSpec
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor

PLAIN = ("normal", "uniform", "truncated_normal")
"""Laws of each number by itself, which do not look at the shape of the weight."""


def field_axes(ev: Evaluator, item: tree.DeclItem, scope: Scope) -> tuple[Axis, ...]:
    """The axes along which a weight stands; none of one that is no field."""
    if not isinstance(item.type, tree.FieldType):
        return ()
    written = item.type.domain
    found = declared(ev, written.id, scope) if isinstance(written, tree.Name) else ev.eval(written, scope)
    if ev.fields is None or not isinstance(found, (DomainV, DualV)):
        raise fail("NDL440", f"`{item.name}` is a field, and here is no grid", item.name_span)
    if isinstance(found, DomainV):
        axes: tuple[Axis, ...] = ev.fields.space.add(ev, found, item.name_span)
        return axes
    ev.fields.space.add(ev, found.domain, item.name_span)
    if found.modes is None:
        raise fail("NDL491", "how many waves there are must be known when compiling", written.span)
    return (ev.fields.space.dual(found.domain.name, found.modes),)


def waves_along(ev: Evaluator, axes: tuple[Axis, ...]) -> tuple[int, ...]:
    """How far the wavenumbers go along the first of some axes; () if it is none of wavenumbers."""
    if ev.fields is None or not axes or axes[0] not in ev.fields.space.modes:
        return ()
    modes: tuple[int, ...] = ev.fields.space.modes[axes[0]][1]
    return modes


def stored_spec(spec: ParamSpec, plain: Tensor, item: tree.DeclItem) -> ParamSpec:
    """A weight of one point as that of all points, of a type `plain`; complex numbers are pairs."""
    pairs = plain.kind == "C"
    shape = (*plain.shape, Dim.of(2)) if pairs else plain.shape
    law = spec.law
    if law is not None and law[0] == "complex_normal":
        std = law[1][0] if law[1] else 1.0
        law = ("normal", (0.0, std / math.sqrt(2)))
    if law is not None and law[0] not in PLAIN:
        what = f"`{law[0]}` looks at the shape of a matrix, and `{item.name}` is a field or complex"
        raise fail(
            "NDL328", what, item.name_span, help="draw it from `complex_normal(1/c)` or `normal(0, s)`"
        )
    init = spec.init
    if init is not None and not (is_number(init) and init == 0):
        init = _repeated(init, plain, pairs)
    return replace(spec, type=Tensor("R", shape), init=init, law=law)


def _repeated(init: Any, plain: Tensor, pairs: bool) -> Any:
    """A start of one point, at each."""
    import torch

    x = torch.as_tensor(init, dtype=torch.complex128 if pairs else torch.float64)
    wide = x.expand(plain.extents)
    if pairs:
        wide = torch.view_as_real(wide.resolve_conj().contiguous())

    def frozen(entry: Any) -> Any:
        return tuple(map(frozen, entry)) if isinstance(entry, list) else entry

    return frozen(wide.tolist())


def formula(ev: Evaluator, function: Any, written: tree.FieldType, scope: Scope, span: Span) -> Any:
    """What a formula, `return x -> e`, is at the points of the domain of the result."""
    domain = declared(ev, written.domain.span.text, scope)
    if domain is None or not domain.coordinates:
        what = f"nothing here tells the domain `{written.domain.span.text}` of the result"
        raise fail("NDL308", what, span, help="give the net a signature, `R on P -> R on Q`")
    ev.fields.space.add(ev, domain, span)
    points = [ev.fields.coordinate(domain.name, c, span) for c in domain.coordinates]
    if len(points) > 1 and len(function.expr.pattern.names) == 1:
        points = [_listed(points)]
    return ev.apply(function, points, span)


def _listed(points: list[Any]) -> Any:
    from ndl.compiler.check.values import ListV

    return ListV(tuple(points))


def everywhere(ev: Evaluator, v: Value, written: tree.FieldType, scope: Scope) -> Value:
    """A result along all the axes of the domain on which it is declared."""
    domain = declared(ev, written.domain.span.text, scope)
    if domain is None or not domain.coordinates:
        return v
    ev.fields.space.add(ev, domain, Span())
    wide = {*v.axes, *ev.fields.space.axes_of(domain.name, v.axes)}
    axes = tuple(sorted(wide, key=lambda a: math.inf if a.place is None else a.place))
    return split(aligned(ev, v, axes, Span()), axes)
