"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no schedule state.

A schedule maps (step, total) to a factor of the optimiser's learning rate `lr`; step counts from 0. The
`plateau` schedule depends on the losses seen and keeps its state in the checkpoint.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ndl.runtime.errors import SettingError, did_you_mean

Factor = Callable[[int, int], float]


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule by name, as `cosine(1e-6)` in a program; checked when it is made."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise SettingError(
                f"there is no schedule `{self.name}`",
                help=did_you_mean(self.name, SCHEDULES) or f"schedules are {', '.join(sorted(SCHEDULES))}",
            )
        known = [p for p in inspect.signature(SCHEDULES[self.name]).parameters if p != "lr"]
        for option in self.options:
            if option not in known:
                raise SettingError(
                    f"the schedule `{self.name}` has no option `{option}`",
                    help=did_you_mean(option, known) or f"its options are {', '.join(known) or 'none'}",
                )

    @staticmethod
    def of(name: str, *values: Any, **options: Any) -> ScheduleSpec:
        """With positional options, in the order of the schedule's own."""
        if name in SCHEDULES:
            known = [p for p in inspect.signature(SCHEDULES[name]).parameters if p != "lr"]
            if len(values) > len(known):
                raise SettingError(f"the schedule `{name}` takes at most {len(known)} options")
            options = {**dict(zip(known, values)), **options}
        return ScheduleSpec(name, options)

    def build(self, lr: float) -> Factor | Plateau:
        """The schedule for a base rate `lr`."""
        try:
            made: Factor | Plateau = SCHEDULES[self.name](lr=lr, **self.options)
        except TypeError as error:
            raise SettingError(f"the schedule `{self.name}`: {error}") from error
        return made


def constant(lr: float) -> Factor:
    """The learning rate as it is."""
    return lambda step, total: 1.0


def cosine(lr: float, to: float = 0.0, steps: int | None = None) -> Factor:
    """Half a cosine from lr to the rate `to` over `steps` (the whole run), constant after."""
    low = to / lr

    def factor(step: int, total: int) -> float:
        s = min(step / max(1, steps or total), 1.0)
        return low + (1 - low) * (1 + math.cos(math.pi * s)) / 2

    return factor


def exponential(lr: float, rate: float = 0.999) -> Factor:
    """lr * rate^step."""
    _positive("exponential", "rate", rate)
    return lambda step, total: rate**step


def step(lr: float, every: int, factor: float = 0.1) -> Factor:
    """lr * factor^(step // every)."""
    _positive("step", "every", every)
    return lambda step, total: factor ** (step // every)


def linear(lr: float, to: float = 0.0, steps: int | None = None) -> Factor:
    """A straight line from lr to the rate `to` over `steps` (the whole run)."""
    low = to / lr
    return lambda step, total: 1 + (low - 1) * min(step / max(1, steps or total), 1.0)


def decay(lr: float, a: float, b: float) -> Factor:
    """The rate itself goes from a to b over the run, by equal ratios (see `anneal`); lr is not used."""
    return lambda step, total: anneal(a, b, step, total) / lr


def inverse_sqrt(lr: float, warmup: int = 1) -> Factor:
    """A straight line up to lr in `warmup` steps, then lr * sqrt(warmup / (step + 1)) (Vaswani et al.
    2017, section 5.3, scaled so that lr is the peak)."""
    _positive("inverse_sqrt", "warmup", warmup)
    return lambda step, total: min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


def warmup(lr: float, steps: int, then: ScheduleSpec | None = None) -> Factor:
    """A straight line from lr/steps to lr in `steps` steps, then the schedule `then` on the rest."""
    _positive("warmup", "steps", steps)
    rest = then.build(lr) if then is not None else constant(lr)
    if isinstance(rest, Plateau):
        raise SettingError("`warmup` cannot go on with `plateau`, whose rate follows the losses")

    def factor(step: int, total: int) -> float:
        if step < steps:
            return (step + 1) / steps
        return rest(step - steps, max(1, total - steps))

    return factor


def one_cycle(lr: float, rise: float = 0.3, start: float = 25.0, end: float = 1e4) -> Factor:
    """From lr/start up to lr in the share `rise` of the run, then down to lr/(start*end), by cosines
    (Smith and Topin 2017, arXiv:1708.07120)."""

    def factor(step: int, total: int) -> float:
        peak = rise * total
        if step < peak:
            return _between(1 / start, 1.0, step / peak)
        return _between(1.0, 1 / (start * end), min((step - peak) / max(1.0, total - 1 - peak), 1.0))

    return factor


@dataclass
class Plateau:
    """Multiplies the rate by `factor` when the watched loss has not fallen by the share `threshold`
    for `patience` observations; never below the rate `to`."""

    lr: float
    patience: int = 10
    factor: float = 0.1
    threshold: float = 1e-4
    to: float = 0.0
    best: float = math.inf
    waited: int = 0
    scale: float = 1.0

    def __call__(self, step: int, total: int) -> float:
        return self.scale

    def observe(self, loss: float) -> None:
        if loss < self.best - self.threshold * abs(self.best) or self.best == math.inf:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale = max(self.scale * self.factor, self.to / self.lr)
            self.waited = 0

    def state(self) -> dict[str, float | int]:
        return {"best": self.best, "waited": self.waited, "scale": self.scale}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited, self.scale = state["best"], state["waited"], state["scale"]


def plateau(
    lr: float, patience: int = 10, factor: float = 0.1, threshold: float = 1e-4, to: float = 0.0
) -> Plateau:
    """The rate falls when the loss (the validation loss, if there is one) no longer does."""
    return Plateau(lr, patience, factor, threshold, to)


def anneal(a: float, b: float, step: int, total: int) -> float:
    """`decay(a, b)` at a step: a at the first, b at the last, by equal ratios when a*b > 0, else by
    equal differences."""
    s = min(step / max(1, total - 1), 1.0)
    if a * b > 0:
        return float(a * (b / a) ** s)
    return a + (b - a) * s


def ramp(a: float, b: float, step: int, total: int) -> float:
    """`ramp(a, b)` at a step: a at the first, b at the last, by equal differences."""
    return a + (b - a) * min(step / max(1, total - 1), 1.0)


def _between(a: float, b: float, s: float) -> float:
    return b + (a - b) * (1 + math.cos(math.pi * s)) / 2


def _positive(schedule: str, option: str, value: float) -> None:
    if not value > 0:
        raise SettingError(f"`{option}` of the schedule `{schedule}` is {value}, not above 0")


SCHEDULES: dict[str, Callable[..., Factor | Plateau]] = {
    "constant": constant,
    "cosine": cosine,
    "exponential": exponential,
    "step": step,
    "linear": linear,
    "decay": decay,
    "inverse_sqrt": inverse_sqrt,
    "warmup": warmup,
    "one_cycle": one_cycle,
    "plateau": plateau,
    # the names that a program uses where the short ones mean a distribution, a path or a word of its own
    "exponential_decay": exponential,
    "step_decay": step,
    "linear_decay": linear,
}
