"""The source that makes a chosen field the minimiser of an energy, by its Euler–Lagrange equation.

With L the density, p = dL/du and q_a = dL/d(du/dx_a), a minimiser of the integral of L - s u obeys
p - sum_a dq_a/dx_a = s; where an end has no condition it obeys q_a = 0, which the chosen field must too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp
from ndl.compiler.check.binders import clause_of
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import DomainV, Unknown
from ndl.compiler.manufactured.exact import coordinate
from ndl.compiler.manufactured.fields import PointBuilder, PointFields, refused
from ndl.compiler.manufactured.site import PointSite
from ndl.compiler.symbolic.bridge import Cells
from ndl.compiler.symbolic.text import expr_text
from ndl.compiler.syntax import tree

if TYPE_CHECKING:
    from ndl.compiler.manufactured.forced import Maker


def stationary(maker: Maker, stmt: tree.Optimize) -> list[str]:
    """The Euler–Lagrange equation of each state, p = sum_a dq_a/dx_a, and the weak form, in LaTeX."""
    call = stmt.value
    if not isinstance(call, tree.Call) or call.func.span.text != "integral" or len(call.args) != 2:
        raise refused("its energy is not `integral(…, x in Omega)`", stmt.value.span)
    unknown = _unknown(maker)
    density, domain = _density(maker, call, unknown)
    points = [coordinate(c) for c in domain.coordinates]
    plain = {cells[p]: _symbol(n, p) for n, cells in unknown.items() for p in np.ndindex(cells.shape)}
    found = []
    for cells in unknown.values():
        for place in np.ndindex(cells.shape):
            u = cells[place]
            p, q = sp.diff(density, u), [sp.diff(density, sp.Derivative(u, x)) for x in points]
            shown = [_latex(e, plain, points) for e in (p, *q)]
            flow = [rf"\partial_{{{x}}}\left({e}\right)" for x, e in zip(points, shown[1:]) if e != "0"]
            found.append(f"{shown[0]} &= {' + '.join(flow) or 0}")
            test = rf"\delta {_latex(u, plain, points)}"
            terms = [
                rf"\left({e}\right) \partial_{{{x}}} {test}" for x, e in zip(points, shown[1:]) if e != "0"
            ]
            terms += [rf"\left({shown[0]}\right) {test}"] if shown[0] != "0" else []
            whole = " + ".join(terms) or "0"
            found.append(rf"0 &= \int_{{\mathrm{{{domain.name}}}}} \left({whole}\right)")
    return found


def _symbol(name: str, place: tuple[int, ...]) -> Any:
    return sp.Symbol("_".join([name, *map(str, place)]), real=True)


def _latex(e: Any, plain: Mapping[Any, Any], points: list[Any]) -> str:
    """An expression with functions of the coordinates as bare letters, and derivatives as `u_{x}`."""
    slopes = {sp.Derivative(f, x): sp.Symbol(f"{s}_{{{x}}}") for f, s in plain.items() for x in points}
    found: str = sp.latex(e.subs(slopes).subs(plain))
    return found


def forced_energy(maker: Maker, stmt: tree.Optimize) -> tree.Optimize:
    """`minimize integral(L, x in S)` as `minimize integral(L - s*u, x in S)`."""
    call = stmt.value
    if not isinstance(call, tree.Call) or call.func.span.text != "integral" or len(call.args) != 2:
        raise refused("its energy is not `integral(…, x in Omega)`", stmt.value.span)
    unknown = _unknown(maker)
    density, domain = _density(maker, call, unknown)
    parts = []
    for name, cells in unknown.items():
        for place in np.ndindex(cells.shape):
            residual = _variation(maker, density, name, place, unknown, domain)
            at = f"[{', '.join(map(str, place))}]" if place else ""
            parts.append(f"({expr_text(-residual)})*{name}{at}")
    from ndl.compiler.manufactured.forced import expression

    first = call.args[0]
    total = tree.Binary(first.span, "+", first.value, expression(" + ".join(parts)))
    return replace(stmt, value=replace(call, args=(replace(first, value=total), call.args[1])))


def _unknown(maker: Maker) -> dict[str, Cells]:
    """Every state as functions of the coordinates that are not known."""
    found = {}
    for name, solution in maker.solutions.items():
        domain = maker.domains[name]
        points = [coordinate(c) for c in domain.coordinates] if domain is not None else []
        cells = np.empty(solution.shape, dtype=object)
        for place in np.ndindex(cells.shape):
            cells[place] = sp.Function("_".join([name, *map(str, place)]), real=True)(*points)
        found[name] = cells
    return found


def _density(maker: Maker, call: tree.Call, unknown: Mapping[str, Cells]) -> tuple[Any, DomainV]:
    builder = PointBuilder()
    ev = Evaluator(builder, maker.ev.sink, strict=True)
    el = maker.elaboration(ev, PointSite(builder, unknown))
    ev.context = el
    ev.fields = fields = PointFields(ev, builder, maker.fields.domains, maker.ends)
    clause = clause_of(ev, call.args[1], el.scope)
    domain = None if clause is None or clause.set is None else ev.eval(clause.set, el.scope)
    if clause is None or not isinstance(domain, DomainV):
        raise refused("its energy is not over a domain", call.args[1].span)
    scope = el.scope.child(fields.points(domain, clause.pattern.names, clause.span))
    value = ev.value(ev.eval(call.args[0].value, scope), call.span)
    if isinstance(value, Unknown) or value.type.rank:
        raise refused("the density of its energy is no number", call.args[0].span)
    return builder.cells(value, call.span)[()], domain


def _variation(
    maker: Maker,
    density: Any,
    name: str,
    place: tuple[int, ...],
    unknown: Mapping[str, Cells],
    domain: DomainV,
) -> Any:
    """p - sum_a dq_a/dx_a for the chosen solution."""
    u = unknown[name][place]
    total = _known(maker, sp.diff(density, u), unknown)
    for k, c in enumerate(domain.coordinates):
        flux = _known(maker, sp.diff(density, sp.Derivative(u, coordinate(c))), unknown)
        total -= sp.diff(flux, coordinate(c))
        if not domain.periodic[k]:
            _check_natural(maker, name, flux, k, c)
    return total


def _known(maker: Maker, e: Any, unknown: Mapping[str, Cells]) -> Any:
    """An expression of functions, at the chosen solution."""
    values = {
        cells[p]: maker.solutions[n][p] for n, cells in unknown.items() for p in np.ndindex(cells.shape)
    }
    return e.subs(values).doit()


def _check_natural(maker: Maker, name: str, flux: Any, k: int, c: str) -> None:
    """q_a = 0 where no condition stands."""
    for side, end in zip(("low", "high"), maker.ends[c]):
        if any((x.field, x.axis, x.side) == (name, k, side) for x in maker.conditions):
            continue
        if sp.simplify(flux.subs(coordinate(c), end)) != 0:
            what = f"`{name}` has a natural condition that the chosen solution does not obey"
            raise refused(what, maker.model.decl.name_span, "write the condition at each end")
