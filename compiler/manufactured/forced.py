"""A model with what makes a chosen field its solution: sources in its equations and data in its conditions.

The residual of each equation and condition for the chosen solution is worked out by sympy from the model's
own formulas and added to it; everything else of the model is left as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.boundaries import Condition, conditions_of, side_name
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.model_parts import Equation, Parts
from ndl.compiler.check.models import CheckSite, Elaboration
from ndl.compiler.check.parts import arguments_of, written_parts
from ndl.compiler.check.values import DomainV, ModelV, RangeV, Unknown
from ndl.compiler.diagnostics import Sink
from ndl.compiler.manufactured.exact import TIME, Range, chosen, coordinate, number
from ndl.compiler.manufactured.fields import PointBuilder, PointFields, mapped, refused
from ndl.compiler.manufactured.site import PointSite
from ndl.compiler.source import Source, Span
from ndl.compiler.symbolic.bridge import Cells
from ndl.compiler.symbolic.tensors import boxed
from ndl.compiler.symbolic.text import expr_text
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import parse_expression
from ndl.compiler.types import Tensor


@dataclass(frozen=True)
class Forced:
    """A model whose solution is known: `solutions` of its states, arrays of expressions in the coordinates
    of their `domains` (None for a number) and `t`."""

    model: ModelV
    solutions: Mapping[str, Cells]
    domains: Mapping[str, DomainV | None]
    steady: bool


def manufactured(model: ModelV, sink: Sink) -> Forced:
    """The forced problem of a model. Raises `NDLError` (NDL449) where it has none."""
    return Maker(model, sink).forced()


def euler_lagrange(model: ModelV, sink: Sink) -> list[str]:
    """The Euler–Lagrange equations of an energy and their weak forms, as lines of LaTeX; none for a model
    without an energy. Raises `NDLError` (NDL449) where they cannot be worked out."""
    energies = [s for s in model.decl.body if isinstance(s, tree.Optimize)]
    if not energies:
        return []
    from ndl.compiler.manufactured.energies import stationary

    return stationary(Maker(model, sink), energies[0])


class Maker:
    """Works out the forced problem of one model."""

    def __init__(self, model: ModelV, sink: Sink) -> None:
        self.model = replace(model, grid=None)
        check = Evaluator(TypeBuilder(), sink)
        self.parts: Parts = parts_of(check, model.decl)
        self.options, _ = arguments_of(check, model)
        self.given = written_parts(check, model)
        self.types = self.elaboration(check, CheckSite())
        check.context = self.types
        sink.check()
        self._refuse()
        self.conditions = conditions_of(check, self.types)
        self.steady = not self.parts.rates
        self.domains = {name: self._domain(name) for name in self.parts.states}
        used = {d.name: d for d in self.domains.values() if d is not None}
        if not used:
            raise refused(f"`{model.decl.name}` has no fields", model.decl.name_span)
        self.ends = {c: self._ends(d, k) for d in used.values() for k, c in enumerate(d.coordinates)}
        self.solutions = self._chosen()
        self.builder = PointBuilder()
        self.ev = Evaluator(self.builder, sink, strict=True)
        self.el = self.elaboration(self.ev, PointSite(self.builder, self.solutions))
        self.ev.context = self.el
        self.ev.fields = self.fields = PointFields(self.ev, self.builder, used, self.ends)

    def elaboration(self, ev: Evaluator, site: Any) -> Elaboration:
        return Elaboration(ev, self.parts, self.model.module.scope, self.options, site, given=self.given)

    def _refuse(self) -> None:
        """What has no classical solution."""
        p = self.parts
        for what, found in (("noise", p.noises.values()), ("an event", p.events), ("a net", p.nets.values())):
            for stmt in found:
                raise refused(f"it has {what}", stmt.span)
        inner = [f for f in self.types.frames() if f is not self.types]
        if inner:
            raise refused(f"it has the part `{inner[0].prefix[:-1]}`", inner[0].parts.decl.name_span)
        if len(p.energies) > 1:
            raise refused("it has more than one energy", p.energies[1].span)
        for eq in p.rates.values():
            if eq.kind == "integral":
                raise refused("it has an integral equation", eq.span)

    # ------------------------------------------------------------ the solution

    def _domain(self, state: str) -> DomainV | None:
        type_ = self.types.state_type(state)
        return None if type_ is None or type_.on is None else self.types.domain(type_.on)

    def _ends(self, domain: DomainV, k: int) -> tuple[Any, Any]:
        """The ends of a coordinate, exactly."""
        if domain.shape is not None:
            raise refused(f"`{domain.name}` is no box", self.model.decl.name_span)
        found = domain.ranges[k]
        if not isinstance(found, RangeV):
            raise refused(f"the ends of `{domain.coordinates[k]}` are not known", self.model.decl.name_span)
        return number(self.types.ev.known(found.lo)), number(self.types.ev.known(found.hi))

    def _chosen(self) -> dict[str, Cells]:
        found: dict[str, Cells] = {}
        count = 0
        for name, orders in self.parts.states.items():
            type_ = self.types.state_type(name) or Tensor()
            item = self.types.item(name, orders[0]) if 0 in orders else None
            allowed = Range(item.lower, item.upper) if item is not None else Range()
            domain, shape = self.domains[name], type_.extents
            flat, size = self._flat(name, domain), max(int(np.prod(shape, dtype=int)), 1)
            for unit in (sp.S.One, sp.I) if type_.kind == "C" else (sp.S.One,):
                part = unit * chosen(shape, domain, self.ends, allowed, count, self.steady, flat)
                found[name] = boxed(found[name] + part) if name in found else boxed(part)
                count += size
        return found

    def _flat(self, name: str, domain: DomainV | None) -> frozenset[str]:
        """Coordinates along which a minimiser obeys a natural condition."""
        if domain is None or not self.parts.energies:
            return frozenset()
        told = {(c.axis, c.side) for c in self.conditions if c.field == name}
        free = {k for k in range(len(domain.coordinates)) if not {(k, "low"), (k, "high")} <= told}
        return frozenset(c for k, c in enumerate(domain.coordinates) if k in free)

    # ------------------------------------------------------------ residuals

    def _cells(self, v: Any, shape: tuple[int, ...], span: Span) -> Cells:
        """The expressions of a value that fills a shape; in known names only."""
        found = self.ev.value(v, span)
        if isinstance(found, Unknown):
            raise refused("a formula has no value", span)
        cells = self.builder.cells(found, span)
        for e in cells.flat:
            for s in e.free_symbols:
                if s in self.builder.reader.leaves.of:
                    node = self.builder.reader.leaves.of[s].node
                    raise refused(f"sympy cannot read `{node.op}`", node.span or span)
        return np.broadcast_to(cells, shape) if cells.shape != shape else cells

    def source(self, eq: Equation) -> Cells:
        """The rate of a state's solution less the right side of its equation."""
        solution = self.solutions[eq.name]
        right = self._cells(self.el.rate(eq.name), solution.shape, eq.value.span)
        return boxed(mapped(solution, lambda e: sp.diff(e, TIME, eq.order)) - right)

    def residual(self, eq: Equation) -> Cells:
        """The right side of `0 = e`."""
        v = self.ev.value(self.ev.eval(eq.value, self.el.scope), eq.value.span)
        shape = () if isinstance(v, Unknown) else v.type.extents
        return self._cells(v, shape, eq.value.span)

    def gap(self, c: Condition, equation: tree.Assign) -> Cells:
        """Left less right of a condition on one side."""
        name = c.domain.coordinates[c.axis]
        self.fields.normal = (name, -1 if c.side == "low" else 1)
        left, right = (self.ev.eval(e, self.el.scope) for e in (equation.targets[0], equation.value))
        v = self.ev.binary("-", left, right, c.span)
        self.fields.normal = None
        value = self.ev.value(v, c.span)
        shape = () if isinstance(value, Unknown) else value.type.extents
        end = self.ends[name][0 if c.side == "low" else 1]
        return mapped(self._cells(value, shape, c.span), lambda e: e.subs(coordinate(name), end))

    # ------------------------------------------------------------ the model

    def forced(self) -> Forced:
        body: list[tree.Stmt] = []
        for stmt in self.model.decl.body:
            body += self._stmt(stmt)
        decl = replace(self.model.decl, body=tuple(body))
        kept = {k: v for k, v in self.model.values.items() if k.rstrip("'") not in self.parts.states}
        model = replace(self.model, decl=decl, values=kept)
        return Forced(model, self.solutions, self.domains, self.steady)

    def _stmt(self, stmt: tree.Stmt) -> Sequence[tree.Stmt]:
        if isinstance(stmt, tree.Declare) and stmt.keyword == "state":
            return [replace(stmt, items=tuple(map(self._start, stmt.items)))]
        if isinstance(stmt, tree.On):
            return [on for equation in stmt.body for on in self._condition(stmt, equation)]
        if isinstance(stmt, tree.Optimize):
            from ndl.compiler.manufactured.energies import forced_energy

            return [forced_energy(self, stmt)]
        if isinstance(stmt, tree.Assign):
            zero = next((eq for eq in self.parts.zeros if eq.value is stmt.value), None)
            if zero is not None:
                return [replace(stmt, value=plus(stmt.value, boxed(-self.residual(zero))))]
            moved = [eq for eq in self.parts.rates.values() if eq.value is stmt.value]
            if moved:
                return [replace(stmt, value=self._right(moved, stmt))]
        return [stmt]

    def _right(self, moved: list[Equation], stmt: tree.Assign) -> tree.Expr:
        """The right side of an equation with its source."""
        sources = [self.source(eq) for eq in sorted(moved, key=lambda eq: eq.part or 0)]
        if moved[0].part is None:
            return plus(stmt.value, sources[0], "*dt" if moved[0].kind == "differential" else "")
        if isinstance(stmt.value, tree.TupleExpr):
            parts = tuple(plus(e, s) for e, s in zip(stmt.value.items, sources))
            return replace(stmt.value, items=parts)
        if len({s.shape for s in sources}) > 1:
            raise refused("these states differ in shape", stmt.span, "write an equation for each")
        return plus(stmt.value, np.stack(sources))

    def _start(self, item: tree.DeclItem) -> tree.DeclItem:
        """A state that starts at its solution; of a steady problem, near it."""
        cells = mapped(self.solutions[item.name], lambda e: sp.diff(e, TIME, item.primes).subs(TIME, 0))
        text = tensor_text(cells)
        value = expression(f"0.99*({text})" if self.steady and not self._bounded(item) else text)
        return replace(item, value=value, law=None)

    def _bounded(self, item: tree.DeclItem) -> bool:
        return item.constraint is not None

    def _condition(self, stmt: tree.On, equation: tree.Stmt) -> list[tree.Stmt]:
        """A condition on each side of its own, with its data there."""
        found: list[tree.Stmt] = []
        for c in self.conditions:
            if c.span is equation.span and isinstance(equation, tree.Assign):
                right = replace(equation, value=plus(equation.value, self.gap(c, equation)))
                where = expression(side_name(c.domain, c.axis, c.side))
                for cond in c.part.where:
                    where = tree.Restrict(stmt.set.span, where, cond)
                found.append(tree.On(stmt.span, where, (right,)))
        return found


def plus(e: tree.Expr, cells: Cells, factor: str = "") -> tree.Expr:
    """An expression and what is added to it."""
    if all(x == 0 for x in cells.flat):
        return e
    return tree.Binary(e.span, "+", e, expression(f"({tensor_text(cells)}){factor}"))


def tensor_text(cells: Cells) -> str:
    """An array of expressions as the language writes it."""
    if cells.shape == ():
        return expr_text(cells[()])
    return "[" + ", ".join(tensor_text(np.asarray(c, dtype=object)) for c in cells) + "]"


def expression(text: str) -> tree.Expr:
    found, problems = parse_expression(Source("manufactured", text))
    if found is None:
        raise refused(f"`{text}` cannot be written ({problems[0].message})", Span())
    return found


__all__ = ["Forced", "manufactured"]
