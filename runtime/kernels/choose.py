"""Whether a run goes by a kernel, and the reason when it does not."""

from __future__ import annotations

import math

from ndl.runtime.banks import banks_of
from ndl.runtime.errors import SettingError
from ndl.runtime.kernels import sde, split, triton_engine
from ndl.runtime.kernels.delayed import DelayedNoisyRun, DelayedRun
from ndl.runtime.kernels.field_paced import PacedFieldRun
from ndl.runtime.kernels.field_run import FieldRun
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.sweeping import FieldSource
from ndl.runtime.kernels.tied import TiedRun
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Problem
from ndl.runtime.recompute import checkpoints_of
from ndl.runtime.requirements import Requirements
from ndl.runtime.sde import noisy_problem, path_of
from ndl.runtime.sde import stepper_of as noisy_stepper_of
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.corners import Corners, plain_steps
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.surroundings import transforms

MANY = 16
"""Trajectories, those of all runs that are alike, from which `auto` takes a kernel: below that, a compilation
costs more than it brings."""

HEAVY = 1 << 15
"""Weights of a model from which `auto` leaves fewer trajectories at a time to torch, whose products of a
matrix by a vector do not fill lanes that stay empty."""

LONG = 256
"""Steps of an explicit tableau from which `auto` takes a kernel for a single trajectory too: torch takes
about as long for them as a compilation does. Steps of other methods count four times."""

FEW_STATES = 32
"""The most states of which that is so."""

UNDONE = "its steps are undone past events and what must hold"

BACKENDS = ("auto", "torch", "cpu", "triton")


def by_kernel(problem: Problem) -> Solution | None:
    """The solution by a kernel, or None when the run goes by torch: by choice, because no kernel serves it,
    or because torch must say what is wrong. Raises `SettingError` for `backend = cpu` without one,
    `SolveFailure` where a trajectory cannot come to its end."""
    if problem.backend not in BACKENDS:
        raise SettingError(
            f"there is no backend `{problem.backend}`", help=f"the backends are {', '.join(BACKENDS)}"
        )
    if problem.backend == "torch":
        return None
    try:
        if getattr(problem.method.solver, "data", None):
            raise NoKernel("its solver is given data")
        if problem.model.FIELDS is not None and not problem.model.foreign:
            return _field_run(problem, problem.model.FIELDS, target_of(problem)).solve()
        if problem.backend == "auto":
            _refuse_few(problem)
        return kernel_run(problem).solve()
    except NoKernel as reason:
        if problem.backend != "auto":
            raise SettingError(
                f"no kernel serves this run: {reason}", help="write `backend = auto` or `backend = torch`"
            ) from None
        return None


def _refuse_few(problem: Problem) -> None:
    """Raise `NoKernel` where there are too few trajectories for one."""
    if problem.count >= MANY:
        return
    if problem.count * problem.repeats < MANY and not _is_long(problem):
        raise NoKernel(f"{problem.count} trajectories are fewer than {MANY}")
    if _is_heavy(problem):
        raise NoKernel(f"{problem.count} trajectories of a large net are fewer than {MANY}")


def _is_long(problem: Problem) -> bool:
    """Whether a run has many steps, of a size that is known. A path under noise is torch's to the last bit,
    which fewer steps may be compared with."""
    if problem.model.NOISES:
        return False
    step = fixed_step(problem.method.options, problem.t0, problem.t1, problem.method.name)
    many = step is not None and abs(problem.t1 - problem.t0) >= _many_steps(problem) * step
    return many and problem.size <= FEW_STATES


def _many_steps(problem: Problem) -> int:
    """How many steps are many for a run's method."""
    solver = problem.method.solver
    return LONG if isinstance(solver, Tableau) and not solver.implicit else LONG // 4


def _is_heavy(problem: Problem) -> bool:
    """Whether a model has many weights."""
    weights = () if problem.model.KERNELS is None else problem.model.KERNELS.weights()
    return not isinstance(weights, str) and sum(math.prod(shape) for _, shape in weights) >= HEAVY


def attempts_by_torch(problem: Problem) -> int | None:
    """After how many attempts `auto` gives a run of few trajectories, whose steps nobody has counted yet,
    from torch to a kernel; None where it stays, as far as can be seen beforehand."""
    source, kind = problem.model.KERNELS, problem.method.kind
    few = problem.count * problem.repeats < MANY and problem.size <= FEW_STATES
    if problem.backend != "auto" or not few or kind != "ode" or source is None or problem.model.NOISES:
        return None
    return None if isinstance(source.weights(), str) or _is_heavy(problem) else _many_steps(problem)


