"""Gradients in memory that does not grow with the steps: each step is undone on the way back, and taken again
with a tape.

A step is undone by the same step with -h, under noise with the path run backwards, for methods that are
symmetric: `reversible_heun` (Kidger, Foster, Li, Lyons 2021, "Efficient and Accurate Gradients for Neural
SDEs", algorithm 2), and without noise symmetric splittings too. What comes out is the gradient of what was
computed, to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from ndl.runtime.adjoint import differentiable
from ndl.runtime.errors import SettingError
from ndl.runtime.methods import StepSolver
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.requirements import Requirements
from ndl.runtime.second_order import SECOND, once
from ndl.runtime.solution import Events, Solution, Steps
from ndl.runtime.stepping.corners import Corners
from ndl.runtime.stepping.finish import SavedInterpolant, stats_of
from ndl.runtime.stepping.noise import NoiseStepper, PathReader
from ndl.runtime.stepping.pace import Pace, fixed_end
from ndl.runtime.stepping.stepper import Carry, Stepper
from torch import Tensor


def solve_reversible(problem: Problem, stepper: Stepper) -> Solution:
    """Solve with fixed steps, nothing kept but the end. Raises `SettingError` for what cannot be undone."""
    run = ReversibleRun(problem, stepper)
    leaves = differentiable(problem.model)
    saved, last = _Traced.apply(run, problem.x0, *leaves)  # type: ignore[no-untyped-call]
    b = problem.count
    times = np.broadcast_to(run.times, (b, len(run.times))).copy()
    record = Saved(times, np.ones(times.shape, dtype=bool), {"x": saved})
    count = len(run.grid) - 1
    many = np.full(b, count)
    rows = np.broadcast_to(run.grid[:-1], (b, count)), np.broadcast_to(np.diff(run.grid), (b, count))
    t, h = (torch.from_numpy((v if problem.ensemble else v[0]).copy()) for v in rows)
    nothing = saved.new_empty((b, 0) if problem.ensemble else (0,))
    return Solution(
        problem,
        record,
        {"x": last},
        np.full(b, problem.t1),
        stats_of(problem, many, np.zeros_like(many), many * run.cost),
        Steps(lambda: (t, h), lambda: torch.zeros_like(t)),
        Events(nothing, nothing.to(torch.int64)),
        SavedInterpolant(problem, record) if problem.save.kind != "end" else None,
    )


class ReversibleRun:
    """The steps of a run, forwards and backwards."""

    def __init__(self, problem: Problem, stepper: Stepper) -> None:
        self.p, self.stepper, self.cost = problem, stepper, 0
        name, step = problem.method.name, Pace.of(problem, stepper).step
        if step is None:
            raise SettingError(f"`gradient = {problem.gradient}` needs fixed steps", help=f"`{name}(h=0.01)`")
        for found, what in (
            (bool(problem.model.EVENTS) or bool(Requirements(problem)), "events and requirements"),
            (bool(Corners(problem)), "the corners of a path, where a method starts anew"),
        ):
            if found:
                raise SettingError(
                    f"`gradient = {problem.gradient}` cannot undo {what}",
                    help="use `gradient = discrete` or `checkpoint(n)`",
                )
        self.grid = grid_of(problem, step)
        plan = problem.save
        self.times = {"steps": self.grid, "end": self.grid[-1:], "grid": plan.times}[plan.kind]
        self.f = problem.field()
        refuse_irreversible(problem, stepper)

    def begin(self, x0: Tensor) -> tuple[Tensor, Carry]:
        x = x0.contiguous()
        return x, self.stepper.begin(self.f, x, np.full(self.p.count, self.p.t0))

    def _sizes(self, k: int) -> tuple[Floats, Floats, Floats]:
        """Start, end and size of step k, `[B]` each."""
        b = self.p.count
        t0, t1 = self.grid[k], self.grid[k + 1]
        return np.full(b, t0), np.full(b, t1), np.full(b, t1 - t0)

    def step(self, k: int, x: Tensor, carry: Carry, taped: bool) -> tuple[Tensor, Carry, dict[int, Tensor]]:
        """Step k: the state, the carry, and the values at saved times in (t_k, t_{k+1}] by slot."""
        t, end, h = self._sizes(k)
        made = self.stepper.attempt(self.f, x, t, h, Carry(carry, end=end), taped)
        self.cost = int(made.cost[0])
        saved: dict[int, Tensor] = {}
        first = np.searchsorted(self.times, t[0], side="right")
        last = np.searchsorted(self.times, end[0], side="right")
        for slot in range(first, last):
            if self.times[slot] == end[0]:
                saved[slot] = made.x1
                continue
            if made.stages is None:
                self.stepper.complete(self.f, made, t, h)
            theta = np.full(self.p.count, (self.times[slot] - t[0]) / h[0])
            saved[slot] = self.stepper.interpolate(made, np.arange(self.p.count), theta)
        return made.x1, made.carry, saved

    def undo(self, k: int, x: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """What stood before step k."""
        t, end, h = self._sizes(k)
        made = self.stepper.attempt(self.f, x, end, -h, Carry(carry, end=t))
        return made.x1, made.carry

    def parts(self, carry: Carry) -> list[str]:
        """The names of carried tensors that depend on the state."""
        return [name for name in carry if name.startswith("state:")]


_undone: WeakKeyDictionary[type, set[tuple[object, ...]]] = WeakKeyDictionary()
"""The methods and steps that were seen to be undone, of each model."""


def refuse_irreversible(problem: Problem, stepper: Stepper) -> None:
    """Raise `SettingError` where a first step of the first member is not undone by the step back. What was
    seen of a method, a model and a step once, of a state that moved, is not tried again."""
    solver, step = problem.method.solver, Pace.of(problem, stepper).step
    assert step is not None
    case = type(solver), repr(problem.method.options), step, problem.dtype
    seen = set() if problem.method.parts else _undone.setdefault(type(problem.model), set())
    if case in seen:
        return
    symmetric = False
    if isinstance(solver, StepSolver):
        symmetric = not solver.PREVIOUS and not {"dZ", "n"} & set(solver.ARGUMENTS)
    t = np.array([problem.t0])
    end = fixed_end(t, problem.t0, problem.t1, step)
    if symmetric and problem.t0 != problem.t1:
        with torch.no_grad():
            alone = of_one(problem, stepper)
            f, x = problem.field(np.zeros(1, dtype=np.int64)), problem.x0[:1].contiguous()
            there = alone.attempt(f, x, t, end - t, Carry(alone.begin(f, x, t), end=end))
            back = alone.attempt(f, there.x1, end, t - end, Carry(there.carry, end=t)).x1
            size = x.abs().amax() + there.x1.abs().amax()
            gap = (back - x).abs().amax()
            eps = torch.finfo(x.dtype).eps
            # in single precision much more would let Euler's method with short steps pass
            symmetric = bool(gap <= 100 * eps * (size + 1e-300))
            if symmetric and bool((there.x1 - x).abs().amax() > 1e4 * eps * size):
                seen.add(case)
    if not symmetric:
        raise SettingError(
            f"a step of `{problem.method.name}` cannot be undone, as `gradient = {problem.gradient}` asks",
            help="use the method `reversible_heun`, or `gradient = discrete`",
        )


def of_one(problem: Problem, stepper: Stepper) -> Stepper:
    """The stepper for the first member alone; a path is asked for at two times, since the whole would cost as
    much as a run."""
    if not isinstance(stepper, NoiseStepper):
        return stepper
    reader = PathReader(stepper.reader.path.of(1), problem.t0, problem.t1, None)
    return NoiseStepper(stepper.method, reader)


def grid_of(problem: Problem, step: float) -> Floats:
    """Every time at which a fixed step ends, and the start."""
    times = [problem.t0]
    while times[-1] != problem.t1:
        times.append(float(fixed_end(np.array([times[-1]]), problem.t0, problem.t1, step)[0]))
        if len(times) > problem.max_steps + 1:
            raise SettingError(f"the run needs more than {problem.max_steps} steps")
    return np.array(times)


class _Traced(torch.autograd.Function):
    """(x0, leaves) -> saved values `[B, S, n]` and the last state."""

    @staticmethod
    def forward(ctx: Any, run: ReversibleRun, x0: Tensor, *leaves: Tensor) -> tuple[Tensor, Tensor]:
        x, carry = run.begin(x0)
        saved: dict[int, Tensor] = {}
        if len(run.times) and run.times[0] == run.grid[0]:
            saved[0] = x
        for k in range(len(run.grid) - 1):
            x, carry, new = run.step(k, x, carry, False)
            saved.update(new)
        ctx.run, ctx.end = run, (x, carry)
        ctx.save_for_backward(x0, *leaves)
        values = [saved[slot] for slot in range(len(run.times))]
        return torch.stack(values, 1) if values else x.new_empty(x.shape[0], 0, x.shape[1]), x.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        with torch.no_grad():
            made = backwards(ctx.run, ctx.end, ctx.saved_tensors, *cotangents)
        given = (*cotangents, *ctx.saved_tensors)
        return None, *once("a run with `gradient = reversible`", SECOND, made, given)


def backwards(
    run: ReversibleRun, end: tuple[Tensor, Carry], inputs: Sequence[Tensor], g_saved: Tensor, g_last: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of the inputs, x0 and leaves."""
    x0, *leaves = inputs
    x, carry = end
    names = run.parts(carry)
    g_leaves = [torch.zeros_like(v) for v in leaves]
    g = [g_last, *(torch.zeros_like(carry[name]) for name in names)]
    for k in reversed(range(len(run.grid) - 1)):
        x, carry = run.undo(k, x, carry)
        with torch.enable_grad():
            free = [v.detach().requires_grad_(True) for v in (x, *(carry[n] for n in names))]
            start = Carry(carry, **dict(zip(names, free[1:], strict=True)))
            x1, after, saved = run.step(k, free[0], start, True)
            outputs = [x1, *(after[name] for name in names), *saved.values()]
            given = [*g, *(g_saved[:, slot] for slot in saved)]
            found = torch.autograd.grad(outputs, [*free, *leaves], given, allow_unused=True)
        g = [torch.zeros_like(v) if d is None else d for v, d in zip(free, found, strict=False)]
        for total, d in zip(g_leaves, found[len(free) :], strict=True):
            if d is not None:
                total += d
    with torch.enable_grad():
        start0 = x0.detach().requires_grad_(True)
        first, carry = run.begin(start0)
        outputs = [first, *(carry[name] for name in names)]
        if len(run.times) and run.times[0] == run.grid[0]:
            outputs.append(first)
            g.append(g_saved[:, 0])
        pairs = [(o, d) for o, d in zip(outputs, g, strict=True) if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in pairs], [start0, *leaves], [d for _, d in pairs], allow_unused=True
        )
    for total, d in zip(g_leaves, found[1:], strict=True):
        if d is not None:
            total += d
    return found[0], *g_leaves
