"""Dimensions that stand in types of weights alone, and that their use tells (`lower/told.py`)."""

from __future__ import annotations

from collections.abc import Iterator

from ndl.compiler.check.operators import expr_names, header_dims
from ndl.compiler.check.values import OperatorV
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.walk import walk


def open_weights(op: OperatorV) -> list[tuple[str, Span]]:
    """The dimension names in types of weights that nothing declares."""
    decl = op.decl
    known = {*header_dims(decl, op.module.scope), *op.dims, *(p.name for p in (*decl.options, *decl.data))}
    nodes = [n for s in decl.body for n in walk(s)]
    targets = [t for n in nodes if isinstance(n, tree.Assign) for t in n.targets]
    known |= {t.id for t in targets if isinstance(t, tree.Name)}
    found = []
    for item in (n for n in nodes if isinstance(n, tree.DeclItem)):
        names: set[str] = set()
        for d in _dims(item.type):
            expr_names(d, names)
        found += [(n, item.name_span) for n in sorted(names - known) if op.module.scope.find(n) is None]
    return found


def _dims(written: tree.TypeExpr | None) -> Iterator[tree.Expr]:
    if isinstance(written, tree.FieldType):
        written = written.value
    if isinstance(written, tree.TypeName):
        yield from (d for d in written.dims if not isinstance(d, tree.Str))
