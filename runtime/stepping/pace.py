"""Where a step ends: fixed steps on a grid of times, or proposed steps that meet the end without a sliver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.stepper import Stepper

if TYPE_CHECKING:
    from ndl.runtime.stepping.loop import Loop


NOTCHES = 6
"""Binary digits of a dyadic step."""


@dataclass(frozen=True)
class Pace:
    """`step` is the size of fixed steps, None when the error decides; `longest` and `first` bound and
    start the latter (options `hmax`, `h0`)."""

    t0: float
    t1: float
    step: float | None = None
    longest: float = np.inf
    cfl: float | None = None
    """The Courant number that each step is to have."""
    first: float | None = None
    dyadic: bool = False
    """Whether adaptive steps end at dyadic times: under noise, where a path at times that differ by rounding
    differs by a thousand times as much, and so would all later steps. Such times also need fewer halvings."""

    @property
    def fixed(self) -> bool:
        """Whether the error decides nothing."""
        return self.step is not None or self.cfl is not None

    @staticmethod
    def of(problem: Problem, stepper: Stepper) -> Pace:
        """From the method's options. Raises `SettingError` when a fixed method has no step."""
        options, t0, t1 = problem.method.options, problem.t0, problem.t1
        name = problem.method.name
        step = fixed_step(options, t0, t1, name)
        cfl = courant(problem)
        if cfl is not None:
            return Pace(t0, t1, None, step or np.inf, cfl)
        if step is None and not stepper.adaptive:
            raise SettingError(
                f"`{name}` does not estimate its error and needs a step",
                help=f"write `{name}(h=0.01)` or `{name}(steps=100)`",
            )
        longest = float(options.get("hmax") or np.inf)
        first = options.get("h0")
        dyadic = bool(problem.model.NOISES)
        return Pace(t0, t1, step, longest, None, None if first is None else float(first), dyadic)

    def end(self, loop: Loop, target: Floats) -> Floats:
        """Where the next step of each running member ends; it does not pass `target [b]`."""
        sign, t = loop.p.sign, loop.t
        if self.step is not None:
            return np.asarray(
                sign * np.minimum(sign * fixed_end(t, self.t0, self.t1, self.step), sign * target)
            )
        room = sign * (target - t)
        if self.cfl is not None:
            # the last two steps before a target share what is left
            size = np.minimum(self.cfl * reciprocal(loop), self.longest)
            last = size >= (1 - 1e-9) * room
            size = np.where(2 * size > room, 0.5 * room, size)
            return np.where(last, target, t + sign * size)
        size = np.minimum(loop.h, self.longest)
        size = np.where(2 * size > room, 0.5 * room, size)
        whole = 1.01 * np.minimum(loop.h, self.longest) >= room
        end = t + sign * size
        return np.where(whole, target, notch(end, size) if self.dyadic else end)


def courant(problem: Problem) -> float | None:
    """The option `cfl`. Raises `SettingError` where the speeds of a model's waves are not known."""
    cfl = problem.method.options.get("cfl")
    if cfl is None:
        return None
    if not problem.model.PACED:
        raise SettingError(
            f"`{problem.method.name}(cfl={cfl:g})` wants the speed of waves, which `{problem.model.NAME}` "
            "does not tell",
            help="give its grid a scheme, such as `uniform(200, scheme=weno5)`, or write `h=…`",
        )
    return float(cfl)


def reciprocal(loop: Loop) -> Floats:
    """Steps of Courant number 1 of the members that run."""
    with torch.no_grad():
        pace = loop.model.pace(clock(loop.t, loop.x), loop.x.detach())
    found = host(pace.expand(len(loop.ids)).double())
    # waves that stand still, or are no numbers, limit nothing: the state itself tells that it is none
    return np.where(found > 0, 1 / np.where(found > 0, found, 1.0), np.inf)


def notch(end: Floats, size: Floats) -> Floats:
    """The nearest multiples of 2^-NOTCHES of the powers of two below the sizes of steps."""
    grain = np.ldexp(1.0, np.frexp(size)[1] - 1 - NOTCHES)
    with np.errstate(divide="ignore", invalid="ignore"):  # of a size that is no number, which fails
        found: Floats = np.rint(end / grain) * grain
    return found


def fixed_step(options: dict[str, Any], t0: float, t1: float, name: str) -> float | None:
    """The size of fixed steps from the options `h` or `steps`; None when neither is given."""
    if options.get("h") is not None:
        h = abs(float(options["h"]))
        if not (h > 0 and np.isfinite(h)):
            raise SettingError(f"`{name}` needs a step h > 0, not {options['h']:g}")
        return h
    if options.get("steps") is not None:
        count = int(options["steps"])
        if count < 1:
            raise SettingError(f"`{name}` needs at least one step, not {count}")
        return max(abs(t1 - t0), 1e-300) / count
    return None


def fixed_end(t: Floats, t0: float, t1: float, step: float) -> Floats:
    """The next of the times t0 + k step after t (counting from t0, so that rounding does not add up), or
    t1 where less than a billionth of a step would be left."""
    sign = 1.0 if t1 >= t0 else -1.0
    k = np.floor(sign * (t - t0) / step + 1e-9) + 1
    end = t0 + sign * k * step
    return np.where(sign * (t1 - end) <= 1e-9 * step, t1, end)
