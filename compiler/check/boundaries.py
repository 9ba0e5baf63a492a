"""Boundary conditions: which field each is about, where, and what it says there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ndl.compiler.check.coloured import replaced
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.fields import FACES
from ndl.compiler.check.values import BoundaryV, DomainV, Unknown, Value, describe
from ndl.compiler.diagnostics import Label
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

VALUE, SLOPE = "value", "slope"
UNKNOWN_VALUE = "·"
"""The name, which no program has, of the component that a condition gives by an equation."""
Component = tuple[int, ...]
"""The indices of a component of a field, from the first on; () for all of them."""


@dataclass(frozen=True)
class Condition:
    """A condition on one side: of `field` or one `component` of it, along the coordinate `axis`, at the
    `side` `low` or `high` ("" on a domain that is no box).

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
    component: Component = ()

    @property
    def subject(self) -> str:
        """The field or its component in the user's words."""
        return component_name(self.field, self.component)

    def about(self, component: Component) -> bool:
        """Whether it says what a component is, perhaps among others."""
        return component[: len(self.component)] == self.component

    def splits(self, component: Component) -> bool:
        """Whether it is about a part of a component alone."""
        depth = len(component)
        return len(self.component) > depth and self.component[:depth] == component

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


def component_name(field: str, component: Component) -> str:
    """`v[0]`."""
    return f"{field}[{', '.join(map(str, component))}]" if component else field


def split_by(conditions: Iterable[Condition], component: Component, shape: Component) -> list[Component]:
    """The largest parts of a component that no condition splits; `shape` is that of the field."""
    if len(component) >= len(shape) or not any(c.splits(component) for c in conditions):
        return [component]
    parts = ((*component, j) for j in range(shape[len(component)]))
    return [leaf for part in parts for leaf in split_by(conditions, part, shape)]


def conditions_of(ev: Evaluator, el: Any) -> list[Condition]:
    """All conditions of a model; errors for those that cannot be used and those that contradict each
    other."""
    return _Conditions(ev, el).found


@dataclass(frozen=True)
class _Subject:
    """What a condition determines: the value or the slope of a field or of one of its components."""

    field: str
    component: Component
    kind: str


