"""Discontinuities of a right-hand side, located without being asked, and stepped onto.

`model.breaks(t, x)` changes sign where the vector field changes its formula. A step over such a place is not
taken: first one that ends shortly before it; from there the old formula, extrapolated, tells how far it is.
Shorter steps follow until one across it costs no accuracy; then the run goes on with the new formula and the
old step size. Only runs with error control look for breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ndl.runtime.lattice import leaf_of
from ndl.runtime.model import Model
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.roots import locate
from ndl.runtime.stepping.control import clock, host
from ndl.runtime.stepping.stepper import Attempt
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.stepping.loop import Loop

MARGIN = 2e-2
"""A first step towards a break ends this fraction of the way before it: its location inside a step that
crosses it is no better."""
ACROSS = 2.2
"""A step across a break is so many times its distance: not twice, where stages at the middle of a step would
stand on it, and rounding decide on which side."""
FINE = 1e-3
"""The same once the distance is known by extrapolation; stages of order three stay on the old side."""
HARMLESS = 0.05
"""The part of the tolerance that a step across may cost."""
SLIDING = 200
"""Crossings after which, if they are more than a tenth of all steps, a member slides along a break and is
left to error control."""


class BreakWatch:
    """Signs of the break functions of the running members, `[b, K]`, and where each stands towards one:
    `permit` is the longest step that may cross, `gap` the next step, `normal` the size to return to."""

    def __init__(self, problem: Problem, active: bool) -> None:
        self.active = active and problem.model.BREAKS > 0
        # under noise, the time in which the path is smooth: as for events
        self.leaf = leaf_of(problem)
        b = problem.count
        self.g = np.zeros((b, problem.model.BREAKS))
        self.chosen = np.full(b, np.nan)
        self.permit = np.zeros(b)
        self.gap = np.full(b, np.nan)
        self.normal = np.zeros(b)
        self.close = np.zeros(b, dtype=bool)
        self.crossed = np.zeros(b, dtype=bool)
        self.count = np.zeros(b, dtype=np.int64)
        self.crossings: list[tuple[int, int, int]] = []

    def __bool__(self) -> bool:
        return self.active

    def start(self, model: Model, ids: Ints, t: Floats, x: Tensor) -> None:
        """Takes the sides at (t, x)."""
        if self.active:
            self.g = self._values(model, t, x)

    def rows(self, stay: Ints) -> None:
        """Keeps some rows."""
        for name in ("g", "chosen", "permit", "gap", "normal", "close", "crossed", "count"):
            setattr(self, name, getattr(self, name)[stay])

    def judge(
        self, loop: Loop, step: Attempt, h: Floats, end: Floats, error: Floats, accept: np.ndarray
    ) -> np.ndarray:
        """Takes back the acceptance of steps over a break that are not yet tiny, and chooses their size."""
        b, size = len(loop.ids), np.abs(h)
        self.chosen, self.gap = np.full(b, np.nan), np.full(b, np.nan)
        g1 = self._values(loop.model, end, step.x1)
        sliding = self.count > np.maximum(SLIDING, 0.1 * loop.steps[loop.ids])
        cross = (self.g * g1 < 0) & (np.isfinite(error) & ~sliding)[:, None]
        rows = cross.any(axis=1)
        self.crossed = rows & accept & (size <= self.permit)
        far = rows & ~self.crossed
        near = self.close & accept & ~rows
        short = near & (size <= self.permit)
        if short.any():
            self._onward(short, size)
            near &= ~short
        if not (far.any() or near.any()):
            return accept
        loop.stepper.complete(loop.f, step, loop.t, h)
        floor = 2e-14 * np.maximum(np.abs(loop.t), np.abs(end))
        if far.any():
            distance = self._first(loop, step, h, cross & far[:, None], g1, np.zeros(b), np.ones(b)) * size
            self.normal = np.where(far & ~self.close, size, self.normal)
            tiny = far & (distance <= floor)
            chosen = np.where(
                error > 1, np.minimum((1 - MARGIN) * distance, 0.9 * size), (1 - MARGIN) * distance
            )
            chosen = np.where(tiny, np.maximum(ACROSS * distance, floor), chosen)
            self.chosen = np.where(far, chosen, np.nan)
            self.permit = np.where(tiny, 1.01 * chosen, np.where(far, 0.0, self.permit))
            self.close |= far
        if near.any():
            self._measure(loop, step, h, end, near, floor)
        return np.asarray(accept & ~far)

    def _onward(self, short: np.ndarray, size: Floats) -> None:
        """For rows whose step across was `short`, since the new field is slower: one twice as long, as long
        as that is small."""
        more = 2 * size
        go = short & (8 * more <= self.normal)
        self.gap = np.where(go, more, np.where(short, self.normal, self.gap))
        self.permit = np.where(go, 1.01 * more, np.where(short, 0.0, self.permit))
        self.close &= go | ~short

    def _measure(
        self, loop: Loop, step: Attempt, h: Floats, end: Floats, near: np.ndarray, floor: Floats
    ) -> None:
        """For rows that came close to a break: how far it still is, by extrapolation, and the next step."""
        b, size = len(loop.ids), np.abs(h)
        beyond = np.full(b, 1 + 3 * MARGIN)
        everyone = np.arange(b)
        here = self._values(loop.model, end, step.x1)
        x = loop.stepper.interpolate(step, everyone, beyond)
        there = self._values(loop.model, loop.t + beyond * h, x)
        ahead = (here * there < 0) & near[:, None]
        seen = ahead.any(axis=1)
        self.close = np.where(near & ~seen, False, self.close)
        self.gap = np.where(near & ~seen, self.normal, self.gap)
        if not seen.any():
            return
        old, self.g = self.g, here
        theta = self._first(loop, step, h, ahead, there, np.ones(b), beyond)
        self.g = old
        distance = np.maximum((theta - 1) * size, 0.0)
        # what crossing costs: the jump of the field over the distance
        over = 1 + 2 * (theta - 1)
        x = loop.stepper.interpolate(step, everyone, over)
        jump = loop.f(x, clock(loop.t + over * h, x)) - loop.f(step.x1, clock(end, x))
        loop.evaluations[loop.ids] += 2 * seen
        a = step.x1.abs()
        cost = host(loop.tol.norm(jump * clock(distance, x)[:, None], a, a))
        go = (cost <= HARMLESS) | (distance <= floor)
        gap = np.where(go, np.maximum(ACROSS * distance, floor), np.maximum((1 - FINE) * distance, floor))
        self.gap = np.where(seen, gap, self.gap)
        self.permit = np.where(seen, np.where(go, 1.01 * gap, 0.0), self.permit)

    def _first(
        self, loop: Loop, step: Attempt, h: Floats, cross: np.ndarray, last: Floats, low: Floats, high: Floats
    ) -> Floats:
        """The fraction `[b]` at which the first break of each row lies (`high` where there is none)."""
        b = len(loop.ids)
        theta = high.copy()
        coarse = self.leaf / np.maximum(np.abs(h), 1e-300) if self.leaf else np.inf
        for k in np.nonzero(cross.any(axis=0))[0].tolist():
            side = np.sign(self.g[:, k])

            def along(point: Floats, k: int = k, side: Floats = side) -> Floats:
                y = loop.stepper.interpolate(step, np.arange(b), point)
                return np.asarray(self._values(loop.model, loop.t + point * h, y)[:, k] * side)

            width = np.where(cross[:, k], 1e-10, np.inf)
            start = np.where(cross[:, k], np.abs(self.g[:, k]), 1.0)
            _, after = locate(along, low, high, start, last[:, k] * side, width, coarse)
            theta = np.where(cross[:, k], np.minimum(theta, after), theta)
        return theta

    def after(self, loop: Loop, taken: np.ndarray) -> None:
        """After accepted steps: sets the size of the next step of rows close to a break, and lets those
        that have crossed one start afresh."""
        if not self.active:
            return
        crossed, old = self.crossed & taken, self.g
        self.start(loop.model, loop.ids, loop.t, loop.x)
        for i in np.nonzero(crossed)[0]:
            member = int(loop.ids[i])
            across = np.nonzero(old[i] * self.g[i] < 0)[0]
            self.crossings += [(member, int(loop.steps[member]) - 1, int(k)) for k in across]
        near = taken & ~crossed & ~np.isnan(self.gap)
        loop.h = np.where(near, self.gap, loop.h)
        self.close &= ~crossed
        self.count += crossed
        if crossed.any():
            loop.restart(crossed, self.normal)

    @staticmethod
    def _values(model: Model, t: Floats, x: Tensor) -> Floats:
        value = model.breaks(clock(t, x), x)
        return host(value.expand(*x.shape[:-1], value.shape[-1]))
