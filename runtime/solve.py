"""`solve`: one entry for every kind of model; it prepares the run and hands it to a driver."""

from __future__ import annotations

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from ndl.runtime.counted import settle_banks
from ndl.runtime.errors import SettingError
from ndl.runtime.failures import SolveFailure
from ndl.runtime.kernels.choose import MANY, attempts_by_torch, by_kernel
from ndl.runtime.methods import Method
from ndl.runtime.model import Model
from ndl.runtime.opaque import opaque
from ndl.runtime.problem import Problem
from ndl.runtime.solution import Solution
from ndl.runtime.stability import refuse_unstable
from ndl.runtime.stepping.choose import refuse_stale
from ndl.runtime.stepping.earlier import refuse_exact
from ndl.runtime.stepping.trial import LongRun, trial
from ndl.runtime.surroundings import exact_arithmetic, refuse_surroundings


@opaque
def solve(
    model: Model,
    *,
    span: tuple[float, float],
    method: Method,
    save: Any = "steps",
    ensemble: int | None = None,
    seed: int = 0,
    gradient: Any = "none",
    precision: torch.dtype = torch.float64,
    device: Any = "cpu",
    max_steps: int = 1_000_000,
    data_times: Any = None,
    backend: str = "auto",
    repeats: int = 1,
    first: int = 0,
    noise_step: float | None = None,
) -> Solution:
    """Solve a model over a span, which may run backwards.

    `save` is 'steps', 'end', ('every', dt) or times; `gradient` is 'none', 'discrete', ('checkpoint', n),
    'adjoint' or 'reversible'; `data_times` (a list, or a dict by column) feed `when sample(…)`. `backend` is
    'torch', 'cpu' (a kernel) or 'auto', which weighs the compilation against the trajectories of this run
    and of `repeats - 1` like it. `first` is the number of the first member, whose noise depends on it;
    `noise_step` the time over which increments of the noise are drawn (see `ndl.runtime.stepped_path`).
    Raises `SettingError` for settings that do not fit, `SolveFailure` for a run that cannot go on.
    """
    refuse_surroundings()
    make = partial(
        Problem.make,
        model,
        span=span,
        method=method,
        save=save,
        ensemble=ensemble,
        seed=seed,
        gradient=gradient,
        precision=precision,
        device=device,
        max_steps=max_steps,
        data_times=data_times,
        backend=backend,
        repeats=repeats,
        first=first,
        noise_step=noise_step,
    )
    problem = make()
    if settle_banks(model, problem):
        problem = make()
    with exact_arithmetic(problem.device):
        return refuse_unstable(problem, dispatch(problem), dispatch)


def dispatch(problem: Problem) -> Solution:
    """Send a prepared problem to a kernel or to torch; to a kernel also when torch has found it long."""
    refuse_exact(problem)
    refuse_stale(problem)
    found = by_kernel(problem)
    if found is not None:
        return found
    attempts = attempts_by_torch(problem)
    seen = _long.setdefault(type(problem.model), set())
    if attempts is not None and problem.method.name in seen:
        found = _long_again(problem, attempts)
        if found is not None:
            return found
        seen.discard(problem.method.name)
    try:
        with trial(attempts):
            return by_torch(problem)
    except LongRun:
        found = by_kernel(problem.on(repeats=MANY))
        if found is None:
            return by_torch(problem)
        seen.add(problem.method.name)
        return found


_long: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()
"""By which methods the last run of a model was found to be long."""


def _long_again(problem: Problem, attempts: int) -> Solution | None:
    """A run that is probably long, by a kernel at once; None where it is not, or fails: then it is torch's,
    as ever."""
    try:
        found = by_kernel(problem.on(repeats=MANY))
    except SolveFailure:
        return None
    if found is None:
        return None
    made = torch.as_tensor(found.stats.steps) + torch.as_tensor(found.stats.rejected)
    return found if int(made.max()) > attempts else None


def by_torch(problem: Problem) -> Solution:
    """Send a prepared problem to the driver of its kind."""
    model, method = problem.model, problem.method
    if model.INTEGRALS or method.kind == "integral" or method.name in ("picard", "nystrom"):
        from ndl.runtime.integral import solve_integral

        return solve_integral(problem)
    if method.kind == "split":
        from ndl.runtime.splitting import solve_split

        return solve_split(problem)
    if method.kind == "constraint":
        from ndl.runtime.projection import solve_projected

        return solve_projected(problem)
    if method.kind in ("root", "linear", "energy"):
        from ndl.runtime.steady import solve_steady

        return solve_steady(problem)
    if method.kind == "sde" or (model.NOISES and model.NOISE_KIND != "none"):
        from ndl.runtime.sde import solve_sde

        return solve_sde(problem)
    if method.kind == "ode":
        from ndl.runtime.ode import solve_ode

        return solve_ode(problem)
    raise SettingError(f"`{method.name}` is a solver for {method.kind} problems, not for `{model.NAME}`")
