"""Kernels that a generated module holds itself, and running them for a batch.

`ndl compile --target cpu|triton` writes such modules: nothing here knows the compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from ndl.runtime.chance import with_draws
from ndl.runtime.kernels.request import Made, PathUse, Request
from ndl.runtime.methods import Method
from ndl.runtime.model import Model
from ndl.runtime.solution import Solution
from ndl.runtime.solve import solve


@dataclass(frozen=True)
class Embedded:
    """The kernels of one model, as `ndl.runtime.kernels.request.KernelSource`: each with the request that it
    answers. `names` are the weights and inputs that the equations read, with their shapes; `on_time` the
    inputs on time, and whether the equations read them."""

    names: tuple[tuple[str, tuple[int, ...]], ...]
    kernels: tuple[tuple[Request, Made], ...]
    on_time: tuple[tuple[str, bool], ...] = ()

    def weights(self) -> tuple[tuple[str, tuple[int, ...]], ...] | str:
        return self.names

    def paths(self) -> tuple[PathUse, ...]:
        return tuple(PathUse(name, read, each=True) for name, read in self.on_time)

    def make(self, request: Request) -> Made | str:
        """The first kernel that serves. One that saves serves a run that does not, and one for which each
        trajectory has its own value of a weight one in which they share it."""
        for known, made in self.kernels:
            if replace(request, own=known.own, save=known.save) == known and (
                request.own <= known.own and request.save <= known.save
            ):
                return made
        held = list(dict.fromkeys(_described(known) for known, _ in self.kernels))
        return f"this module has no kernel for {_described(request)}; it has {'; '.join(held)}"


def _described(r: Request) -> str:
    """What a request asks for, in words."""
    name = r.solver.NAME if isinstance(r.solver, type) else r.solver.name
    words = [
        f"`{name}`",
        "with steps of each trajectory's own" if r.adaptive else "with fixed steps",
        "in double precision" if r.precision == "f64" else "in single precision",
        f"for `backend = {r.target}`",
        *(["backwards in time"] if r.sign < 0 else []),
        *(["with a tolerance for each state"] if r.vector else []),
        *(["with options " + ", ".join(f"{k} = {v:g}" for k, v in r.options)] if r.options else []),
        *(["with gradients by its paths"] if r.drivers else []),
        *(["for `checkpoint`"] if r.stretch or r.trail else []),
        *(["that keeps its steps"] if r.tape else ["(its derivative)"] if r.backward else []),
    ]
    return " ".join(words)


def run_batch(
    model: Model,
    values: Mapping[str, Any],
    method: Method,
    options: Mapping[str, Any],
    *,
    target: str,
    precision: torch.dtype,
    span: tuple[float, float],
    save: Any = "end",
    ensemble: int | None = None,
    gradient: Any = "none",
    seed: int = 0,
    device: Any = "auto",
    noise_step: float | None = None,
) -> Solution:
    """Solve a batch by a kernel. Of `values` (parameters, initial values, inputs) and of the method's
    `options` those that are None stay what they are. Raises `SettingError` with the reason where no kernel
    serves."""
    given = {name: value for name, value in values.items() if value is not None}
    changed = {name: value for name, value in options.items() if value is not None}
    kept = {k: v for k, v in method.options.items() if not (k == "steps" and "h" in changed)}
    if device == "auto" and target == "cpu":
        device = "cpu"
    return solve(
        with_draws(model.bind(**given) if given else model, ensemble, seed),
        span=span,
        method=replace(method, options={**kept, **changed}),
        save=save,
        ensemble=ensemble,
        gradient=gradient,
        seed=seed,
        precision=precision,
        device=device,
        backend=target,
        noise_step=noise_step,
    )
