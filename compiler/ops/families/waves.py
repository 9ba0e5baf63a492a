"""The waves of a box, of which random fields are made: see `ndl.runtime.waves`.

eigenbasis    (layout, ends, count) -> [n, count], the first waves at the points of an axis; `ends` are
              `value` or `slope`, whichever vanishes there, a number b where dn(u) + b u does, and ("", "")
              around a ring; the layout ("stored", n, key, points) names waves that are kept in the store
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
    if not isinstance(low, str) or not isinstance(high, str):
        return _mixed_wave(upper - lower, ends, j)
    quarters = 2 * j + (low == "value") + (high == "value")  # of a period between the ends
    return quarters * math.pi / 2 / (upper - lower), 0.0 if low == "value" else math.pi / 2


def _mixed_wave(length: float, ends: Any, j: int) -> tuple[float, float]:
    """The same where a condition is about the value and the slope: by the zeros of its left side at the upper
    end, of the wave that fits the lower one."""
    import math

    from scipy.optimize import brentq

    def phase(end: Any, k: float) -> float:
        return {"value": 0.0, "slope": math.pi / 2}[end] if isinstance(end, str) else math.atan2(k, end)

    def angle(k: float) -> float:
        """That of the slope over the value at the upper end, less what the condition gives."""
        return k * length + phase(ends[0], k) + phase(ends[1], k) - (j + 1) * math.pi

    near = 1e-9 / length
    k = brentq(angle, j * math.pi / length + near, (j + 1) * math.pi / length, xtol=1e-14 / length)
    return float(k), phase(ends[0], k)


def _stored(what: str, layout: Any) -> Any:
    import torch
    from ndl.compiler.geometry.store import ARRAYS

    return torch.from_numpy(ARRAYS[f"{layout[2]} {what}"].copy())


def _basis_reference(layout: Any, ends: Any, count: int) -> Any:
    """Each wave by its formula; the mean of its square is 1/2, of one that is as large at all points 1."""
    import math

    import torch

    if layout[0] == "stored":
        return _stored("basis", layout)[:, :count]
    x = grid_coordinates(layout)
    length = layout[3] - layout[2]
    columns = []
    for j in range(count):
        w, phase = _wave(layout, ends, j)
        values = torch.sin(w * (x - layout[2]) + phase)
        square = 1.0 if w == 0 or bool((values.abs() > 1 - 1e-9).all()) else 0.5
        if any(not isinstance(e, str) for e in ends):
            last = j == layout[1] - (list(ends).count("value") if layout[0] == "nodes" else 0) - 1
            square = _mean_square(layout, w, phase, values if last else None)
        columns.append(values / math.sqrt(square * length))
    return torch.stack(columns, 1)


def _mean_square(layout: Any, w: float, phase: float, values: Any) -> float:
    """Of a wave; of the last one at evenly spaced points by their quadrature."""
    from math import sin

    kind, _, lower, upper = layout
    if values is None or kind == "chebyshev":
        turn = 2 * w * (upper - lower)
        return float(0.5 - (sin(turn + 2 * phase) - sin(2 * phase)) / (2 * turn))
    square = values**2
    return float(square.mean() if kind == "cells" else ((square[1:] + square[:-1]) / 2).mean())


def _values_reference(layout: Any, ends: Any, count: int) -> Any:
    import torch

    if layout[0] == "stored":
        return _stored("values", layout)[:count]

    return torch.tensor([-(_wave(layout, ends, j)[0] ** 2) for j in range(count)], dtype=torch.float64)


def _text(name: str) -> Any:
    return lambda texts, types, a: call(f"ops.{name}", *(repr(a[n]) for n in NAMES))


def _basis_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", (Dim.of(a["layout"][1]), Dim.of(a["count"])))


def _values_rule(types: Sequence[Type], a: Attributes) -> Type:
    return Tensor("R", (Dim.of(a["count"]),))


register(Op("eigenbasis", _basis_rule, _basis_reference, _text("eigenbasis")))
register(Op("eigenvalues", _values_rule, _values_reference, _text("eigenvalues")))