def _field_run(problem: Problem, source: FieldSource, target: str) -> FieldRun | PacedFieldRun:
    method = problem.method
    fixed = fixed_step(method.options, problem.t0, problem.t1, method.name) is not None
    return (FieldRun if fixed else PacedFieldRun)(problem, source, target)


def kernel_run(problem: Problem, target: str | None = None) -> KernelRun:
    """The run by kernels, for a `target` of choice. Raises `NoKernel` with the reason where there is none."""
    model, solver = problem.model, problem.method.solver
    if model.KERNELS is None:
        raise NoKernel("the model was not compiled with its kernels")
    options, name = problem.method.options, problem.method.name
    fixed = fixed_step(options, problem.t0, problem.t1, name) is not None
    undone = problem.gradient in ("reversible", "adjoint")
    own_steps = not fixed or bool(model.EVENTS)
    for found, why in (
        (not has_kernel(problem, fixed), f"`gradient = {problem.gradient}` is torch's"),
        (not isinstance(solver, Tableau | StepSolver), f"`{name}` is not yet a kernel"),
        (problem.method.kind not in ("ode", "sde", "split"), f"`{name}` is not yet a kernel"),
        (problem.taped and problem.save.kind == "steps" and own_steps, "its gradients are of every step"),
        (undone and (bool(model.EVENTS) or bool(Requirements(problem))), UNDONE),
        (undone and bool(Corners(problem)), "its steps are undone past corners of a path"),
        (bool(banks_of(model)), "its nets have weights for each step"),
        (bool(model.foreign), "its nets are others than it was compiled with"),
        (problem.t0 == problem.t1, "the span is empty"),
        (options.get("cfl") is not None, "its steps follow the speed of waves"),
        (cornered(problem, fixed), "steps are to end at the corners of a path"),
        (bool(transforms()), "transforms of `torch.func` and dual numbers are torch's"),
    ):
        if found:
            raise NoKernel(why)
    if model.NOISES:
        sde.refuse(problem)
        noisy_stepper = noisy_stepper_of(problem, path_of(problem))
        noisy = noisy_problem(problem, noisy_stepper)
        run = DelayedNoisyRun if model.DELAYS else sde.NoisyRun
        return run(noisy, noisy_stepper, model.KERNELS, target or target_of(problem))
    if problem.method.kind == "split":
        return split.split_run(problem, model.KERNELS, target or target_of(problem))
    stepper = stepper_of(problem)
    if model.DELAYS:
        if problem.algebraic:
            raise NoKernel("it has delays and algebraic equations")
        return DelayedRun(problem, stepper, model.KERNELS, target or target_of(problem))
    if problem.algebraic:
        return TiedRun(problem, stepper, model.KERNELS, target or target_of(problem))
    return KernelRun(problem, stepper, model.KERNELS, target or target_of(problem))


def cornered(problem: Problem, fixed: bool) -> bool:
    """Whether corners of paths are more than ends of fixed steps: kernels make no slope anew there."""
    if not problem.model.INPUTS or not Corners(problem):
        return False
    return not fixed or bool(problem.model.EVENTS) or not plain_steps(problem, stepper_of(problem))


def has_kernel(problem: Problem, fixed: bool) -> bool:
    """Whether there is a kernel for the gradient that a run wants: of fixed steps also by undoing them, which
    is the adjoint of equations with noise."""
    back = ("reversible", "adjoint") if problem.model.NOISES else ("reversible",)
    undone = problem.gradient in back and fixed
    return problem.gradient in ("none", "discrete") or checkpoints_of(problem.gradient) is not None or undone


def target_of(problem: Problem) -> str:
    """What runs the kernels: `cpu` or `triton`. Raises `NoKernel` where that is not to be had."""
    device = problem.device.type
    target = problem.backend if problem.backend != "auto" else ("triton" if device == "cuda" else "cpu")
    if target == "cpu" and device != "cpu":
        raise NoKernel(f"the run is on `{device}`, and `backend = cpu` is not")
    if target == "triton":
        try:
            interpreted = triton_engine.interpreted()
        except triton_engine.TritonMissing as missing:
            raise NoKernel(str(missing)) from None
        if device != "cuda" and not interpreted:
            raise NoKernel("Triton kernels run on a GPU: write `device = cuda`")
    return target
