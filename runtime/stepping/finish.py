"""From what a run left behind to its `Solution`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ndl.runtime.events import EventWatch
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Events, Interpolant, Solution, Stats, Steps
from ndl.runtime.stepping.consistent import slopes
from ndl.runtime.stepping.control import Tolerances, clock
from ndl.runtime.stepping.loop import Outcome
from ndl.runtime.stepping.stepper import Attempt, Stepper, hermite
from ndl.runtime.stepping.trail import StepTable, Trail, TrailInterpolant
from torch import Tensor


def solution_of(problem: Problem, stepper: Stepper, outcome: Outcome) -> Solution:
    """The solution of what a loop has done."""
    saved = outcome.recorder.result() if outcome.recorder.slots.any() else _nothing(problem)
    table = outcome.trail.table()
    interpolant: Interpolant | None = None
    if outcome.trail.keep and outcome.trail.pieces:
        interpolant = TrailInterpolant(outcome.trail, stepper, saved.t[:, 0], outcome.x0)
    elif problem.save.kind != "end":
        interpolant = SavedInterpolant(problem, saved)
    return Solution(
        problem,
        saved,
        {"x": outcome.last},
        outcome.last_t,
        stats_of(problem, outcome.steps, outcome.rejected, outcome.evaluations),
        steps_of(
            problem,
            table,
            lambda: stiffness_of(outcome.trail, stepper, table),
            (lambda: errors_of(problem, outcome.trail, table)) if problem.taped else None,
        ),
        events_of(problem, outcome.watch),
        interpolant,
    )


def _nothing(problem: Problem) -> Saved:
    """A run that failed before anything was saved."""
    b, n = problem.count, problem.size
    return Saved(np.empty((b, 0)), np.empty((b, 0), dtype=bool), {"x": problem.x0.new_empty(b, 0, n)})


def stats_of(problem: Problem, steps: Ints, rejected: Ints, evaluations: Ints) -> Stats:
    """Counts for each member, or of the only one."""
    if problem.ensemble:
        return Stats(*(torch.from_numpy(a.copy()) for a in (steps, rejected, evaluations)))
    return Stats(int(steps[0]), int(rejected[0]), int(evaluations[0]))


def steps_of(
    problem: Problem,
    table: StepTable | Callable[[], StepTable],
    stiffness: Callable[[], Tensor],
    error: Callable[[], Tensor] | None = None,
) -> Steps:
    """The accepted steps; `error`, with its gradient, `[B, K]`, replaces what the host has kept. A table that
    is a function is made when somebody reads it."""

    def known() -> StepTable:
        return table() if callable(table) else table

    def shown(values: Any) -> Tensor:
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(known().padded(values))
        return tensor if problem.ensemble else tensor[0]

    return Steps(
        lambda: (shown(known().t), shown(known().h)),
        lambda: shown(known().error if error is None else error()),
        lambda: shown(stiffness()),
    )


def stiffness_of(trail: Trail, stepper: Stepper, table: StepTable) -> Tensor:
    """`[B, K]`, padded with nan, from the stages that the trail kept."""
    if not trail.keep:
        raise AttributeError("the stages of this run were not kept; use `save = steps`")

    def one(attempt: Attempt, size: Floats) -> Tensor:
        return stepper.stiffness(attempt, size)

    return by_step(trail, table, one)


def by_step(trail: Trail, table: StepTable, number: Callable[[Attempt, Floats], Tensor]) -> Tensor:
    """A number for each step, `[B, K]` padded with nan; `number(attempt, h [b])` gives them `[b]`."""
    values = []
    for piece in trail.pieces:
        attempt = trail.attempt(piece)
        size = np.ones(attempt.x0.shape[0])
        size[piece.rows] = piece.h
        rows = torch.from_numpy(piece.rows).to(attempt.x0.device)
        values.append(number(attempt, size).index_select(0, rows))
    ids = np.concatenate([p.ids for p in trail.pieces])
    ordered = torch.cat(values)[torch.from_numpy(np.argsort(ids, kind="stable"))]
    out = ordered.new_full((trail.count, int(table.many.max(initial=0))), float("nan"))
    place = np.arange(len(table.ids)) - table.starts[table.ids]
    return out.index_put((torch.from_numpy(table.ids), torch.from_numpy(place)), ordered)


def errors_of(problem: Problem, trail: Trail, table: StepTable) -> Tensor:
    """The scaled error norms of the accepted steps with their gradients, `[B, K]`."""
    tolerances = Tolerances.of(problem)

    def norm(attempt: Attempt, h: Floats) -> Tensor:
        if attempt.error is None:
            return torch.zeros_like(attempt.x1[:, 0])
        return tolerances.norm(attempt.error, attempt.x0.abs(), attempt.x1.abs())

    if not trail.keep:
        raise AttributeError("the steps of this run were not kept; use `gradient = discrete`")
    if not trail.pieces:
        return problem.x0.new_zeros(problem.count, 0)
    return by_step(trail, table, norm)


def events_of(problem: Problem, watch: EventWatch | None = None, times: Tensor | None = None) -> Events:
    """The events of a run; `times`, one for each firing and with its gradient, replaces the host's."""
    texts = tuple(e.text for e in problem.model.EVENTS)
    found = watch.firings if watch is not None else []
    if not found:
        shape = (problem.count, 0) if problem.ensemble else (0,)
        return Events(torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.int64), texts)
    t = torch.tensor([e.t for e in found], dtype=torch.float64) if times is None else times
    index = torch.tensor([e.event for e in found], dtype=torch.int64)
    if not problem.ensemble:
        return Events(t, index, texts)
    members = np.array([e.member for e in found], dtype=np.int64)
    many = np.bincount(members, minlength=problem.count)
    order = np.argsort(members, kind="stable")
    place = np.arange(len(found)) - np.repeat(np.cumsum(many) - many, many)
    width = int(many.max(initial=0))
    at = (torch.from_numpy(members[order]), torch.from_numpy(place))
    pick = torch.from_numpy(order)
    padded = t.new_full((problem.count, width), float("nan")).index_put(at, t[pick])
    which = index.new_full((problem.count, width), -1).index_put(at, index[pick])
    return Events(padded, which, texts)


