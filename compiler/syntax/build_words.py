"""The words `all` and `every`, which mean something only in a setting's value."""

from __future__ import annotations

from ndl.compiler.syntax import tree as t


def as_every(value: t.Expr) -> t.Expr:
    """`every(e)` is `every e` where a setting's value or an event stands."""
    match value:
        case t.Call(span, t.Name(_, "every", 0), (t.Arg(_, "positional", None, inner),)):
            return t.Every(span, inner)
        case t.TupleExpr(span, items):
            return t.TupleExpr(span, tuple(map(as_every, items)))
    return value


def as_words(value: t.Expr) -> t.Expr:
    """The bare name `all` is a word where a setting's value stands."""
    match value:
        case t.Name(span, "all", 0):
            return t.Words(span, "all")
        case t.TupleExpr(span, items):
            return t.TupleExpr(span, tuple(map(as_words, items)))
        case t.Except(span, inner, excluded):
            return t.Except(span, as_words(inner), excluded)
    return value


def as_setting(stmt: t.Stmt) -> t.Stmt:
    """A setting's value, with the words that only settings know."""
    if isinstance(stmt, t.Assign):
        return t.Assign(stmt.span, stmt.targets, as_words(as_every(stmt.value)), stmt.type)
    return stmt
