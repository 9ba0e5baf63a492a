"""A single step of each member, from a time and with a size of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.banks import banks_of
from ndl.runtime.chance import draws_by_step
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import Tableau
from ndl.runtime.problem import Floats, Problem, SavePlan
from ndl.runtime.recorder import Saved
from ndl.runtime.sde import noisy_problem, path_of
from ndl.runtime.sde import stepper_of as noisy_stepper_of
from ndl.runtime.solution import Events, Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.control import Tolerances, first_step
from ndl.runtime.stepping.earlier import remembers
from ndl.runtime.stepping.finish import errors_of, stats_of, steps_of, stiffness_of
from ndl.runtime.stepping.noise import NoiseStepper, PathReader
from ndl.runtime.stepping.stepper import Stepper
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
    return _step(problem, a, b)


def step_of(solution: Solution, t: Tensor, size: Any = None) -> Solution:
    """One step of a run's own method and tolerances from its state at `t [B]`, no longer than to the end of
    its span; the state is a constant, and the gradient is that of the step alone.

    `size` is that of the accepted step which holds t (None), "fresh" for what the rule for first steps
    proposes there, or `[B]`. A step of an equation with noise reads the path of the run.
    Raises `SettingError` for models whose steps depend on more than the state and the time.
    """
    p = solution.problem
    start = t.detach().cpu().numpy().astype(np.float64)
    with torch.no_grad():
        run = solution if solution.interpolant is not None else _kept(solution)
        assert run.interpolant is not None
        x = run.interpolant(np.arange(p.count), start)["x"].detach()
        own = replace(p, x0=x, gradient="discrete" if p.taped else "none", save=SavePlan("end", np.empty(0)))
        h = _size(run, own, start, size)
    room = p.sign * (p.t1 - start)
    h = np.clip(h, 0.0, np.maximum(room, 0.0))
    end = np.where(h >= room, p.t1, start + p.sign * h)
    return _step(own, start, np.asarray(end, dtype=np.float64))


def _kept(solution: Solution) -> Solution:
    """The run once more, with the steps that its kernel or its `save = end` has not kept; made once."""
    from ndl.runtime.solve import dispatch

    kept: Solution | None = solution.__dict__.get("_kept")
    if kept is None:
        p = solution.problem
        kept = dispatch(replace(p, gradient="none", save=SavePlan("steps", np.empty(0)), x0=p.x0.detach()))
        solution.__dict__["_kept"] = kept
    return kept


def _size(run: Solution, problem: Problem, t: Floats, size: Any) -> Floats:
    """The magnitudes of the steps, `[B]`."""
    if isinstance(size, Tensor):
        given: Floats = size.detach().expand(len(t)).cpu().numpy().astype(np.float64)
        return np.abs(given)
    if size == "fresh":
        noisy, stepper = _prepared(problem)
        room = np.maximum(problem.sign * (problem.t1 - t), 0.0)
        order, tol = stepper.error_order, Tolerances.of(problem)
        return first_step(noisy.field(), problem.x0, t, problem.sign, room, order, tol)[0]
    where = run.step_at(torch.from_numpy(t))
    sizes = run.steps.h.detach().reshape(problem.count, -1)
    return np.asarray(sizes.gather(1, where[:, None].to(sizes.device))[:, 0].abs().double().cpu().numpy())


def _prepared(problem: Problem) -> tuple[Problem, Stepper]:
    """The problem with its fields as the method wants them, and the stepper. Raises `SettingError`."""
    model, solver = problem.model, problem.method.solver
    states = () if isinstance(solver, Tableau) else (*solver.STATES, *solver.PREVIOUS)
    for found, why in (
        (model.EVENTS, "it has events"),
        (problem.algebraic, "it has equations `0 = …`"),
        (model.DELAYS, "it has delays"),
        (remembers(model) or draws_by_step(model), "it looks back on its steps or draws for each"),
        (banks_of(model), "it has weights `per step`"),
        (states, f"`{problem.method.name}` carries values from step to step"),
        (problem.method.kind not in ("ode", "sde"), f"`{problem.method.name}` has no steps of its own"),
    ):
        if found:
            raise SettingError(
                f"a single step of `{model.NAME}` from the middle of a run is not known: {why}",
                help="use the estimates of the whole run: `mean(steps.error*steps.h)`",
            )
    if not model.NOISES:
        return problem, stepper_of(problem)
    path = path_of(problem)
    stepper = noisy_stepper_of(problem, path)
    stepper.reader = PathReader(path, problem.t0, problem.t1, None)
    return noisy_problem(problem, stepper), stepper


def _step(problem: Problem, a: Floats, b: Floats) -> Solution:
    """The step of each member from a to b `[B]`."""
    problem, stepper = _prepared(problem)
    with torch.set_grad_enabled(problem.taped):
        return _taken(replace(problem, save=SavePlan("end", b)), stepper, a, b)


def _taken(problem: Problem, stepper: Stepper, a: Floats, b: Floats) -> Solution:
    count, h = problem.count, b - a
    everyone = np.arange(count)
    f = problem.field()
    carry = stepper.begin(f, problem.x0, a)
    if isinstance(stepper, NoiseStepper):
        carry["end"] = b  # where the path is read, without the rounding of a + h
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
