"""The names of runs."""

from __future__ import annotations

from ndl.compiler.syntax import tree


def stmt_name(stmt: tree.Solve | tree.Train) -> str:
    """The name of a run: its alias, or its model's."""
    if stmt.alias:
        return stmt.alias
    target = stmt.target if isinstance(stmt, tree.Solve) else stmt.targets[0]
    if isinstance(target, tree.Call):
        target = target.func
    return target.id if isinstance(target, tree.Name) else target.span.text
