"""Where a model's names get their values when its formulas are read at a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from ndl.compiler.check.models import Elaboration
from ndl.compiler.check.values import Value
from ndl.compiler.check.weights import Item
from ndl.compiler.manufactured.exact import TIME
from ndl.compiler.manufactured.fields import PointBuilder, mapped, refused
from ndl.compiler.source import Span
from ndl.compiler.symbolic.bridge import Cells
from ndl.compiler.syntax import tree
from ndl.compiler.types import Tensor

NOWHERE = Span()


class PointSite:
    """States are their solutions, parameters symbols by the names that the model has for them."""

    def __init__(self, builder: PointBuilder, solutions: Mapping[str, Cells]) -> None:
        self.builder, self.solutions = builder, solutions

    def state(self, name: str, order: int, type: Tensor) -> Any:
        if name not in self.solutions:
            raise refused(f"`{name}` is a state of a part", NOWHERE)
        cells = self.solutions[name]
        return self.builder.given(
            mapped(cells, lambda e: sp.diff(e, TIME, order)) if order else cells, NOWHERE
        )

    def weight(self, owner: Elaboration, item: Item, trainable: bool, decl: tree.DeclItem) -> Any:
        type_ = item.type or Tensor()
        if owner.prefix:
            raise refused(f"`{owner.prefix}{decl.name}` is a parameter of a part", decl.name_span)
        if type_.on is None:
            return self.builder.given(symbols(decl.name, type_.extents), decl.name_span)
        start = owner.starts_at(decl.name)
        if start is None and decl.value is None:
            raise refused(f"the field `{decl.name}` is not given by a formula", decl.name_span)
        value = owner.ev.eval(decl.value, owner.scope) if start is None and decl.value is not None else start
        found = owner.ev.value(value, decl.name_span)
        if isinstance(found, Value) and not found.type.rank and type_.rank:
            found = owner.ev.spread(found, type_.shape, decl.name_span)
        return found

    def input(self, name: str, type: Tensor, on_time: bool) -> Any:
        help = f"give it a formula, `--set {name}=…`" if not on_time else None
        raise refused(f"its input `{name}` is not known", NOWHERE, help)

    def input_rate(self, name: str, type: Tensor) -> Any:
        return self.input(name, type, True)

    def noise(self, name: str, type: Tensor) -> Any:
        raise refused(f"it has the noise `{name}`", NOWHERE)

    def draw(self, owner: Elaboration, stmt: tree.Draw, found: Any) -> Any:
        raise refused(f"`{stmt.name}` is drawn at random", stmt.span)

    def member(self, owner: Elaboration, name: str, one: Any, type: Tensor) -> Any:
        raise refused(f"`{name}` is different in each instance", NOWHERE)

    def past(self, ev: Any, state: Value, at: Value, span: Span) -> Any:
        raise refused("it reads its past", span)

    def time(self, unit: Any) -> Any:
        return self.builder.given(np.array(TIME, dtype=object), NOWHERE)


def symbols(name: str, shape: tuple[int, ...]) -> Cells:
    """One symbol for each component of a parameter, as the language writes it."""
    cells = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        at = f"[{', '.join(map(str, place))}]" if place else ""
        cells[place] = sp.Symbol(name + at, real=True)
    return cells
