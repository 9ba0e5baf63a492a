"""The driver of stochastic equations: the path, the method's demands, the loop, and the noises on record."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from ndl.runtime.brownian import CHANNEL_BITS, BrownianPath
from ndl.runtime.diffusion import NoisyField, check_method
from ndl.runtime.errors import SettingError
from ndl.runtime.info import NoiseInfo
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.random_fields import wave_numbers
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepped_path import SteppedPath
from ndl.runtime.stepping.delays import delaying
from ndl.runtime.stepping.drawn import drawing
from ndl.runtime.stepping.finish import Between, Lazy, solution_of
from ndl.runtime.stepping.loop import Loop
from ndl.runtime.stepping.noise import NoiseStepper, PathReader
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.stepper import Stepper
from torch import Tensor


@dataclass(frozen=True)
class NoisyProblem(Problem):
    """A problem whose fields carry the diffusion, with the drift in the method's calculus."""

    calculus: str = "ito"

    def field(self, ids: Ints | None = None, steps: Ints | None = None) -> NoisyField:
        """Drift and diffusion of the members `ids` (None: all), with the draws of their `steps`."""
        return NoisyField(self.members(ids, steps), self.calculus)


def solve_sde(problem: Problem) -> Solution:
    """Solve an equation with noise. Raises `SettingError` when the method does not serve it."""
    path = path_of(problem)
    stepper = stepper_of(problem, path)
    check_method(problem.model, problem.method.name, stepper.noise, problem.sign < 0)
    problem = delaying(problem, stepper)
    noisy = noisy_problem(problem, stepper)
    runs = drawing(noisy, stepper)
    if not problem.taped:
        return with_noise(_untaped(noisy, runs), path)
    if problem.gradient in ("reversible", "adjoint"):
        from ndl.runtime.reversible import solve_reversible

        return with_noise(solve_reversible(noisy, stepper), path)
    from ndl.runtime.gradients import solve_with_gradient

    return with_noise(solve_with_gradient(noisy, runs), path)


@torch.no_grad()
def _untaped(problem: NoisyProblem, stepper: Stepper) -> Solution:
    """A run without gradients. Steps are kept where they are saved; who asks for what is between saved times
    has them made again."""
    found = solution_of(problem, stepper, Loop(problem, stepper, keep=problem.save.kind == "steps").run())
    if problem.save.kind != "grid":
        return found

    def again() -> Interpolant:
        kept = solution_of(problem, stepper, Loop(problem, stepper, keep=True).run()).interpolant
        assert kept is not None
        return kept

    return replace(found, interpolant=Between(found.saved, Lazy(again)))


def noisy_problem(problem: Problem, stepper: NoiseStepper) -> NoisyProblem:
    """The problem with the drift in the calculus of its method."""
    fields = {name: getattr(problem, name) for name in Problem.__dataclass_fields__}
    return NoisyProblem(**fields, calculus=stepper.calculus)


def path_of(problem: Problem) -> BrownianPath:
    """The Brownian path of a run: member number, noise number and seed are all that it depends on."""
    noises = problem.model.NOISES
    sizes = [_waves(n) if n.law == "waves" else n.size for n in noises]
    members = torch.arange(problem.first, problem.first + problem.count)
    kind = BrownianPath if problem.noise_step is None else SteppedPath
    return kind(
        problem.seed, members, sizes, problem.t0, problem.t1,
        step=problem.noise_step, device=problem.device, dtype=problem.dtype,
    )  # fmt: skip


def _waves(noise: NoiseInfo) -> list[int]:
    """The numbers of the components of noise on a domain, the same on every grid."""
    found: list[int] = wave_numbers(noise.shape, CHANNEL_BITS).flatten().tolist()
    return found


def stepper_of(problem: Problem, path: BrownianPath) -> NoiseStepper:
    """The stepper of the problem's method. Raises `SettingError` for one that is not for noise."""
    method = problem.method
    solver = method.solver
    explicit = isinstance(solver, Tableau) and not solver.implicit
    if not explicit and not (isinstance(solver, StepSolver) and solver.KIND == "sde"):
        raise SettingError(
            f"`{method.name}` does not solve equations with noise, which `{problem.model.NAME}` has",
            help="use `euler_maruyama`, `milstein`, `heun` or `sri`",
        )
    step = fixed_step(method.options, problem.t0, problem.t1, method.name)
    reader = PathReader(path, problem.t0, problem.t1, step)
    return NoiseStepper(solver, reader)


def with_noise(solution: Solution, path: BrownianPath) -> Solution:
    """The solution with the path of every noise on record, exact at any time."""
    saved, places = solution.saved, places_of(solution.problem)
    values = {**saved.values, **split(on_table(path, saved.t), places)}
    last = path.each(solution.last_t).W
    inner = solution.interpolant
    return replace(
        solution,
        saved=Saved(saved.t, saved.valid, values),
        last={**solution.last, **split(last, places)},
        interpolant=None if inner is None else NoisyInterpolant(inner, path, places),
    )


def places_of(problem: Problem) -> dict[str, slice]:
    """Where each noise stands among the components."""
    found, at = {}, 0
    for noise in problem.model.NOISES:
        found[noise.name] = slice(at, at + noise.size)
        at += noise.size
    return found


def split(W: Tensor, places: dict[str, slice]) -> dict[str, Tensor]:
    return {name: W[..., place] for name, place in places.items()}


def on_table(path: BrownianPath, t: Floats) -> Tensor:
    """W `[B, S, m]` at the times `t [B, S]` of each member."""
    if t.shape[1] == 0 or (t == t[:1]).all():
        return path.at(t[0]).W.transpose(0, 1)
    return torch.stack([path.each(column).W for column in t.T], 1)


@dataclass
class NoisyInterpolant:
    """Continuous output of a run with noise, the noises themselves included."""

    inner: Interpolant
    path: BrownianPath
    places: dict[str, slice]

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        W = self.path.each(np.asarray(t), ids).W
        return {**self.inner(ids, t), **split(W, self.places)}
