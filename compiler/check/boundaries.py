"""Boundary conditions: which field each is about, where, and what it says there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.fields import FACES
from ndl.compiler.check.model_parts import Parts
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import BoundaryV, DomainV, Unknown, Value, describe
from ndl.compiler.diagnostics import Label
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

VALUE, SLOPE = "value", "slope"


@dataclass(frozen=True)
class Condition:
    """A condition on one side: of `field`, along the coordinate `axis`, at the `side` `low` or `high` (""
    on a domain that is no box).

    It gives the value or the slope. `given` is that value, or the derivative along the outer normal, where
    one side of the equation names it alone; otherwise it is found from `left` = `right`, linear in it."""

    field: str
    domain: DomainV
    axis: int
    side: str
    kind: str
    left: tree.Expr
    right: tree.Expr
    given: tree.Expr | None
    span: Span
    part: BoundaryV
    """Where it stands as it was written; `axis` is -1 on a domain that is no box."""

    @property
    def place(self) -> str:
        """The part of the boundary in the user's words."""
        if not self.side:
            return self.part.text
        conds = "".join(f" if {c.span.text}" for c in self.part.where)
        return side_name(self.domain, self.axis, self.side) + conds


def side_name(domain: DomainV, axis: int, side: str) -> str:
    """`left(Rod)`."""
    name = next(n for n, face in FACES.items() if face == (axis, side))
    return f"{name}({domain.name})"


def conditions_of(ev: Evaluator, parts: Parts, scope: Scope) -> list[Condition]:
    """All conditions of a model; errors for those that cannot be used and those that contradict each
    other."""
    found: list[Condition] = []
    for stmt in parts.conditions:
        where = ev.eval(stmt.set, scope)
        if isinstance(where, Unknown):
            continue
        if not isinstance(where, BoundaryV):
            what = f"a condition holds on a part of a boundary, not on {describe(where)}"
            hint = "write `on boundary(Omega): …` or `on left(Omega): …`"
            ev.error("NDL444", what, stmt.set.span, help=hint)
            continue
        for equation in stmt.body:
            if isinstance(equation, tree.Assign) and len(equation.targets) == 1:
                found += _read(ev, parts, where, equation)
    _contradictions(ev, found)
    return found


def _read(ev: Evaluator, parts: Parts, where: BoundaryV, equation: tree.Assign) -> Iterator[Condition]:
    left, right = equation.targets[0], equation.value
    subject = _subject(ev, parts, left, right, equation.span)
    if subject is None:
        return
    name, kind = subject
    given = None
    for side, other in ((left, right), (right, left)):
        alone = _inside_normal(side) if kind == SLOPE else side
        if isinstance(alone, tree.Name) and alone.id == name and not _reads(other, name, kind):
            given = other
            break
    for axis, side_ in where.faces if where.domain.shape is None else ((-1, ""),):
        yield Condition(name, where.domain, axis, side_, kind, left, right, given, equation.span, where)


def _inside_normal(e: Any) -> tree.Expr | None:
    """What stands in `dn(…)`; None for another expression."""
    if isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "dn" and len(e.args) == 1:
        return e.args[0].value
    return None


def _reads(e: tree.Expr, name: str, kind: str) -> bool:
    """Whether the other side has what the condition determines."""
    if kind == SLOPE:
        return any(_inside_normal(n) is not None for n in walk(e))
    return any(isinstance(n, tree.Name) and n.id == name for n in walk(e))


def _subject(
    ev: Evaluator, parts: Parts, left: tree.Expr, right: tree.Expr, span: Span
) -> tuple[str, str] | None:
    """The field that a condition is about, and whether it gives its value or its slope."""
    inside = [i for e in (left, right) for n in walk(e) if (i := _inside_normal(n)) is not None]
    if any(not isinstance(e, tree.Name) for e in inside):
        bad = next(e for e in inside if not isinstance(e, tree.Name))
        what = "in a condition `dn` is of one field by its name"
        ev.error("NDL444", what, bad.span, help="give the expression a name: `flux = …`, then `dn(flux)`")
        return None
    names = {e.id for e in inside if isinstance(e, tree.Name)}
    if len(names) > 1:
        what = "a condition is about the slope of one field"
        ev.error("NDL444", what, span, help="write one for each field")
        return None
    if names:
        return names.pop(), SLOPE
    if isinstance(left, tree.Name):
        return left.id, VALUE
    names = {n.id for e in (left, right) for n in walk(e) if isinstance(n, tree.Name)}
    fields = names & parts.states.keys()
    if len(fields) != 1:
        what = "this condition does not say of which field it is"
        ev.error("NDL444", what, span, help="write `u = …` or `dn(u) = …`")
        return None
    return fields.pop(), VALUE


def _contradictions(ev: Evaluator, found: list[Condition]) -> None:
    """Two conditions for one field on one side; where a condition on the coordinates parts them, the grid
    tells."""
    first: dict[tuple[str, int, str, str], Condition] = {}
    for c in found:
        if c.part.where:
            continue
        other = first.setdefault((c.field, c.axis, c.side, c.part.part), c)
        if other is not c and other.domain.name == c.domain.name:
            ev.error(
                "NDL442",
                f"`{c.field}` has two conditions on `{c.place}`",
                c.span,
                labels=(Label(other.span, "the other one"),),
                help="keep one of them: a second-order equation takes one condition on each side",
            )


def check_conditions(ev: Evaluator, el: Any) -> list[Condition]:
    """The conditions of a model against its fields."""
    found = conditions_of(ev, el.parts, el.scope)
    told: set[Span] = set()
    for c in found:
        subject = el.scope.find(c.field)
        if isinstance(subject, Unknown) or c.span in told:
            continue
        on = subject.type.on if isinstance(subject, Value) else None
        if on != c.domain.name:
            told.add(c.span)
            what = f"on `{on}`" if on else "no field"
            ev.error("NDL444", f"`{c.field}` is {what}, and this condition is on `{c.place}`", c.span)
    return found
