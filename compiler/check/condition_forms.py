"""What a boundary condition says: that it determines its field, that both sides have one shape, and that it
takes no slope that is not known on its side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.check.boundaries import SLOPE, UNKNOWN_VALUE, Condition, inside_normal
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.missing import ORDERS, children
from ndl.compiler.check.values import Value
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk


def degree(e: Any, c: Condition) -> int:
    """The degree of an expression in what the condition determines: 0, 1, or 2 for anything that is not
    linear. A call is taken to be linear in its arguments."""
    if isinstance(e, tree.Name):
        return int(c.kind != SLOPE and e.id == (UNKNOWN_VALUE if c.component else c.field))
    if inside_normal(e) is not None:
        return int(c.kind == SLOPE)
    if isinstance(e, tree.Binary):
        left, right = degree(e.left, c), degree(e.right, c)
        if e.op in ("*", "@"):
            return min(2, left + right)
        if e.op == "/":
            return 2 if right else left
        if e.op == "^":
            linear = isinstance(e.right, tree.Num) and float(e.right.value) == 1
            return 2 if right or (left and not linear) else left
        return max(left, right)
    return max((degree(x, c) for x in children(e)), default=0)


def slope_across(c: Condition) -> tree.Call | None:
    """A derivative along the normal of a side of a box, which a condition there cannot take: on the side
    fields are known along the side alone."""
    if c.axis < 0 or c.axis >= len(c.domain.coordinates):
        return None
    letter = c.domain.coordinates[c.axis]
    for e in (*walk(c.left), *walk(c.right)):
        if not (isinstance(e, tree.Call) and isinstance(e.func, tree.Name) and e.args):
            continue
        name = e.func.id
        letters = name[1:] if name.startswith("d") and name != "dn" else ""
        if name in ORDERS or (letters and set(letters) <= set(c.domain.coordinates) and letter in letters):
            return e
    return None


def check_forms(ev: Evaluator, el: Any, conditions: list[Condition]) -> None:
    """Errors for conditions that say something that cannot be solved for."""
    told: set[Span] = set()
    for c in conditions:
        if c.span in told:  # the same words about another side
            continue
        told.add(c.span)
        across, of = slope_across(c), f"dn({c.subject})" if c.kind == SLOPE else c.subject
        if across is not None:
            what = (
                f"`{across.span.text}` is not known on `{_place(c)}`, where fields are known along the side"
            )
            hint = f"the slope along the outer normal is `dn({c.subject})`"
            if c.field not in across.span.text:
                hint = f"give it a name: `slope = {across.span.text}`"
            ev.error("NDL551", what, across.span, help=hint)
        elif degree(c.left, c) > 1 or degree(c.right, c) > 1:
            what = f"this condition is not linear in `{of}`, which it is to determine on `{_place(c)}`"
            ev.error("NDL550", what, c.span, help=f"solve it for `{of}`: write `{of} = …`")
        else:
            _shapes(ev, el, c)


def _place(c: Condition) -> str:
    return c.part.text or c.place


def _shapes(ev: Evaluator, el: Any, c: Condition) -> None:
    """A value or a slope that is given has the components of its field, or is a number."""
    subject = el.scope.find(c.field)
    if c.given is None or not isinstance(subject, Value):
        return
    given = ev.eval(c.given, el.scope)
    given = given if isinstance(given, Value) else ev.value(given, c.given.span)
    about = replace(subject.type, shape=subject.type.shape[len(c.component) :])
    if not isinstance(given, Value) or not given.type.rank or given.type.shape == about.shape:
        return
    if any(d.constant is None for d in (*given.type.shape, *about.shape)):
        return
    what = f"`{c.subject}` is {about}, and this condition gives {given.type}"
    ev.error(
        "NDL301",
        what,
        c.given.span,
        help=f"give {'a number' if not subject.type.rank else 'a number for each component'}",
    )
