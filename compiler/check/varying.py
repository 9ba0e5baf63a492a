"""The setting `vary` of a `train`: a block that is run for each of the values of some names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import HostV
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree


@dataclass(frozen=True)
class Setting:
    """`rate in [0, 0.3]`: a name and the set of its values."""

    name: str
    values: tree.Expr
    span: Span


def read_varied(value: tree.Expr) -> list[Setting]:
    """`rate in [0, 0.3]`, `[rate in [0, 0.3], seed in 0..2]`. Raises NDL526."""
    items = value.items if isinstance(value, (tree.ListExpr, tree.TupleExpr)) else (value,)
    found: list[Setting] = []
    for item in items:
        name = item.operands[0] if isinstance(item, tree.Compare) else None
        plain = isinstance(item, tree.Compare) and item.ops == ("in",)
        if not (plain and isinstance(name, tree.Name) and not name.primes):
            raise fail(
                "NDL526",
                f"`{item.span.text}` does not say what is varied",
                item.span,
                help="write a name and its values: `vary = [rate in [0, 0.3], seed in 0..2]`",
            )
        if name.id in {v.name for v in found}:
            raise fail("NDL526", f"`{name.id}` is varied twice", name.span)
        assert isinstance(item, tree.Compare)
        found.append(Setting(name.id, item.operands[1], item.span))
    return found


def check_varied(ev: Evaluator, settings: Mapping[str, tuple[tree.Expr, Span]], outer: Scope) -> Scope:
    """The scope of a block with `vary`: it has the varied names; a varied setting is not given besides."""
    try:
        found = read_varied(settings["vary"][0])
    except NDLError as error:
        for diagnostic in error.diagnostics:
            ev.sink.add(diagnostic)
        return outer
    scope = outer.child()
    for v in found:
        ev.eval(v.values, outer)
        if v.name in settings:
            span = settings[v.name][1]
            ev.error("NDL507", f"the setting `{v.name}` is given, and varied by `vary`", span)
        scope.names[v.name] = HostV("value")
    return scope
