"""What a `param`, `state`, `const` or `input` item declares: type, start, constraint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ndl.compiler.check.covariances import check_covariance
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.typing import convert, resolve_type
from ndl.compiler.check.values import UNKNOWN, DistV, RangeV, Unknown, Value, WordV, describe, is_number
from ndl.compiler.syntax import tree
from ndl.compiler.types import SCALAR, Tensor


@dataclass(frozen=True)
class Item:
    """A declaration read: `value` or `law` says how it starts; `lower` and `upper` bound it."""

    name: str
    type: Tensor | None
    value: Any = None
    law: Any = None
    lower: float | None = None
    upper: float | None = None
    open_bound: bool = True
    present: bool = True


def read_item(ev: Evaluator, item: tree.DeclItem, scope: Scope, with_value: bool = True) -> Item:
    """Work out an item's type, start and bounds."""
    shown = f"`{item.name}{chr(39) * item.primes}`"
    declared = resolve_type(ev, item.type, scope) if item.type is not None else None
    type_: Tensor | None = declared if isinstance(declared, Tensor) else None
    present = True
    if item.cond is not None:
        cond = ev.known(ev.eval(item.cond, scope))
        if isinstance(cond, bool):
            present = cond
        elif not isinstance(cond, Unknown):
            ev.error("NDL327", "this condition must be known when compiling", item.cond.span)
    if item.format is not None:
        ev.eval(item.format, scope)
        ev.not_lowered("a low-rank format (`as …`)", item.format.span)
    value: Any = None
    if item.value is not None and (with_value or type_ is None):
        value = ev.eval(item.value, scope, type_)
        if not isinstance(value, Unknown):
            value = (
                convert(ev, value, type_, shown, item.value.span)
                if type_ is not None
                else _plain(ev, value, item)
            )
        if type_ is None and isinstance(value, Value):
            type_ = value.type
            if type_.kind == "Z" and item.type is None:
                type_ = replace(type_, kind="R")
                value = Value(type_, value.ref, value.axes)
    law: Any = None
    if item.law is not None:
        law = ev.eval(item.law, scope)
        if isinstance(law, WordV):
            law = DistV(law.name, law.args, item.law.span)
        if not isinstance(law, (DistV, Unknown)):
            ev.error(
                "NDL328", f"{shown} is drawn from a distribution, not from {describe(law)}", item.law.span
            )
            law = UNKNOWN
        if type_ is None:
            type_ = SCALAR
        check_covariance(ev, item.name, law, type_, item.law.span)
    if type_ is None and item.value is None and item.law is None and item.type is None:
        type_ = SCALAR
    lower, upper, is_open = _bounds(ev, item, scope)
    found = Item(item.name, type_, value, law, lower, upper, is_open, present)
    if item.value is not None:
        _check_start(ev, item, ev.eval(item.value, scope) if is_known_number(item.value) else None, found)
    return found


def without_value(ev: Evaluator, keyword: str, item: tree.DeclItem) -> bool:
    """Whether a `param` or `const` says neither what it is nor from which law, which is an error."""
    if item.value is not None or item.law is not None:
        return False
    help = f"write `{keyword} {item.name} = …`"
    if keyword == "param":
        help += f"; an application can change it, `({item.name}=…)`"
    ev.error("NDL414", f"`{item.name}` has no value", item.name_span, help=help)
    return True


def is_known_number(e: tree.Expr) -> bool:
    return isinstance(e, tree.Num) or (isinstance(e, tree.Unary) and isinstance(e.operand, tree.Num))


def _plain(ev: Evaluator, value: Any, item: tree.DeclItem) -> Any:
    assert item.value is not None
    return ev.value(value, item.value.span)


def _bounds(ev: Evaluator, item: tree.DeclItem, scope: Scope) -> tuple[float | None, float | None, bool]:
    c = item.constraint
    if c is None:
        return None, None, True
    bound = ev.eval(c.bound, scope)
    if c.op == "in":
        if isinstance(bound, RangeV) and is_number(bound.lo) and is_number(bound.hi):
            if bound.lo <= bound.hi:
                return float(bound.lo), float(bound.hi), False
            ev.error(
                "NDL329",
                "no number is between these ends",
                c.bound.span,
                help=f"the smaller end stands first: `in {bound.hi}..{bound.lo}`",
            )
        elif not isinstance(bound, Unknown):
            ev.error(
                "NDL329",
                "a constraint needs numbers that are known when compiling",
                c.bound.span,
                help="an interval is written `in lo..hi`",
            )
        return None, None, True
    bound = ev.known(bound)
    if not is_number(bound):
        if not isinstance(bound, Unknown):
            ev.error("NDL329", "a constraint needs a number that is known when compiling", c.bound.span)
        return None, None, True
    is_open = not c.op.endswith("=")
    return (float(bound), None, is_open) if c.op.startswith(">") else (None, float(bound), is_open)


def _check_start(ev: Evaluator, item: tree.DeclItem, value: Any, found: Item) -> None:
    """A starting value outside its own constraint is an error."""
    if not is_number(value) or item.value is None:
        return
    low, high = found.lower, found.upper
    bad = (low is not None and (value < low or (found.open_bound and value == low))) or (
        high is not None and (value > high or (found.open_bound and value == high))
    )
    if bad and item.constraint is not None:
        ev.error(
            "NDL330",
            f"`{item.name}` starts at {value}, outside its constraint `{item.constraint.span.text.strip()}`",
            item.value.span,
        )
