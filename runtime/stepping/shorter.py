"""Continuous output by shorter steps, for stiff methods of order 4 and more.

The value at a fraction theta of a step is that of one step of size theta h from the same start. It meets both
ends of the step, has the method's order and its stability, and keeps algebraic equations. A polynomial
through the stages keeps its order only where nothing is stiff: on Robertson's equations, that of SDIRK4 is a
hundred times less accurate than the steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Ints
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.stepper import Attempt, Time, fraction
from torch import Tensor

TINY = 1e-9
"""A fraction of a step below which its start stands for the value (above which, of 1, its end)."""


def remember(step: Attempt, f: VectorField, t: Time, h: Time) -> None:
    """Keep with a step what a shorter one needs."""
    step.extra["again"] = (f, t, h)


def field_at(step: Attempt, at: Ints) -> VectorField:
    """The right-hand side of the rows `at [P]` of a step."""
    f: VectorField = step.extra["again"][0]
    return f if f.select is None else f.select(torch.from_numpy(at).to(step.x0.device))


def place(rows: Ints | None, theta: Any, step: Attempt) -> Ints:
    """The rows `[P]` of the points asked for."""
    if rows is None or step.x0.shape[0] == 1:
        return np.zeros(len(theta), dtype=np.int64)
    return rows


def shorter(step: Attempt, at: Ints, theta: Any) -> tuple[Tensor, Time, Time]:
    """Start, time and size of the shorter steps, `[P, n]` and `[P]`."""
    _, t, h = step.extra["again"]
    rows = torch.from_numpy(at).to(step.x0.device)
    x0 = step.x0.index_select(0, rows)
    if any(isinstance(v, Tensor) for v in (t, h, theta)):
        T, H = ((v if isinstance(v, Tensor) else clock(v, x0)).index_select(0, rows) for v in (t, h))
        share = theta if isinstance(theta, Tensor) else clock(np.asarray(theta, dtype=np.float64), x0)
        return x0, T, share.clamp(min=TINY) * H
    return x0, t[at], np.maximum(theta, TINY) * h[at]


def ended(step: Attempt, at: Ints, theta: Any, inside: Tensor) -> Tensor:
    """`inside`, with the very ends of the step where theta is 0 or 1."""
    rows = torch.from_numpy(at).to(step.x0.device)
    share = fraction(theta, inside).detach()
    value = torch.where(share <= TINY, step.x0.index_select(0, rows), inside)
    return torch.where(share >= 1 - TINY, step.x1.index_select(0, rows), value)
