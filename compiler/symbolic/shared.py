"""Common subexpressions of several expressions, by sympy's `cse` where it is quick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

LARGEST = 1500
"""Operations above which only equal subtrees are shared, which the writer does by itself."""


def share(expressions: Sequence[Any]) -> tuple[dict[Any, Any], list[Any]]:
    """Expressions in terms of new symbols, and the definitions of these.

    Finds parts of sums and products too (`a*b` in `a*b*c`), which equal subtrees do not show.
    """
    work = sum(sp.count_ops(e) for e in expressions)
    if not expressions or work > LARGEST:
        return {}, list(expressions)
    taken = {s.name for e in expressions for s in e.free_symbols}
    names = (sp.Symbol(name, real=True) for name in (f"shared{i}" for i in range(10**6)) if name not in taken)
    definitions, reduced = sp.cse(list(expressions), symbols=names, order="canonical", list=True)
    return dict(definitions), list(reduced)
