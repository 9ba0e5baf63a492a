"""Blocks that run in order: bodies of `fn`, `operator`, `step`, `test`, and definitions in `train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.check.calls import bind_pattern, take_apart
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import UNKNOWN, ListV, RangeV, TupleV, Unknown, Value, describe
from ndl.compiler.syntax import tree
from ndl.compiler.types import INTEGER, Type


class Returned(Exception):
    """Carries the value of `return` out of a `for`."""

    def __init__(self, value: Any) -> None:
        self.value = value


def run_block(ev: Evaluator, body: Sequence[tree.Stmt], scope: Scope, expect: Type | None = None) -> Any:
    """Run statements in order; the value of `return`, or None."""
    try:
        for stmt in body:
            run(ev, stmt, scope, expect)
    except Returned as r:
        return r.value
    return None


def run(ev: Evaluator, stmt: tree.Stmt, scope: Scope, expect: Type | None = None) -> None:
    """Run one statement."""
    if isinstance(stmt, tree.Return):
        if len(stmt.values) == 1:
            raise Returned(ev.eval(stmt.values[0], scope, expect))
        raise Returned(TupleV(tuple(ev.eval(v, scope) for v in stmt.values)))
    if isinstance(stmt, tree.Assign):
        _assign(ev, stmt, scope)
    elif isinstance(stmt, tree.For):
        _for(ev, stmt, scope, expect)
    elif isinstance(stmt, tree.ExprStmt):
        ev.eval(stmt.value, scope)
    elif isinstance(stmt, tree.Assert):
        _assert(ev, stmt, scope)
    elif isinstance(stmt, (tree.Declare, tree.Net, tree.Draw, tree.Reset, tree.Noise, tree.Observe)):
        if ev.context is None:
            ev.error("NDL401", "this statement has no meaning here", stmt.span)
            return
        ev.context.statement(ev, stmt, scope)
    elif isinstance(stmt, tree.Require):
        ev.eval(stmt.cond, scope)
    else:
        ev.error("NDL401", "this statement has no meaning here", stmt.span)


def _assign(ev: Evaluator, stmt: tree.Assign, scope: Scope) -> None:
    expect = None
    if stmt.type is not None:
        from ndl.compiler.check.typing import resolve_type

        expect = resolve_type(ev, stmt.type, scope)
    value = ev.eval(stmt.value, scope, expect)
    if len(stmt.targets) == 1:
        values: list[Any] | None = [value]
    else:
        values = take_apart(ev, value, len(stmt.targets), stmt.value.span)
    for target, v in zip(stmt.targets, values or [UNKNOWN] * len(stmt.targets)):
        if not isinstance(target, tree.Name) or target.primes:
            ev.error("NDL402", "only a name can be given a value here", target.span)
            continue
        if isinstance(v, Value) and ev.builder.mode == "graph":
            v = ev.worker.named(v, target.id)
        scope.names[target.id] = v


def _for(ev: Evaluator, stmt: tree.For, scope: Scope, expect: Type | None) -> None:
    """`for` unrolls over a range or list known when compiling."""
    over = ev.eval(stmt.iter, scope)
    turns: Sequence[Any] | None = None
    if isinstance(over, RangeV):
        turns = ev.integers(over, stmt.iter.span)
    elif isinstance(over, (ListV, TupleV)):
        turns = over.items
    elif not isinstance(over, Unknown):
        ev.error("NDL319", f"`for` runs over a range or a list, not {describe(over)}", stmt.iter.span)
        return
    if turns is None:
        turns = [Value(INTEGER)] if ev.checking else []
        if not ev.checking:
            ev.error("NDL313", "the ends of this range must be known when compiling", stmt.iter.span)
    if len(turns) > 10_000:
        ev.error("NDL314", f"this `for` has {len(turns)} turns, more than 10000", stmt.iter.span)
        return
    for k, item in enumerate(turns):
        names = bind_pattern(ev, stmt.pattern, [item], stmt.span)
        if names is None:
            return
        inner = Scope(scope, names, turns=(*scope.turns, (stmt.span.start, k)))
        for s in stmt.body:
            run(ev, s, inner, expect)
        for name, v in inner.names.items():
            if name not in stmt.pattern.names:
                scope.names[name] = v


def _assert(ev: Evaluator, stmt: tree.Assert, scope: Scope) -> None:
    if hasattr(ev.builder, "check_assert"):
        ev.builder.check_assert(ev, stmt, scope)
        return
    ev.eval(stmt.cond, scope)