class Lazy:
    """An interpolant made when it is first used."""

    def __init__(self, make: Callable[[], Interpolant]) -> None:
        self._make = make
        self._made: Interpolant | None = None

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        if self._made is None:
            self._made = self._make()
        return self._made(ids, t)


class Between:
    """Saved values at their times, at others the method's continuous output."""

    def __init__(self, saved: Saved, dense: Interpolant) -> None:
        self.saved, self.dense = saved, dense

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        saved, sign = self.saved, 1.0 if self.saved.t[0, -1] >= self.saved.t[0, 0] else -1.0
        slot = np.searchsorted(sign * saved.t[0], sign * t).clip(max=saved.t.shape[1] - 1)
        if ((saved.t[ids, slot] == t) & saved.valid[ids, slot]).all():
            return {name: values[ids, slot] for name, values in saved.values.items()}
        return self.dense(ids, t)


class SavedInterpolant:
    """Cubic Hermite interpolation between saved values, with slopes from the model; linear where the
    values are of a kind without slopes (noises)."""

    def __init__(self, problem: Problem, saved: Saved) -> None:
        self.problem, self.saved = problem, saved
        self._slopes: Tensor | None = None

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        saved, sign = self.saved, self.problem.sign
        place = np.zeros(len(ids), dtype=np.int64)
        for m in np.unique(ids):
            mine = ids == m
            times = saved.t[m][saved.valid[m]]
            slack = 1e-9 * max(abs(times[0]), abs(times[-1]), 1e-3)
            if (sign * t[mine] < sign * times[0] - slack).any() or (
                sign * t[mine] > sign * times[-1] + slack
            ).any():
                low, high = sorted((times[0], times[-1]))
                raise ValueError(f"a time asked for is outside the saved times {low:g}..{high:g}")
            at = np.searchsorted(sign * times, sign * t[mine], side="right") - 1
            place[mine] = np.clip(at, 0, max(len(times) - 2, 0))
        after = np.minimum(place + 1, saved.t.shape[1] - 1)
        h = saved.t[ids, after] - saved.t[ids, place]
        x = saved.values["x"]
        theta = clock((t - saved.t[ids, place]) / np.where(h == 0, 1.0, h), x)[:, None]
        out: dict[str, Tensor] = {}
        for name, values in saved.values.items():
            v0, v1 = values[ids, place], values[ids, after]
            if name == "x" and not self.problem.model.NOISES and not self.problem.model.INTEGRALS:
                rates = self._rates()
                step = clock(h, x)[:, None]
                out[name] = hermite(v0, v1, step * rates[ids, place], step * rates[ids, after], theta)
            else:
                share = theta.reshape(-1, *[1] * (v0.ndim - 1))
                out[name] = v0 + share * (v1 - v0)
        return out

    def _rates(self) -> Tensor:
        if self._slopes is None:
            f = self.problem.field()
            x = self.saved.values["x"].transpose(0, 1)
            t = clock(np.ascontiguousarray(self.saved.t.T), x)
            self._slopes = slopes(f, x, t).transpose(0, 1)
        return self._slopes
