"""Whole solves by splittings in kernels: the parts, and the exponentials of those that are followed
exactly."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import torch
from ndl.runtime.flows import ExactFlow, exponential
from ndl.runtime.kernels.delayed import DelayedRun
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.ode import KernelRun
from ndl.runtime.kernels.request import KernelSource, Made, Part, Request, options_of, solver_of
from ndl.runtime.methods import Method, StepSolver
from ndl.runtime.problem import Problem
from ndl.runtime.splitting import RK4, SplitProblem, part_field, prepared, substeps
from ndl.runtime.stepping.delays import delaying
from ndl.runtime.stepping.split import SplitStepper
from torch import Tensor


def split_run(problem: Problem, source: KernelSource, target: str) -> SplitRun:
    """The run of a splitting. Raises `SettingError` for parts that do not make up the right-hand side."""
    solver = problem.method.solver
    assert isinstance(solver, StepSolver)
    stepper = SplitStepper(solver)
    run = DelayedSplitRun if problem.model.DELAYS else SplitRun
    return run(prepared(delaying(problem, stepper)), stepper, source, target)


class SplitRun(KernelRun):
    """One run."""

    explains = False

    def _requested(self, request: Request) -> Request:
        p, (first, last) = self.p, self._sizes()
        assert isinstance(p, SplitProblem)
        if p.model.DELAYS and p.exact:
            raise NoKernel("edges of the past cut steps that exponentials follow")
        if p.model.EVENTS and p.exact:
            raise NoKernel("events cut steps that exponentials follow")
        return replace(request, parts=tuple(_parts(p)), uneven=abs(last) < (1 - 1e-9) * abs(first))

    def _sizes(self) -> tuple[float, float]:
        """The sizes of the first step and of the last."""
        assert self.table is not None
        sizes = self.table.h[: self.count_of_steps]
        return float(sizes[0]), float(sizes[-1])

    def _make(self, request: Request) -> Made:
        """The kernel; the values that it reads have the exponentials last."""
        made = super()._make(request)
        for w in made.weights[len(self.values) :]:
            self.values.append(self._exponential(w.name, w.each))
        return made

    def _exponential(self, name: str, each: bool) -> Tensor:
        """[exp(h L) | b] of a part, `[n, n + 1]`, or of each trajectory's; its name as in
        `ndl.compiler.kernels.splitting.exact_name`."""
        p = self.p
        part, share, group = re.fullmatch(r"exp (.+) (\S+) (\d)", name).groups()  # type: ignore[union-attr]
        x = p.x0.detach() if each else p.x0.detach()[:1]
        with torch.set_grad_enabled(p.taped):
            flow = ExactFlow(part_field(p.model, part), x.new_tensor(p.t0), x, True)
            found = exponential(flow.matrix() * (float(share) * self._sizes()[int(group)]))
            return found[:, :-1] if each else found[0, :-1]


class DelayedSplitRun(SplitRun, DelayedRun):
    """The same with a past."""


def _parts(problem: SplitProblem) -> list[Part]:
    if problem.masks is not None:
        moves = (tuple(bool(v) for v in np.asarray(m.cpu()) != 0) for m in problem.masks)
        return [Part(moves=m, inside=inside) for m, inside in zip(moves, problem.insides, strict=True)]
    return [_part(problem, name, part) for name, part in problem.method.parts.items()]


def _part(problem: SplitProblem, name: str, method: Method | None) -> Part:
    if name in problem.exact:
        return Part(name)
    chosen = method or Method("rk4", "ode", RK4)
    one = problem.on(method=chosen)
    return Part(name, solver_of(one), options_of(one), substeps(name, chosen))
