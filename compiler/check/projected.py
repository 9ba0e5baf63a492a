"""The setting `project` of a training or a player, `clip(bound)`; `out` is a matrix's number of rows."""

from __future__ import annotations

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import HostV
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.syntax import tree


def bound_of(ev: Evaluator, value: tree.Expr) -> tree.Expr:
    """The `bound` of `clip(bound)`. Raises `NDLError` for anything else."""
    named = isinstance(value, tree.Call) and isinstance(value.func, tree.Name) and value.func.id == "clip"
    if (
        not isinstance(value, tree.Call)
        or not named
        or len(value.args) != 1
        or value.args[0].kind != "positional"
    ):
        shown = " ".join(value.span.text.split())
        raise fail(
            "NDL529",
            f"`project` is what is done to weights after a step, and `{shown}` is not",
            value.span,
            help="write `project = clip(1/out)` or `clip(0.01)`: entries of matrices stay within the bound",
        )
    return value.args[0].value


def check_projection(ev: Evaluator, value: tree.Expr, scope: Scope) -> None:
    try:
        bound = bound_of(ev, value)
    except NDLError as refused:
        for diagnostic in refused.diagnostics:
            ev.sink.add(diagnostic)
        return
    ev.eval(bound, scope.child({"out": HostV("value")}))
