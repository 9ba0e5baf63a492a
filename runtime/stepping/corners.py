"""Corners of the paths that drive an equation: places where a path's rate jumps, where steps end. And stops,
where it has a kink, and only steps chosen by their errors end.

At a corner a path takes its next piece, a hair before it the last one (see `paths_in_time`). So that no stage
of a step sees the wrong side, a step up to a corner ends on its near side, the next one begins on its far
side, and what a method has kept of the rate is made anew.
"""

from __future__ import annotations

import numpy as np
import torch
from ndl.runtime.paths_in_time import ROUNDING, PiecewiseCubic
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.stepper import Stepper


def corners_of(problem: Problem) -> tuple[Floats, float]:
    """The corners inside a run, in its direction, and how far before them their near side is. Equations with
    noise have none: their methods read rates at the starts of steps, and the Brownian path has no gaps."""
    model, found, reach = problem.model, [np.empty(0)], 0.0
    low, high = sorted((problem.t0, problem.t1))
    for spec in model.INPUTS if not model.NOISES else ():
        path = model.path_given(spec.name) if spec.on_time else None
        if isinstance(path, PiecewiseCubic) and path.corners is not None:
            found.append(path.corners.detach().cpu().to(torch.float64).numpy())
            reach = max(reach, float(path.ts.abs().max()))
    if len(found) == 1:
        return found[0], 0.0
    times = np.unique(np.concatenate(found))
    times = times[(times > low) & (times < high)][:: int(problem.sign)]
    return times, 2 * ROUNDING * torch.finfo(problem.dtype).eps * reach


class Corners:
    """What a loop asks of the corners; false where there are none."""

    def __init__(self, problem: Problem) -> None:
        self.sign = problem.sign
        self.times, self.width = corners_of(problem)
        shift = self.width if self.sign > 0 else 0.0
        self.near, self.far = self.times - shift, self.times + shift - self.width

    def __bool__(self) -> bool:
        return len(self.times) > 0

    def limit(self, t: Floats, target: Floats) -> Floats:
        """How far steps from t may go, at most to `target`."""
        ahead = np.append(self.sign * self.near, np.inf)
        place = np.searchsorted(ahead, self.sign * t + 2 * self.width, side="right")
        found: Floats = self.sign * np.minimum(self.sign * target, ahead[place])
        return found

    def passed(self, end: Floats) -> tuple[np.ndarray, Floats]:
        """Which steps have ended at a corner, and the times from which all go on."""
        if not self:
            return np.zeros(len(end), dtype=bool), end
        place = np.clip(np.searchsorted(self.sign * self.near, self.sign * end), 0, len(self.near) - 1)
        here = self.near[place] == end
        return here, np.where(here, self.far[place], end)

    def split(self, starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
        """Fixed steps cut at the corners: their starts and ends."""
        if not self or not len(ends):
            return starts, ends
        inner = ends[:-1]
        apart = np.abs(inner[:, None] - self.times[None, :]).min(axis=1) > 2 * self.width
        begins = np.concatenate([starts[:1], inner[apart], self.far])
        stops = np.concatenate([inner[apart], self.near, ends[-1:]])
        return self.sign * np.sort(self.sign * begins), self.sign * np.sort(self.sign * stops)


def stops_of(problem: Problem) -> Floats:
    """Where steps chosen by their errors end, in the direction of a run: the knots inside it at which the
    second or third derivative of a path jumps. The rates of `dz = f(z)*dX` have a kink there, of which an
    estimate by the stages of one step says little, least of all where a method takes the rate's derivative by
    time at its start. A stop lies where the step that begins there has the piece ahead."""
    model, found = problem.model, [np.empty(0)]
    low, high = sorted((problem.t0, problem.t1))
    for spec in model.INPUTS if not model.NOISES else ():
        path = model.path_given(spec.name) if spec.on_time else None
        if isinstance(path, PiecewiseCubic) and path.breaks is not None and path.corners is None:
            slack = 2 * ROUNDING * torch.finfo(problem.dtype).eps * float(path.ts.abs().max())
            knots = path.breaks.detach().cpu().to(torch.float64).numpy()
            found.append(knots if problem.sign > 0 else knots - slack)
    times = np.unique(np.concatenate(found))
    return times[(times > low) & (times < high)][:: int(problem.sign)]


class Stops:
    """What a loop asks of them; false where there are none."""

    def __init__(self, problem: Problem, active: bool) -> None:
        self.sign = problem.sign
        self.times = stops_of(problem) if active else np.empty(0)

    def __bool__(self) -> bool:
        return len(self.times) > 0

    def limit(self, t: Floats, size: Floats, target: Floats) -> Floats:
        """How far steps of a `size` may go from t, at most to `target`: to the next stop, where they do not
        pass the one after that as well. Over many stops their error tells enough, and to end at each would
        cost more than it is worth."""
        ahead = self.sign * np.append(self.times, self.sign * np.array([np.inf, np.inf]))
        place = np.searchsorted(ahead, self.sign * t, side="right")
        few = size < ahead[place + 1] - self.sign * t
        found: Floats = self.sign * np.minimum(self.sign * target, np.where(few, ahead[place], np.inf))
        return found


def plain_steps(problem: Problem, stepper: Stepper) -> bool:
    """Whether fixed steps keep nothing of the rate that a corner would make wrong."""
    if not Corners(problem):
        return True
    if not isinstance(stepper, ExplicitRK) or stepper.fsal:
        return False
    return problem.save.kind != "grid" or stepper.dense is not None
