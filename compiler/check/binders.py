"""Functions that bind names in their first argument: `sum(e, i)`, `mean(e, x in S)`, `[e for i, j]`.

An index without a set becomes an array axis, so that the work does not grow with its extent; a short
list or range that is known when compiling is written out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ndl.compiler.check.axes import to_tensor
from ndl.compiler.check.calls import bind_pattern
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.reduced import NEUTRAL, REDUCTIONS, finish
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    Axis,
    BallV,
    BoundaryV,
    DomainV,
    HostV,
    ListV,
    ModelV,
    NotLowered,
    Object,
    RangeV,
    TupleV,
    Unknown,
    Value,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk
from ndl.compiler.types import INTEGER, Dim, Tensor, Type

WRITTEN_OUT = 32

SHORTENED = ("sum", "prod", "max", "min", "all", "any")
"""Reductions that may run to an end which only a run knows."""


class Clause:
    """`i`, `x in S`, `[x, y] in S`, `z ~ law`, perhaps with `if cond`."""

    def __init__(
        self,
        pattern: tree.Pattern,
        set: tree.Expr | None,
        law: tree.Expr | None,
        cond: tree.Expr | None,
        span: Span,
    ) -> None:
        self.pattern, self.set, self.law, self.cond, self.span = pattern, set, law, cond, span


def clause_of(ev: Evaluator, a: tree.Arg, scope: Scope) -> Clause | None:
    """The binder that an argument states, or None when it is an ordinary argument."""
    if a.kind == "draw" and a.name is not None:
        return Clause(tree.Pattern(a.span, (a.name,)), None, a.value, None, a.span)
    e: tree.Expr = a.value
    cond: tree.Expr | None = None
    if isinstance(e, tree.Restrict):
        cond = e.cond
        e = e.value
    if isinstance(e, tree.Compare) and e.ops == ("in",):
        pattern = pattern_of(e.operands[0])
        if pattern is not None:
            target = e.operands[1]
            if isinstance(target, tree.Restrict):
                cond = target.cond
                target = target.value
            return Clause(pattern, target, None, cond, a.span)
    if isinstance(e, tree.Name) and not e.primes and scope.find(e.id) is None:
        return Clause(tree.Pattern(e.span, (e.id,)), None, None, cond, a.span)
    return None


def pattern_of(e: tree.Expr) -> tree.Pattern | None:
    if isinstance(e, tree.Name) and not e.primes:
        return tree.Pattern(e.span, (e.id,))
    if isinstance(e, (tree.ListExpr, tree.TupleExpr)) and all(isinstance(i, tree.Name) for i in e.items):
        names = tuple(i.id for i in e.items if isinstance(i, tree.Name))
        return tree.Pattern(e.span, names, "[" if isinstance(e, tree.ListExpr) else "(")
    return None


# ---------------------------------------------------------------- extents


def indexed_extent(ev: Evaluator, body: tree.Node, name: str, scope: Scope) -> Dim | None:
    """The extent of the axes that a bare index runs over, found where it indexes."""
    for node in walk(body):
        if isinstance(node, tree.Index):
            for position, item in enumerate(node.items):
                if isinstance(item, tree.Name) and item.id == name:
                    extent = _quiet_extent(ev, node.value, position, scope)
                    if extent is not None:
                        return extent
    return None


def indexes(body: tree.Node, name: str) -> bool:
    """Whether a bare index stands as an index somewhere."""
    items = (i for node in walk(body) if isinstance(node, tree.Index) for i in node.items)
    return any(isinstance(i, tree.Name) and i.id == name for i in items)


def _quiet_extent(ev: Evaluator, e: tree.Expr, position: int, scope: Scope) -> Dim | None:
    """One extent of an expression that may hold names that are not bound yet."""
    before, strict = list(ev.sink.found), ev.strict
    try:
        ev.strict = False
        found = ev.eval(e, scope)
        found = ev.value(found, e.span) if not isinstance(found, (Object, HostV)) else UNKNOWN
    except NDLError:
        return None
    finally:
        ev.sink.found[:], ev.strict = before, strict
    if isinstance(found, Value) and position < found.type.rank:
        return found.type.shape[position]
    return None


def members(ev: Evaluator, found: Any, span: Span) -> Sequence[Any] | None:
    """The members of a list, or of a range of integers; None for other sets."""
    if isinstance(found, (ListV, TupleV)):
        return found.items
    if isinstance(found, RangeV):
        return ev.integers(found, span)
    if isinstance(found, Object) and hasattr(found, "members"):
        items: Sequence[Any] = found.members()
        return items
    return None


def bind_axis(
    ev: Evaluator, clause: Clause, body: tree.Expr, scope: Scope
) -> tuple[dict[str, Any], list[Axis]]:
    """Names of a clause as values with a new bound axis."""
    names = clause.pattern.names
    if clause.set is None:
        bound: dict[str, Any] = {}
        axes = []
        for name in names:
            extent = indexed_extent(ev, body, name, scope)
            if extent is None and clause.cond is not None:
                extent = indexed_extent(ev, clause.cond, name, scope)
            if extent is None:
                if ev.checking and indexes(body, name):
                    bound[name] = UNKNOWN  # a tensor whose shape only a use of the function tells
                    continue
                ev.error(
                    "NDL336",
                    f"the index `{name}` indexes nothing here, so its extent is not known",
                    clause.span,
                    help=f"write `{name} in 0..n-1`",
                )
                bound[name] = UNKNOWN
                continue
            axis = Axis(name, extent)
            axes.append(axis)
            bound[name] = counting(ev, axis, 0, clause.span)
        return bound, axes
    found = ev.eval(clause.set, scope)
    if isinstance(found, RangeV):
        integers = ev.integers(found, clause.set.span)
        if integers is not None:
            axis = Axis(names[0], Dim.of(len(integers)))
            data = ev.builder.const(tuple(integers), Tensor("Z", (axis.extent,)), clause.span)
            first = axis if integers and integers == list(range(len(integers))) else None
            return {names[0]: Value(INTEGER, data.ref, (axis,), first)}, [axis]
        return dict.fromkeys(names, Value(INTEGER) if ev.checking else UNKNOWN), []
    if isinstance(found, (Unknown, HostV)):
        return dict.fromkeys(names, UNKNOWN), []
    if isinstance(found, (DomainV, NotLowered)):
        ev.not_lowered("a binder over a set of points", clause.span)
        return dict.fromkeys(names, UNKNOWN), []
    whole = ev.value(found, clause.set.span)
    if isinstance(whole, Value) and whole.type.rank and not whole.axes:
        axis = Axis(names[0], whole.type.shape[0])
        inner = Value(Tensor(whole.type.kind, whole.type.shape[1:]), whole.ref, (axis,))
        if len(names) == 1 and not clause.pattern.bracket:
            return {names[0]: inner}, [axis]
        from ndl.compiler.check.calls import take_apart

        return dict(zip(names, take_apart(ev, inner, len(names), clause.span) or [UNKNOWN] * len(names))), [
            axis
        ]
    if not isinstance(whole, Unknown):
        ev.error("NDL337", f"a binder runs over a set, not over {describe(found)}", clause.set.span)
    return dict.fromkeys(names, UNKNOWN), []


def counting(ev: Evaluator, axis: Axis, start: int, span: Span) -> Value:
    """The bare index of an axis: 0, 1, 2, …"""
    extent = axis.extent.constant
    if extent is None:
        return Value(INTEGER, None, (axis,), axis)
    data = ev.builder.const(tuple(range(start, start + extent)), Tensor("Z", (axis.extent,)), span)
    return Value(INTEGER, data.ref, (axis,), axis)


# ---------------------------------------------------------------- comprehensions


def comprehension(ev: Evaluator, e: tree.Comprehension, scope: Scope) -> Any:
    """`[e for h in range]` writes out; `[e for i, j]` makes axes."""
    if all(b.set is None for b in e.binders):
        clauses = [Clause(b.pattern, None, None, e.cond, b.span) for b in e.binders]
        if e.cond is not None:
            return _chosen(ev, e, e.cond, clauses, scope)
        inner, axes = scope.child(), []
        for c in clauses:
            bound, new = bind_axis(ev, c, e.body, scope)
            inner.names.update(bound)
            axes += new
        body = ev.eval(e.body, inner)
        found = ev.value(body, e.body.span)
        return UNKNOWN if isinstance(found, Unknown) else to_tensor(ev, found, axes, e.span)
    out: list[Any] = []
    known = _turns(ev, e, 0, scope, out)
    if not known:
        return UNKNOWN
    return ListV(tuple(out))


def _chosen(
    ev: Evaluator, e: tree.Comprehension, cond: tree.Expr, clauses: list[Clause], scope: Scope
) -> Any:
    """`[e for i, j if c]`: the members of which the condition, known when compiling, holds, in one list."""
    names: list[str] = []
    extents: list[int] = []
    for c in clauses:
        for axis in bind_axis(ev, c, e.body, scope)[1]:
            if axis.extent.constant is None:
                return UNKNOWN
            names.append(axis.name)
            extents.append(axis.extent.constant)
    out: list[Any] = []
    for turn in itertools.product(*map(range, extents)) if names else ():
        inner = scope.child(dict(zip(names, turn)), turn=(e.span.start, len(out)))
        keep = ev.known(ev.eval(cond, inner))
        if isinstance(keep, Unknown):
            return UNKNOWN
        if not isinstance(keep, bool):
            return ev.error(
                "NDL327",
                "this condition must be known when compiling: it decides how long the list is",
                cond.span,
                help="keep all members, `[if c then e else 0 for i]`, or reduce them, `sum(e, i if c)`",
            )
        if keep:
            out.append(ev.eval(e.body, inner))
    return ListV(tuple(out)) if names else UNKNOWN


def _turns(ev: Evaluator, e: tree.Comprehension, depth: int, scope: Scope, out: list[Any]) -> bool:
    """Write out one binder after the other; False when some set is not known."""
    if depth == len(e.binders):
        keep = True if e.cond is None else ev.known(ev.eval(e.cond, scope))
        if keep is True:
            out.append(ev.eval(e.body, scope))
        elif keep is not False and not isinstance(keep, Unknown) and e.cond is not None:
            ev.error("NDL327", "this condition must be known when compiling", e.cond.span)
        return True
    binder = e.binders[depth]
    if binder.set is None:
        ev.error("NDL336", "name the set that this index runs over", binder.span)
        return False
    found = ev.eval(binder.set, scope)
    items = members(ev, found, binder.set.span)
    if items is None and isinstance(found, Value) and found.type.rank and not ev.checking:
        from ndl.compiler.check.calls import take_apart

        extent = found.type.shape[0].constant
        items = take_apart(ev, found, extent or 0, binder.span)
    if items is None:
        if not isinstance(found, (Unknown, HostV, Value, RangeV)):
            ev.error("NDL337", f"a list runs over a range or a list, not {describe(found)}", binder.set.span)
        inner = scope.child(dict.fromkeys(binder.pattern.names, UNKNOWN))
        _turns(ev, e, depth + 1, inner, [])
        return False
    if ev.checking and len(items) > 3:
        seen: list[Any] = []  # the checker needs the kinds of values, not all of them
        for k, item in enumerate(items[:3]):
            names = bind_pattern(ev, binder.pattern, [item], binder.span)
            if names is not None:
                _turns(ev, e, depth + 1, scope.child(names, turn=(binder.span.start, k)), seen)
        if not any(isinstance(v, ModelV) for v in seen):
            return False
    complete = True
    for k, item in enumerate(items):
        names = bind_pattern(ev, binder.pattern, [item], binder.span)
        if names is None:
            return False
        complete &= _turns(ev, e, depth + 1, scope.child(names, turn=(binder.span.start, k)), out)
    return complete


# ---------------------------------------------------------------- reductions


def reduction(ev: Evaluator, e: tree.Call, scope: Scope, expect: Type | None) -> Any:
    """`sum`, `mean`, `prod`, `max`, `min`, `var`, `softmax`, `argmax`, `argmin`, with or without binders."""
    name = e.func.id if isinstance(e.func, tree.Name) else ""
    positional = [a for a in e.args if a.kind != "keyword"]
    first = positional[0].value
    clauses = [clause_of(ev, a, scope) for a in positional[1:]]
    if clauses and all(c is not None for c in clauses):
        good = [c for c in clauses if c is not None]
        return _bound(ev, name, first, good, e, scope)
    rest = [ev.eval(a.value, scope) for a in positional[1:]]
    if len(rest) == 1 and isinstance(rest[0], (DomainV, BoundaryV, BallV)):
        return over_whole(ev, name, e, rest[0], scope)
    head = ev.eval(first, scope)
    if not rest:
        return whole(ev, name, head, e, first)
    if name in ("max", "min"):
        return extreme(ev, name, [head, *rest], e.span, [a.value for a in positional])
    if any(isinstance(r, (DomainV, NotLowered)) for r in rest):
        return ev.not_lowered(f"`{name}` over a domain", e.span)
    if any(isinstance(r, (Unknown, HostV)) for r in (*rest, head)):
        return UNKNOWN
    return ev.error(
        "NDL338", f"the second argument of `{name}` binds an index or names a set", positional[1].span
    )


def over_whole(ev: Evaluator, name: str, e: tree.Call, domain: Any, scope: Scope) -> Any:
    """`mean(e, S)`: over a set whose points the formula does not name."""
    from ndl.compiler.check.fields import over_domain

    named = e.args[1]
    clause = Clause(tree.Pattern(named.span, ()), named.value, None, None, named.span)
    return over_domain(ev, name, e, clause, domain, scope)


def extreme(ev: Evaluator, name: str, values: list[Any], span: Span, exprs: Sequence[tree.Expr]) -> Any:
    """`max(a, b, …)` elementwise."""
    if any(isinstance(v, (Unknown, HostV)) for v in values):
        return UNKNOWN
    if all(is_number(v) for v in values):
        return max(values) if name == "max" else min(values)
    found = values[0]
    for k, v in enumerate(values[1:]):
        found = ev.elementwise(
            "maximum" if name == "max" else "minimum", [found, v], span, (exprs[0], exprs[k + 1])
        )
    return found


def whole(ev: Evaluator, name: str, head: Any, e: tree.Call, first: tree.Expr) -> Any:
    """A reduction over all axes of a tensor or the elements of a list."""
    if isinstance(head, (Unknown, HostV)):
        return UNKNOWN
    if is_number(head) and name in ("sum", "mean", "prod", "max", "min"):
        return head
    if isinstance(head, bool) and name in ("all", "any"):
        return head
    if isinstance(head, (ListV, TupleV)) and all(is_number(i) for i in head.items) and head.items:
        numbers = list(head.items)
        if name in ("sum", "mean", "prod", "max", "min"):
            total = math.fsum(numbers) if any(isinstance(i, float) for i in numbers) else sum(numbers)
            values: dict[str, Callable[[], Any]] = {
                "sum": lambda: total,
                "mean": lambda: total / len(numbers),
                "prod": lambda: math.prod(numbers),
                "max": lambda: max(numbers),
                "min": lambda: min(numbers),
            }
            return values[name]()
    v = ev.value(head, first.span)
    if isinstance(v, Unknown):
        return UNKNOWN
    return reduce_components(ev, name, v, e.span)


def reduce_components(ev: Evaluator, name: str, v: Value, span: Span) -> Any:
    """A reduction over all component axes."""
    axes = tuple(range(v.type.rank))
    if name in REDUCTIONS:
        return ev.op(REDUCTIONS[name], [v], span, axes=axes) if axes else v
    if name in ("var", "std"):
        if not axes:
            return ev.binary("*", v, 0.0, span)
        mean = ev.op("mean", [v], span, axes=axes)
        gap = ev.binary("-", v, mean, span)
        square = ev.binary("*", gap, gap, span)
        found = ev.op("mean", [square], span, axes=axes) if isinstance(square, Value) else UNKNOWN
        return found if name == "var" or isinstance(found, Unknown) else ev.elementwise("sqrt", [found], span)
    if v.type.rank == 0:
        return ev.error("NDL339", f"`{name}` needs an axis to run over", span)
    return ev.op(name, [v], span, axis=v.type.rank - 1)


def _bound(
    ev: Evaluator, name: str, body: tree.Expr, clauses: list[Clause], e: tree.Call, scope: Scope
) -> Any:
    written = _written_out(ev, name, body, clauses, scope)
    if written is not None:
        return ev.value(ListV(tuple(written)), e.span) if name == "softmax" else _fold(ev, name, written, e)
    if any(c.law is not None for c in clauses):
        return ev.error(
            "NDL340",
            "only `expect` averages over a distribution",
            e.span,
            help=f"write `expect({body.span.text}, …)`",
        )
    if len(clauses) == 1 and clauses[0].set is not None:
        domain = ev.eval(clauses[0].set, scope)
        if isinstance(domain, (DomainV, BoundaryV, BallV)):
            from ndl.compiler.check.fields import over_domain

            return over_domain(ev, name, e, clauses[0], domain, scope)
    inner = scope.child()
    axes: list[Axis] = []
    for c in clauses:
        bound, new = bind_axis(ev, c, body, inner)
        inner.names.update(bound)
        axes += new
    found = ev.value(ev.eval(body, inner), body.span)
    conds = [ev.eval(c.cond, inner) for c in clauses if c.cond is not None]
    if isinstance(found, Unknown) or not axes:
        return UNKNOWN
    return finish(ev, name, found, axes, conds, e.span)


def _written_out(
    ev: Evaluator, name: str, body: tree.Expr, clauses: list[Clause], scope: Scope
) -> list[Any] | None:
    """The terms of a binder over one short known set; None when it should stay an axis."""
    if len(clauses) != 1 or clauses[0].set is None:
        return None
    c = clauses[0]
    assert c.set is not None
    found = ev.eval(c.set, scope)
    items, last = members(ev, found, c.span), None
    if items is None and name in SHORTENED:
        items, last = _shortened(ev, found, c.set, scope)
    if items is None or len(items) > WRITTEN_OUT or name.startswith("arg") or not items:
        return None
    out = []
    for k, item in enumerate(items):
        names = bind_pattern(ev, c.pattern, [item], c.span)
        if names is None:
            return [UNKNOWN]
        inner = scope.child(names, turn=(c.span.start, k))
        if c.cond is not None:
            keep = ev.known(ev.eval(c.cond, inner))
            if keep is False:
                continue
            if keep is not True:
                return None
        term = ev.eval(body, inner)
        if last is not None:
            term = ev.choose(ev.compare("<=", item, last, c.span, ()), term, NEUTRAL[name], c.span)
        out.append(term)
    return out


def _shortened(ev: Evaluator, found: Any, e: tree.Expr, scope: Scope) -> tuple[list[int] | None, Any]:
    """The integers of `a..min(k, n)`, k known and n a number of the run: those up to k, and min(k, n)."""
    call = e.hi if isinstance(e, tree.Range) else None
    named = isinstance(call, tree.Call) and isinstance(call.func, tree.Name) and call.func.id == "min"
    if not isinstance(found, RangeV) or found.by is not None or not named or ev.checking:
        return None, None
    assert isinstance(call, tree.Call)
    ends = [ev.known(ev.eval(a.value, scope)) for a in call.args]
    most = [k for k in ends if is_number(k)]
    if not most:
        return None, None
    return ev.integers(RangeV(found.lo, min(most), None), e.span), found.hi


def _fold(ev: Evaluator, name: str, terms: list[Any], e: tree.Call) -> Any:
    """Sum, product, … of written-out terms."""
    if any(isinstance(t, Unknown) for t in terms):
        return UNKNOWN
    if not terms:
        return 0 if name == "sum" else 1 if name == "prod" else UNKNOWN
    if name in ("sum", "mean", "prod"):
        total = terms[0]
        for t in terms[1:]:
            total = ev.binary("*" if name == "prod" else "+", total, t, e.span)
        return ev.binary("/", total, len(terms), e.span) if name == "mean" else total
    if name in ("max", "min"):
        return extreme(ev, name, terms, e.span, [e.args[0].value] * len(terms))
    if name in ("all", "any"):
        found = terms[0]
        for t in terms[1:]:
            found = ev.both("and" if name == "all" else "or", found, t, e.span)
        return found
    v = ev.value(ListV(tuple(terms)), e.span)
    return UNKNOWN if isinstance(v, Unknown) else reduce_components(ev, name, v, e.span)
