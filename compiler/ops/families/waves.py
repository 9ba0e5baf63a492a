"""The waves of a box, of which random fields are made: see `ndl.runtime.waves`.

eigenbasis    (layout, ends, count) -> [n, count], the first waves at the points of an axis; `ends` are
              `value` or `slope`, whichever vanishes there, and ("", "") around a ring
eigenvalues   (layout, ends, count) -> what the second derivative multiplies them by
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ndl.compiler.ops.families.fields import grid_coordinates
from ndl.compiler.ops.table import Attributes, Op, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Dim, Tensor, Type

NAMES = ("layout", "ends", "count")


def _wave(layout: Any, ends: Any, j: int) -> tuple[float, float]:
    """(wavenumber, phase) of sin(wavenumber (x - lower) + phase)."""
    import math

    kind, _, lower, upper = layout
    if kind == "ring":
        return 2 * math.pi * ((j + 1) // 2) / (upper - lower), 0.0 if j and j % 2 == 0 else math.pi / 2
    low, high = ends
    quarters = 2 * j + (low == "value") + (high == "value")  # of a period between the ends
    return quarters * math.pi / 2 / (upper - lower), 0.0 if low == "value" else math.pi / 2


def _basis_reference(layout: Any, ends: Any, count: int) -> Any:
    """Each wave by its formula; the mean of its square is 1/2, of one that is as large at all points 1."""
    import math

    import torch

    x = grid_coordinates(layout)
    length = layout[3] - layout[2]
    columns = []
    for j in range(count):
        w, phase = _wave(layout, ends, j)
        values = torch.sin(w * (x - layout[2]) + phase)
        square = 1.0 if w == 0 or bool((values.abs() > 1 - 1e-9).all()) else 0.5
        columns.append(values / math.sqrt(square * length))
    return torch.stack(columns, 1)


def _values_reference(layout: Any, ends: Any, count: int) -> Any:
    import torch

    return torch.tensor([-(_wave(layout, ends, j)[0] ** 2) for j in range(count)], dtype=torch.float64)


def _text(name: str) -> Any:
    return lambda texts, types, a: call(f"ops.{name}", *(repr(a[n]) for n in NAMES))


def _basis_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", (Dim.of(a["layout"][1]), Dim.of(a["count"])))


def _values_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", (Dim.of(a["count"]),))


register(Op("eigenbasis", _basis_rule, _basis_reference, _text("eigenbasis")))
register(Op("eigenvalues", _values_rule, _values_reference, _text("eigenvalues")))
