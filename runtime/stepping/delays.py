"""Delay equations by the method of steps: which steps a run may take, and where its solution is not smooth.

A step is no longer than the shortest lag, so that it reads only what is known. The jump of the first
derivative at the start or at a located break, and that of the state at an event, comes back after each lag, a
derivative higher each time: such times are ends of steps, until the method does not see them. A. Bellen, M.
Zennaro, "Numerical Methods for Delay Differential Equations", Oxford 2003.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.past import Past, bound, constant_lags, past_of
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.echoes import Echoes
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.stepper import Attempt, Stepper
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.stepping.loop import Loop

SAME = 1e-12
"""The part of the span within which two times are the same."""


def delaying(problem: Problem, stepper: Stepper) -> Problem:
    """The problem itself, or for a model with delays one that reads its own past. Raises `SettingError` for
    runs that have none."""
    model, method = problem.model, problem.method.name
    if not model.DELAYS:
        return problem
    if problem.sign < 0:
        raise SettingError(f"`{model.NAME}` has delays and cannot be run backwards")
    if problem.gradient in ("adjoint", "reversible"):
        raise SettingError(
            f"`gradient = {problem.gradient}` is not for equations with delays, which `{model.NAME}` has",
            help="use `gradient = discrete` or `checkpoint(n)`",
        )
    if isinstance(problem.gradient, tuple) and not isinstance(stepper, ExplicitRK):
        # the derivatives inside an implicit step would call for all stretches before it again
        raise SettingError(
            f"`checkpoint(n)` of an equation with delays, which `{model.NAME}` is, needs an explicit method",
            help="use `gradient = discrete`",
        )
    if getattr(stepper, "short", False):
        raise SettingError(
            f"`{method}` has no continuous output that `{model.NAME}` could read its delays from",
            help="use `tsit5`, `dopri5`, or for stiff equations `rosenbrock23` or `bdf`",
        )
    varying = [d for d in model.DELAYS if not d.constant and d.place is not None]
    if varying and problem.taped and any(e.resets for e in model.EVENTS):
        # where a jump comes back after such a delay is left to error control
        raise SettingError(
            f"the gradient of `{model.NAME}` does not follow the jumps of its events through "
            f"`{varying[0].text}`, whose delay changes in a run",
            help="use `gradient = none`, a delay that stays the same, or a model without resets",
        )
    if varying and not isinstance(stepper, ExplicitRK):
        noisy = bool(model.NOISES)
        raise SettingError(
            f"`{method}` is for delays that stay the same, and `{varying[0].text}` changes in a run",
            help="with noise, use a number or parameters"
            if noisy
            else "use an explicit method, such as `tsit5`",
        )
    if model.NOISES:
        _refuse_noisy(problem)
    lag = constant_lags(problem, model.DELAYS)
    for k, info in enumerate(model.DELAYS):
        if (lag[k] <= 0).any():
            raise SettingError(f"the delay in `{info.text}` is {lag[k].min():g}; a delay is above 0")
    return bound(problem, Past(problem.x0, problem.t0, stepper, lag))


def _refuse_noisy(problem: Problem) -> None:
    """Raise `SettingError` for what delays beside noise do not have."""
    model, x0, options = problem.model, problem.x0.detach(), problem.method.options
    if fixed_step(options, problem.t0, problem.t1, problem.method.name) is None:
        raise SettingError(
            f"`{model.NAME}` has delays and noise, for which steps are fixed",
            help="write `euler_maruyama(h=0.01)`",
        )
    if problem.taped and model.lags(x0.new_tensor(problem.t0), x0).requires_grad:
        # where the past is read moves along a rough path
        raise SettingError(
            f"a path under noise has no derivative by the delays of `{model.NAME}`",
            help="make them a `const`, or give numbers: `model.bind(tau=0.3)`",
        )


def refuse_delays(problem: Problem, kind: str) -> None:
    """Raise `SettingError` for a model with delays."""
    if problem.model.DELAYS:
        raise SettingError(
            f"delays are for ordinary equations, and `{problem.model.NAME}` has them {kind}",
            help="use a method such as `tsit5`",
        )


def settled(problem: Problem) -> Problem:
    """The problem with a past that no later step changes."""
    past = past_of(problem)
    return problem if past is None else bound(problem, past.copy())


class Delays:
    """What a loop asks of the delays; false where the model has none."""

    def __init__(self, problem: Problem, stepper: Stepper) -> None:
        self.problem, self.past = problem, past_of(problem)
        # under noise no method has an order that the jump of a derivative would cost
        self.depth = 0 if problem.model.NOISES else int(np.ceil(stepper.order)) + 1
        self.slack = SAME * max(abs(problem.t1 - problem.t0), abs(problem.t0), abs(problem.t1))
        self.moving = any(not d.constant and d.place is not None for d in problem.model.DELAYS)
        self.next = np.full(problem.count, np.inf)
        if self.past is not None:
            self.past.rewind(0)
            self.past.x0 = problem.x0
            self.echoes = Echoes.make(self.past.lag, self.depth, problem.t1 - problem.t0, self.slack)

    def __bool__(self) -> bool:
        return self.past is not None

    @cached_property
    def times(self) -> list[Floats]:
        """Of each member, when the jumps so far come back."""
        return [self.problem.t0 + self.echoes.of(member)[0] for member in range(self.problem.count)]

    def sources(self, member: int, ends: Floats, times: Floats) -> list[tuple[int, int, Ints]]:
        """Of the ends `[S]` of a member's steps, those at which the jump of a derivative comes back: the
        number of the step, that of the jump among those at the `times [F]` (-1: the start of the run), and
        how many of each delay lie between."""
        spans, made = self.echoes.of(member)
        found: dict[int, tuple[int, int, Ints]] = {}
        for number, time in enumerate([self.problem.t0, *times.tolist()], -1):
            for span, counts in zip(time + spans, made, strict=True):
                place = int(np.abs(ends - span).argmin())
                if abs(ends[place] - span) <= self.slack:
                    found[place] = (place, number, counts)
        return list(found.values())

    def lags(self) -> Tensor:
        """`[B, D]`: the delays that stay the same, 0 for others, with their derivative."""
        p = self.problem
        lags = p.model.lags(p.x0.new_tensor(p.t0), p.x0.detach()).expand(p.count, -1)
        places = [d.place if d.constant else None for d in p.model.DELAYS]
        return torch.stack([torch.zeros_like(p.x0[:, 0]) if k is None else lags[:, k] for k in places], -1)

    def _distinct(self, times: Floats) -> Floats:
        times = np.sort(times)
        distinct: Floats = times[np.diff(times, prepend=-np.inf) > self.slack]
        return distinct

    def jumped(self, ids: Ints, t: Floats) -> None:
        """The states of some members have jumped at the times t."""
        for member, time in zip(ids.tolist(), t.tolist(), strict=True):
            echoes = time + self.echoes.of(member)[0]
            echoes = echoes[echoes < self.problem.t1 - self.slack]
            self.times[member] = self._distinct(np.concatenate([self.times[member], echoes]))

    def limit(self, loop: Loop, target: Floats) -> Floats:
        """How far the next step of each running member may go, at most to `target`."""
        assert self.past is not None
        for row, member in enumerate(loop.ids.tolist()):
            times = self.times[member]
            place = int(np.searchsorted(times, loop.t[row] + self.slack, side="right"))
            self.next[member] = times[place] if place < len(times) else np.inf
        shortest = np.nanmin(np.where(np.isnan(self.past.lag), np.inf, self.past.lag), axis=0)[loop.ids]
        if self.moving:
            lags = host(loop.model.lags(clock(loop.t, loop.x), loop.x).expand(len(loop.ids), -1))
            if (lags <= 0).any():
                loop.fail_delay(int(np.nonzero((lags <= 0).any(axis=1))[0][0]))
            shortest = np.minimum(shortest, lags.min(axis=1))
        found: Floats = np.minimum(np.minimum(target, self.next[loop.ids]), loop.t + shortest)
        return found

    def aim(self, ids: Ints, t: Floats, h: Floats) -> None:
        """Notes the steps that are tried next."""
        if self.past is not None:
            self.past.aim(ids, t, h)

    def judge(self, step: Attempt, ids: Ints) -> None:
        """A step that has read what is not known yet is not accepted."""
        if self.past is not None and self.moving:
            known = ~self.past.ahead[ids]
            step.ok = known if step.ok is None else step.ok & known

    def reached(self, ids: Ints, t: Floats) -> np.ndarray:
        """Which members `[b]` have come to a time at which the solution is not smooth."""
        return np.asarray(np.abs(t - self.next[ids]) <= self.slack)
