"""A single step of each member, from a time and with a size of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.banks import banks_of
from ndl.runtime.errors import SettingError
from ndl.runtime.problem import Problem, SavePlan
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Events, Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import errors_of, stats_of, steps_of, stiffness_of
from ndl.runtime.stepping.trail import Piece, Trail, TrailInterpolant
from torch import Tensor


def single_step(model: Any, t0: Tensor, t1: Tensor, **settings: Any) -> Solution:
    """The step from `t0 [B]` to `t1 [B]`, with its estimates; settings as those of `solve`."""
    a, b = (v.detach().cpu().numpy().astype(np.float64) for v in (t0, t1))
    method = settings["method"]
    alone = int(method.options.get("steps") or 0) == 1
    if not alone:
        raise SettingError(
            "a span that differs between samples is for a single step",
            help=f"write `method = {method.name}(steps=1)`, or read a longer run at a time: `s.x(tau)`",
        )
    route = settings.get("gradient", "none")
    if route not in ("none", "discrete"):
        raise SettingError(f"a single step has the gradient `discrete`, not `{route}`")
    given = {k: v for k, v in settings.items() if k not in ("save", "ensemble")}
    span = (float(a.min()), float(b.max()))
    problem = Problem.make(model, span=span, save="end", ensemble=len(a), **given)
    if banks_of(model):
        raise SettingError("a single step at a sample's own time has no set of the weights `per step`")
    if model.NOISES or model.EVENTS or problem.algebraic:
        raise SettingError("a single step at a sample's own time is of ordinary equations without events")
    stepper = stepper_of(problem)
    if not isinstance(stepper, ExplicitRK):
        raise SettingError(f"`{method.name}` is no explicit Runge–Kutta method, of which a single step is")
    with torch.set_grad_enabled(problem.taped):
        return _taken(replace(problem, save=SavePlan("end", b)), stepper, a, b)


def _taken(problem: Problem, stepper: ExplicitRK, a: Any, b: Any) -> Solution:
    count, h = problem.count, b - a
    everyone = np.arange(count)
    f = problem.field()
    carry = stepper.begin(f, problem.x0, a)
    attempt = stepper.attempt(f, problem.x0, a, h, carry, taped=True)
    stepper.complete(f, attempt, a, h)
    trail = Trail(count, problem.sign)
    trail.add(Piece(everyone, everyone, a, b, h, np.zeros(count), attempt))
    table = trail.table()
    one = np.ones(count, dtype=np.int64)
    saved = Saved(b[:, None], np.ones((count, 1), dtype=bool), {"x": attempt.x1[:, None]})
    none = torch.zeros(count, 0)
    return Solution(
        problem, saved, {"x": attempt.x1}, b, stats_of(problem, one, 0 * one, attempt.cost),
        steps_of(
            problem, table, lambda: stiffness_of(trail, stepper, table),
            lambda: errors_of(problem, trail, table),
        ),
        Events(none, none.long()), TrailInterpolant(trail, stepper, a, problem.x0),
    )  # fmt: skip
