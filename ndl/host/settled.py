"""Settings that are the same in every run of a file's models: words, numbers, and methods with numbers."""

from __future__ import annotations

from typing import Any

from ndl.compiler.check.values import MethodV, RangeV, Value, WordV
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk

MOST = 256
"""Settings that are kept; beyond, all are worked out anew."""


class Settled:
    """What was worked out for the settings of a model, by their place in the text (or in the text given from
    outside, which is parsed once). Nothing that reads a value of a model or of a user is kept."""

    def __init__(self) -> None:
        self._values: dict[tuple[int, int], tuple[tree.Expr, Any, Any]] = {}
        self._methods: dict[tuple[int, int], tuple[MethodV, Any, Any]] = {}

    def value(self, expr: tree.Expr, model: Any) -> Any:
        """The value of a setting; None where it is not kept."""
        return _found(self._values, expr, model)

    def keep(self, expr: tree.Expr, model: Any, value: Any) -> None:
        """Remember a value, if it is the same in every run."""
        if _fixed(expr, value):
            _put(self._values, expr, model, value)

    def method(self, value: MethodV, model: Any) -> Any:
        """The runtime's method; None where it is not kept."""
        return _found(self._methods, value, model)

    def keep_method(self, value: MethodV, model: Any, made: Any) -> None:
        """Remember the runtime's method of a value that is kept; one with data is not."""
        plain = not getattr(made.solver, "data", None)
        if plain and any(v is value for _, _, v in list(self._values.values())):
            _put(self._methods, value, model, made)


def _found(kept: dict[tuple[int, int], tuple[Any, Any, Any]], key: Any, model: Any) -> Any:
    found = kept.get((id(key), id(model)))
    return found[2] if found is not None and found[0] is key and found[1] is model else None


def _put(kept: dict[tuple[int, int], tuple[Any, Any, Any]], key: Any, model: Any, value: Any) -> None:
    if len(kept) >= MOST:
        kept.clear()
    kept[id(key), id(model)] = key, model, value


def _fixed(expr: tree.Expr, value: Any) -> bool:
    """Whether an expression of a file's scope has this value whatever the model's values are."""
    if isinstance(value, WordV):
        return isinstance(expr, tree.Name)
    if isinstance(expr, tree.ListExpr):
        return isinstance(value, Value) and _written(expr)
    if not isinstance(value, (RangeV, MethodV)):
        return isinstance(expr, tree.Num) and _plain(value)
    named = expr.func if isinstance(expr, tree.Call) else expr
    if any(isinstance(node, tree.Name) and node is not named for node in walk(expr)):
        return False
    if isinstance(value, RangeV):
        return _plain(value.lo) and _plain(value.hi)
    return not value.parts and not value.positional and all(map(_plain, value.options.values()))


def _written(expr: tree.ListExpr) -> bool:
    """Whether a list is of numbers as they stand."""
    plain = (e.operand if isinstance(e, tree.Unary) else e for e in expr.items)
    return all(isinstance(e, tree.Num) for e in plain)


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float))
