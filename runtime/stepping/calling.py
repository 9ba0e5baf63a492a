"""Calling the step of a solver of any kind with the things that it names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from ndl.runtime.methods import StepSolver
from torch import Tensor


def call_step(
    solver: StepSolver, offered: Mapping[str, Any]
) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """One step, given by name what the kind offers (`f`, `g`, `A`, `B`, `F`, `K`, `x`, `t`, `h`, `dW`, …).

    A first parameter `f` that is not offered is the first argument as written, and `x` the first that is a
    tensor: `step(A, B, x, t, h)` may be generated as `step(f, x, t, h, *, B)`.
    """
    return solver.step(**_arguments(solver, solver.step, offered))


def call_size(solver: StepSolver, offered: Mapping[str, Any]) -> Tensor:
    """How large a step the tolerances allow, `[...]`."""
    assert solver.size is not None
    return solver.size(**_arguments(solver, solver.size, offered))


def call_merit(solver: StepSolver, offered: Mapping[str, Any]) -> Tensor:
    """What a step makes smaller, `[...]`."""
    assert solver.merit is not None
    return solver.merit(**_arguments(solver, solver.merit, offered))


def call_stiffness(solver: StepSolver, offered: Mapping[str, Any]) -> Tensor:
    """An estimate of the norm of the Jacobian along a step, `[...]`: 0 where two states or slopes agree."""
    assert solver.stiffness is not None
    slopes, states = solver.stiffness(**_arguments(solver, solver.stiffness, offered)).unbind(-2)
    return ratio(slopes, states)


def ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """||top||/||bottom|| over the last axis; 0, without gradient, where there is none."""
    a, b = torch.linalg.vector_norm(top, dim=-1), torch.linalg.vector_norm(bottom, dim=-1)
    fine = (a > 0) & (b > 0) & torch.isfinite(a / b)
    return torch.where(fine, a, 0.0) / torch.where(fine, b, 1.0)


def call_until(solver: StepSolver, offered: Mapping[str, Any]) -> Tensor:
    """Whether an iteration is at its end, Bool `[...]`."""
    return solver.until(**_arguments(solver, solver.until, offered))


def _arguments(solver: StepSolver, function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    key = (type(solver), function.__name__, tuple(offered))
    if key not in _PLANS:
        _PLANS[key] = _plan(solver, function, offered)
    return {name: offered[source] for name, source in _PLANS[key]}


_PLANS: dict[Any, tuple[tuple[str, str], ...]] = {}
"""Which offered thing each parameter takes, by solver, function and what was offered."""


def _plan(solver: StepSolver, function: Any, offered: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    written = [name for name in solver.ARGUMENTS if name in offered]
    rest = dict.fromkeys(offered)
    taken: dict[str, str] = {}

    def take(name: str, source: str) -> None:
        del rest[source]
        taken[name] = source

    for name, parameter in inspect.signature(function).parameters.items():
        plain = name.rstrip("_")  # a name that the module has already is written with a line after it
        if parameter.kind is parameter.VAR_KEYWORD:
            wanted = {*solver.ARGUMENTS, *solver.STATES, "prev", "laplacian", "weights"}
            taken.update({k: k for k in rest if k in wanted})
        elif plain in rest:
            take(name, plain)
        elif name in ("f", "F"):
            take(name, written[0])
        elif name == "x":
            take(name, next(w for w in written if isinstance(offered[w], Tensor)))
    return tuple(taken.items())
