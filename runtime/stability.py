"""Runs whose fixed steps are too long: the numbers grow where the equation says that they do not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from ndl.runtime.banks import banks_of
from ndl.runtime.failures import Failed, SolveFailure
from ndl.runtime.problem import Problem, SavePlan
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.surroundings import transforms
from ndl.runtime.weights import view
from torch import Tensor

GROWN = 1e4
"""How many times larger than at the start a state is before a run is looked at."""
FEWEST, MOST = 8, 4096
"""Into how many short steps one is divided."""


def refuse_unstable(problem: Problem, found: Solution, run: Callable[[Problem], Solution]) -> Solution:
    """The solution, or a `SolveFailure` where steps multiply what the equation does not.

    From the end x of a run that has grown, one more step by `run` leads to y, and many short ones over the
    same time to z. Where log(|y|/|z|), times the number of steps, is half or more of what the logarithm of
    the solution has grown by, the method has made it grow: a step beyond its limit of stability.
    """
    if not _looked_at(problem):
        return found
    mass = problem.mass() > 0
    x0, x = problem.x0.detach(), found.last["x"].detach()
    size, base = (_of(v, mass).abs().amax(-1) for v in (x, x0))
    base = torch.where(base > 0, base, 1.0)
    arrived = torch.from_numpy(found.last_t == problem.t1).to(size.device)
    grown = (size > GROWN * base) & torch.isfinite(size) & arrived
    if not bool(grown.any()):
        return found
    h = min(_last_step(problem, found), abs(problem.t1 - problem.t0))
    with torch.no_grad():
        rate = h * _rate(problem, x, mass)
        parts = min(max(math.ceil(2 * float(rate[grown].max())), FEWEST), MOST)
        y, z = (run(_from_end(problem, x, h, k)).last["x"].detach() for k in (1, parts))
        excess = _size(problem, y, x, z, mass) - _size(problem, z, x, z, mass)
        steps = torch.as_tensor(found.stats.steps, device=x.device).expand(len(x))
        bad = grown & ~(excess * steps < 0.5 * torch.log(size / base))
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        raise _failure(problem, found, x, k, h, float(excess[k]), float(rate[k]))
    return found


def _from_end(problem: Problem, x: Tensor, h: float, parts: int) -> Problem:
    """A step of size h from x, in `parts`, without events; it ends where the run ended, so that paths and
    data are known."""
    still = view(problem.model)
    still.EVENTS = ()  # type: ignore[misc]  # of this twin alone
    options = {k: v for k, v in problem.method.options.items() if k not in ("cfl", "steps")}
    return problem.on(
        model=still,
        t0=problem.t1 - problem.sign * h,
        x0=x,
        method=replace(problem.method, options={**options, "h": h / parts}),
        save=SavePlan("end", np.array([problem.t1])),
        backend="torch",
    )


def _of(x: Tensor, mass: Tensor) -> Tensor:
    """The states with a rate; taking them out is a copy, slow for a field."""
    return x if bool(mass.all()) else x[:, mass]


def _size(problem: Problem, y: Tensor, x: Tensor, z: Tensor, mass: Tensor) -> Tensor:
    """The logarithm of the norm of y, each state by the size that it has in x and z."""
    unit = torch.ones_like(y)
    for s in problem.model.STATES:
        largest = torch.maximum(x[:, s.places].abs().amax(-1), z[:, s.places].abs().amax(-1))
        unit[:, s.places] = torch.where(largest > 0, largest, 1.0)[:, None]
    return torch.log(_of(y / unit, mass).norm(dim=-1))


def _looked_at(problem: Problem) -> bool:
    """Whether the steps are fixed, and a step depends on nothing but where it starts: noise that does not
    depend on the state is the same over one step and over many."""
    model, options = problem.model, problem.method.options
    fixed = options.get("cfl") is not None or options.get("h") is not None or options.get("steps") is not None
    return bool(
        fixed
        and problem.method.kind in ("ode", "split", "constraint", "sde")
        and model.NOISE_KIND in ("none", "additive")
        and not problem.taped
        and problem.t0 != problem.t1
        and not (model.DELAYS or model.INTEGRALS)
        and not any(s.source for s in model.STATES)
        and not banks_of(model)
        and not transforms()
    )


def _last_step(problem: Problem, found: Solution) -> float:
    options = problem.method.options
    h = None if options.get("cfl") else fixed_step(options, problem.t0, problem.t1, problem.method.name)
    if h is None:
        sizes = found.steps.h.abs()
        h = float(sizes[~torch.isnan(sizes)][-1])
    return h


def _rate(problem: Problem, x: Tensor, mass: Tensor) -> Tensor:
    """|f|/|x| of each member, of the states with a rate."""
    t = clock(np.full(problem.count, problem.t1), x)
    unit = _of(x, mass).abs().amax(-1, keepdim=True).clamp_min(1e-300)
    f = (_of(problem.field()(x, t), mass) / unit).nan_to_num(0.0, 0.0, 0.0)
    found: Tensor = f.norm(dim=-1) / (_of(x, mass) / unit).norm(dim=-1)
    return found


def _failure(
    problem: Problem, found: Solution, x: Tensor, member: int, h: float, excess: float, rate: float
) -> SolveFailure:
    model, method = problem.model, problem.method
    largest = int(x[member].abs().argmax())
    state = problem.state_name(largest)
    knob = f"cfl={method.options['cfl']:g}" if method.options.get("cfl") else f"h={h:.3g}"
    failure = SolveFailure(
        "unstable",
        model=model.NAME,
        time=float(found.last_t[member]),
        last_step=h,
        member=member if problem.ensemble else None,
        state=state,
        detail=f"`{method.name}({knob})` is unstable: a step makes the values {_times(excess)} times larger "
        f"than the equation does; `{state}` is {float(x[member, largest]):.3g}",
        advice=_advice(problem, h, rate),
        partial=found,
    )
    failure.failed = (Failed(member, "unstable", float(found.last_t[member]), h),)
    return failure


def _times(excess: float) -> str:
    return f"{math.exp(min(excess, 700.0)):.3g}"


def _advice(problem: Problem, h: float, rate: float) -> str:
    """A step at which the mode that has grown moves by twice its size, the limit of Euler's method."""
    other = "a method for stiff equations such as `rodas5`"
    if problem.model.FOURIER:
        other = "`etdrk4`, which follows the linear part exactly"
    if problem.method.options.get("cfl"):
        return f"take a smaller `cfl`, or {other}"
    limit = 2 * h / rate if rate > 2 else math.inf
    if limit >= h:
        return f"take a much smaller `h`, an adaptive method such as `tsit5`, or {other}"
    digits = 10.0 ** math.floor(math.log10(limit))
    safe = math.floor(limit / digits) * digits
    return f"take `h={safe:.1g}` or less, an adaptive method such as `tsit5`, or {other}"