class _Conditions:
    """Reads the conditions of a model or a part of one."""

    def __init__(self, ev: Evaluator, el: Any) -> None:
        self.ev, self.el, self.parts, self.scope = ev, el, el.parts, el.scope
        self.found: list[Condition] = []
        for stmt in self.parts.conditions:
            where = ev.eval(stmt.set, self.scope)
            if isinstance(where, Unknown):
                continue
            if not isinstance(where, BoundaryV):
                what = f"a condition holds on a part of a boundary, not on {describe(where)}"
                hint = "write `on boundary(Omega): …` or `on left(Omega): …`"
                ev.error("NDL444", what, stmt.set.span, help=hint)
                continue
            for equation in stmt.body:
                if isinstance(equation, tree.Assign) and len(equation.targets) == 1:
                    self.found += self._read(where, equation)
        self._contradictions()

    def _read(self, where: BoundaryV, equation: tree.Assign) -> Iterator[Condition]:
        left, right = equation.targets[0], equation.value
        subject = self._subject(left, right, equation.span)
        if subject is None:
            return
        given = None
        for side, other in ((left, right), (right, left)):
            alone = inside_normal(side) if subject.kind == SLOPE else side
            if alone is not None and self._is(alone, subject) and not self._reads(other, subject):
                given = other
                break
        if given is None and subject.kind == VALUE and subject.component:
            unknown = tree.Name(equation.span, UNKNOWN_VALUE)
            left, right = (
                replaced(e, lambda n: unknown if self._is(n, subject) else None) for e in (left, right)
            )
        if subject.kind == VALUE and self._mixes(given or (left, right), subject, equation.span):
            return
        for axis, side_ in where.faces if where.domain.shape is None else ((-1, ""),):
            found = (where.domain, axis, side_, subject.kind, left, right, given, equation.span, where)
            yield Condition(subject.field, *found, subject.component)

    # ------------------------------------------------------------ what a condition is about

    def _named(self, e: Any) -> tuple[str, Component] | None:
        """The field and the component that an expression names; None for another expression."""
        if isinstance(e, tree.Name):
            return e.id, ()
        if not isinstance(e, tree.Index) or not isinstance(e.value, tree.Name):
            return None
        found = numbers_of(self.ev, self.scope, e)
        shape = self._shape(e.value.id)
        if found is None or len(found) > len(shape) or any(not -n <= k < n for k, n in zip(found, shape)):
            return None
        return e.value.id, tuple(k % n for k, n in zip(found, shape))

    def _shape(self, name: str) -> Component:
        """The shape of a field's components."""
        if name in self.parts.states:
            type_ = self.el.state_type(name)
        else:
            value = self.scope.find(name)
            type_ = value.type if isinstance(value, Value) else None
        return () if type_ is None else tuple(d.constant or 0 for d in type_.shape)

    def _is(self, e: Any, subject: _Subject) -> bool:
        return self._named(e) == (subject.field, subject.component)

    def _reads(self, e: tree.Expr, subject: _Subject) -> bool:
        """Whether the other side has what the condition determines."""
        if subject.kind == SLOPE:
            return any(inside_normal(n) is not None for n in walk(e))
        return any(self._is(n, subject) for n in walk(e))

    def _mixes(self, e: Any, subject: _Subject, span: Span) -> bool:
        """Whether what gives the value of a component reads the field again."""
        again = any(isinstance(n, tree.Name) and n.id == subject.field for n in walk(e))
        if not subject.component or not again:
            return False
        name = component_name(subject.field, subject.component)
        self.ev.error(
            "NDL476",
            f"this gives the value of `{name}` by another component of `{subject.field}`",
            span,
            help="give each component a value or a slope of its own, or make them states of their own",
        )
        return True

    def _subject(self, left: tree.Expr, right: tree.Expr, span: Span) -> _Subject | None:
        """The field that a condition is about, and whether it gives its value or its slope."""
        inside = [i for e in (left, right) for n in walk(e) if (i := inside_normal(n)) is not None]
        slopes = [self._named(e) for e in inside]
        if None in slopes:
            what = "in a condition `dn` is of one field, or one component of it, by its name"
            hint = "give the expression a name: `flux = …`, then `dn(flux)`"
            self.ev.error("NDL444", what, inside[slopes.index(None)].span, help=hint)
            return None
        if len(set(slopes)) > 1:
            what = "a condition is about the slope of one field, or one component of it"
            self.ev.error("NDL444", what, span, help="write one for each")
            return None
        if slopes and slopes[0] is not None:
            return _Subject(*slopes[0], SLOPE)
        alone = self._named(left)
        if alone is None:
            alone = self._single(left, right)
        if alone is None:
            what = "this condition does not say of which field, or which component of one, it is"
            self.ev.error("NDL444", what, span, help="write `u = …`, `dn(u) = …` or `v[0] = …`")
            return None
        return _Subject(*alone, VALUE)

    def _single(self, left: tree.Expr, right: tree.Expr) -> tuple[str, Component] | None:
        """The only field, or component of one, that an equation reads."""
        found: set[tuple[str, Component]] = set()

        def note(e: Any) -> Any:
            named = self._named(e)
            if named is not None and named[0] in self.parts.states:
                found.add(named)
            return e if named is not None else None

        replaced((left, right), note)
        return found.pop() if len(found) == 1 else None

    # ------------------------------------------------------------ contradictions

    def _contradictions(self) -> None:
        """Two conditions for one field on one side; where a condition on the coordinates parts them, the
        grid tells."""
        earlier: list[Condition] = []
        for c in self.found:
            if c.part.where:
                continue
            key = (c.field, c.axis, c.side, c.part.part, c.domain.name)
            for other in earlier:
                same = key == (other.field, other.axis, other.side, other.part.part, other.domain.name)
                if same and (c.about(other.component) or other.about(c.component)):
                    self._twice(c, other)
                    break
            else:
                earlier.append(c)

    def _twice(self, c: Condition, other: Condition) -> None:
        subject = c.subject if len(c.component) >= len(other.component) else other.subject
        self.ev.error(
            "NDL442",
            f"`{subject}` has two conditions on `{c.place}`",
            c.span,
            labels=(Label(other.span, "the other one"),),
            help="keep one of them: a second-order equation takes one condition on each side",
        )


def numbers_of(ev: Evaluator, scope: Any, e: tree.Index) -> Component | None:
    """The indices of an expression where all are whole numbers known when compiling."""
    found = []
    for item in e.items:
        number = None if isinstance(item, tree.Slice) else ev.known(ev.eval(item, scope))
        if not isinstance(number, (int, float)) or number != int(number):
            return None
        found.append(int(number))
    return tuple(found)


def inside_normal(e: Any) -> tree.Expr | None:
    """What stands in `dn(…)`; None for another expression."""
    if isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.func.id == "dn" and len(e.args) == 1:
        return e.args[0].value
    return None


def check_conditions(ev: Evaluator, el: Any) -> list[Condition]:
    """The conditions of a model against its fields."""
    found = conditions_of(ev, el)
    told: set[Span] = set()
    for c in found:
        subject = el.scope.find(c.field)
        if subject is None or isinstance(subject, Unknown) or c.span in told:
            continue
        on = subject.type.on if isinstance(subject, Value) else None
        if on != c.domain.name:
            told.add(c.span)
            what = f"on `{on}`" if on else "no field"
            ev.error("NDL444", f"`{c.subject}` is {what}, and this condition is on `{c.place}`", c.span)
    return found
