"""What every kind of method offers the loop: try a step, complete it for continuous output, interpolate.

Shapes: `x [b, n]`; `t` and `h` are host arrays `[b]`, or tensors `[b]` where their gradients matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.runtime.methods import VectorField
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.stepping.control import clock
from torch import Tensor

Time = Any
"""A host array `[b]` of float64, or a tensor `[b]`."""


class Carry(dict[str, Any]):
    """What a method takes from one step to the next, by name: tensors and host arrays with a leading
    member axis. `fresh [b]` says for which members `f0`, the slope at the start, is known; `owed [b]` counts
    evaluations for it that no step has."""

    def owed(self) -> Ints:
        """What is owed, which is paid by that."""
        fresh = self["fresh"]
        found, self["owed"] = self.get("owed", 0), np.zeros(len(fresh), dtype=np.int64)
        return np.where(fresh, found, 0)

    def rows(self, keep: Ints) -> Carry:
        """The rows `keep`."""
        out = Carry()
        for name, value in self.items():
            if isinstance(value, Tensor):
                out[name] = value.index_select(0, torch.from_numpy(keep).to(value.device))
            else:
                out[name] = None if value is None else value[keep]
        return out

    def merge(self, new: Carry, accept: np.ndarray) -> Carry:
        """`new` in the rows `accept`, self in the others; a name that only one side has is taken whole."""
        out = Carry(self)
        for name, value in new.items():
            old = self.get(name)
            if old is None or value is None:
                out[name] = value
            elif isinstance(value, Tensor):
                mask = torch.from_numpy(accept).to(value.device)
                out[name] = torch.where(mask.reshape(-1, *[1] * (value.ndim - 1)), value, old)
            else:
                out[name] = np.where(accept.reshape(-1, *[1] * (value.ndim - 1)), value, old)
        if "fresh" in self and "fresh" in new and self.get("f0") is None:
            out["fresh"] = new["fresh"] & accept
        return out


@dataclass
class Attempt:
    """A step tried. `error [b, n]` is the local error estimate; `ok [b]` is False where an iteration
    failed; `cost [b]` counts evaluations; `stages` serves continuous output (set by `complete`, whose
    evaluations are not counted)."""

    x0: Tensor
    x1: Tensor
    error: Tensor | None
    carry: Carry
    cost: Ints
    ok: np.ndarray | None = None
    stages: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


class Stepper(ABC):
    """One method, prepared for a dtype and device. `order` is that of the solution, `error_order` the lower
    order of its pair; `adaptive` whether it estimates its error; `implicit` whether it iterates."""

    order: float
    error_order: float
    adaptive: bool
    implicit: bool = False
    grow: float = 10.0
    extrapolates: bool = True
    """Whether the solution is of higher order than the one that the error estimate belongs to."""
    revisits: bool = False
    """Whether a step can be made again from its two ends, for continuous output: see `revisit`."""
    width: int = 2
    """Numbers of the size of x that a completed step holds."""
    proposes: bool = False
    """Whether it knows beforehand how large a step the tolerances allow (`propose`)."""
    joins: bool = False
    """Whether `x0`, `x1` and `stages [s, b, n]` are all that `interpolate` reads of a step."""

    def begin(self, f: VectorField, x: Tensor, t: Floats) -> Carry:
        """The carry before the first step."""
        return Carry(fresh=np.zeros(x.shape[0], dtype=bool), f0=None)

    def refresh(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        """The carry after a jump of x in some rows: what was known of the slope there is forgotten."""
        carry["fresh"] = carry["fresh"] & ~rows
        return carry

    def moved(self, f: VectorField, x: Tensor, t: Floats, carry: Carry, rows: np.ndarray) -> Carry:
        """The carry where x stays what it is in some rows and has another derivative."""
        return self.refresh(f, x, t, carry, rows)

    def know(self, carry: Carry, f0: Tensor, rows: np.ndarray) -> None:
        """Slopes `f0` that are known already, in some rows; a method that has no use for them passes."""
        return

    def propose(self, f: VectorField, x: Tensor, t: Floats, h: Floats, carry: Carry) -> Floats:
        """The sizes `[b]` of steps from (x, t) that the tolerances allow; h are the last ones."""
        raise NotImplementedError

    @abstractmethod
    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        """Try a step from (x, t) by h (signed)."""

    def revisit(
        self, f: VectorField, x0: Tensor, x1: Tensor, t: Floats, h: Floats, ids: Ints
    ) -> Attempt | None:
        """Steps of the members `ids [b]` taken before from x0 to x1, to be completed; None for methods
        whose steps depend on earlier ones."""
        return None

    @abstractmethod
    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        """Set `step.stages`, owned by the step; may evaluate f and add to the carry."""

    @abstractmethod
    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        """The state `[P, n]` at the fractions theta `[P]` of the step, of its rows `[P]` (None: all of a
        one-row step)."""

    @abstractmethod
    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """An estimate of the norm of the Jacobian, `[b]`, from the step's stages."""


def stage_times(t: Time, h: Time, c: Floats, x: Tensor) -> tuple[Tensor, ...]:
    """t + c_i h for all stages, each `[b]`."""
    if isinstance(t, Tensor) or isinstance(h, Tensor):
        h = h if isinstance(h, Tensor) else clock(h, x)
        t = t if isinstance(t, Tensor) else clock(t, x)
        return tuple(t + float(ci) * h for ci in c)
    return clock(t + c[:, None] * h, x).unbind(0)


def step_factor(h: Time, x: Tensor) -> Any:
    """h as a factor of `[b, n]`: a number when all members share it, else `[b, 1]`."""
    if isinstance(h, Tensor):
        return h[:, None]
    if len(h) == 1 or (h == h[0]).all():
        return float(h[0])
    return clock(h, x)[:, None]


def hermite(x0: Tensor, x1: Tensor, hf0: Tensor, hf1: Tensor, theta: Tensor) -> Tensor:
    """Cubic Hermite interpolation, third order inside the step; all `[P, n]`, theta `[P, 1]`."""
    s = 1 - theta
    bump = (1 - 2 * theta) * (x1 - x0) + (theta - 1) * hf0 + theta * hf1
    return s * x0 + theta * x1 + theta * (theta - 1) * bump


def fraction(theta: Any, x: Tensor) -> Tensor:
    """Theta `[P]` as a column `[P, 1]` like x."""
    column = theta if isinstance(theta, Tensor) else clock(np.asarray(theta, dtype=np.float64), x)
    return column[:, None]


def pick(x: Tensor, rows: Ints | None) -> Tensor:
    """The rows `[P]` of `x [b, ...]`."""
    if rows is None or x.shape[0] == 1:
        return x
    return x.index_select(0, torch.from_numpy(rows).to(x.device))
