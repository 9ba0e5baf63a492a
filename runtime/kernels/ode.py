"""Whole solves of ordinary equations by kernels: buffers, the autograd function, and the solution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ndl.runtime.events import EventWatch
from ndl.runtime.kernels.cpu_engine import portions_of
from ndl.runtime.kernels.launch import launch
from ndl.runtime.kernels.request import KernelSource, Made, Request
from ndl.runtime.kernels.weights import own_names, packed, rows_of, unpacked, value_of
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.control import Tolerances, proportional
from ndl.runtime.stepping.finish import SavedInterpolant, events_of, stats_of, steps_of
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import StepTable, fixed_table
from torch import Tensor
from torch.autograd.function import once_differentiable

FIRST_ROOM = 256
"""Rows of a tape whose length nobody knows yet."""

_rooms: dict[Any, int] = {}


class NoKernel(Exception):
    """Why a run goes by torch."""


@dataclass
class Found:
    """What a run leaves: `saved [B, S, n]`, `last [B, n]`, counts `[B]`; with a tape, the accepted steps."""

    last: Tensor
    saved: Tensor
    report: Tensor
    tape: dict[str, Tensor]


class KernelRun:
    """One run: the buffers of its kernels."""

    def __init__(self, problem: Problem, stepper: Stepper, source: KernelSource, target: str) -> None:
        self.p, self.stepper, self.source = problem, stepper, source
        names = source.weights()
        if isinstance(names, str):
            raise NoKernel(names)
        self.pace = Pace.of(problem, stepper)
        self.found: Found
        self.values = [value_of(problem.model, name) for name, _ in names]
        """The weights that the kernel reads, in its order."""
        self.steps = problem.save.kind == "steps"
        self.like = torch.empty(0, dtype=problem.dtype, device=problem.device)
        self.tol = Tolerances.of(problem)
        if not (stepper.extrapolates or self.pace.fixed):
            self.tol = proportional(self.tol, stepper.order)
        self.request = Request(
            solver=solver_of(problem),
            adaptive=not self.pace.fixed,
            precision="f64" if problem.dtype == torch.float64 else "f32",
            own=own_names(problem.model, names),
            save=problem.save.kind == "grid" or (self.pace.fixed and self.steps),
            tape=problem.taped or (self.steps and not self.pace.fixed),
            sign=problem.sign,
            vector=isinstance(self.tol.rtol, Tensor) or self.tol.atol.ndim > 0,
            grow=stepper.grow,
            target=target,
            options=options_of(problem),
        )
        # of one trajectory: all take the same fixed steps
        alone = problem.on(x0=problem.x0[:1])
        self.table = fixed_table(alone, self.pace.step) if self.pace.step is not None else None
        self.request = self._requested(self.request)
        self.made = self._make(self.request)
        # a run whose derivative has no kernel goes by torch as a whole
        self.back = self._make(replace(self.request, backward=True, tape=False)) if problem.taped else None
        self.tables = self._fixed_tables() if self.table is not None else self._adaptive_tables()

    def _requested(self, request: Request) -> Request:
        """The request with what only some kinds of run ask for."""
        return request

    def _more(self, backward: bool = False) -> dict[str, Tensor]:
        """Buffers that only some kinds of run have."""
        return {}

    @property
    def wide(self) -> int:
        """Numbers that are saved of each time: n, and what the method notes."""
        return self.p.size

    def _make(self, request: Request) -> Made:
        made = self.source.make(request)
        if isinstance(made, str):
            raise NoKernel(made)
        return made

    # ------------------------------------------------------------ tables

    def _real(self, values: Any) -> Tensor:
        found = torch.as_tensor(values, dtype=torch.float64).to(self.p.device, self.p.dtype).contiguous()
        return found if found.numel() else self.like.new_zeros(1)

    def _whole(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.int32).to(self.p.device).contiguous()

    def _fixed_tables(self) -> dict[str, Tensor]:
        assert self.table is not None
        p, steps = self.p, self.count_of_steps
        starts, ends = self.table.t[:steps], self.table.end[:steps]
        sizes, times = self.table.h[:steps], self.saved_times
        times = self._settled(times, np.append(p.t0, ends))
        until = np.searchsorted(p.sign * times, p.sign * np.append(p.t0, ends), side="right")
        step_of = np.clip(np.searchsorted(until, np.arange(len(times)), side="right") - 1, 0, steps - 1)
        theta = (times - starts[step_of]) / sizes[step_of]
        theta = np.where(times == ends[step_of], 1.0, theta)
        return {
            "times": self._real(starts),
            "sizes": self._real(sizes),
            "thetas": self._real(theta),
            "until": self._whole(until),
            "counts": self._whole([steps, len(times)]),
        }

    def _settled(self, times: Floats, ends: Floats) -> Floats:
        """Saved times, given the start and the steps' ends."""
        return times

    def _adaptive_tables(self) -> dict[str, Tensor]:
        p, tol, pace = self.p, self.tol, self.pace
        longest = pace.longest if np.isfinite(pace.longest) else np.finfo(np.float32).max
        wide = p.size if self.request.vector else 1
        rtol = torch.as_tensor(tol.rtol, dtype=torch.float64).cpu().expand(wide)
        atol = tol.atol.to("cpu", torch.float64).expand(wide)
        head = torch.tensor([p.t0, p.t1, longest, pace.first or 0.0], dtype=torch.float64)
        # a last saved time that never comes ends the search for due ones
        times = np.append(self.saved_times, p.sign * np.inf)
        return {"settings": self._real(torch.cat([head, rtol, atol])), "times": self._real(times)}

    @property
    def count_of_steps(self) -> int:
        assert self.table is not None
        return int(self.table.many[0])

    @property
    def saved_times(self) -> Floats:
        """The saved times that are known beforehand."""
        if self.table is not None and self.steps:
            return np.append(self.p.t0, self.table.end[: self.count_of_steps])
        return self.p.save.times if self.p.save.kind == "grid" else np.empty(0)

    # ------------------------------------------------------------ forwards

    def forward(self, x0: Tensor, values: list[Tensor]) -> Found:
        """Run the kernel; with a tape whose length was guessed too small, once more."""
        n, b = self.wide, self.p.count
        new = self.like.new_empty
        slots = len(self.saved_times)
        buffers = {
            **self.tables,
            **self._more(),
            **packed(values, self.made.weights, b, self.like),
            "x0": x0.t().contiguous(),
            "last": new(n, b),
            "saved": new(max(slots, 1) * n, b),
            "report": torch.zeros(4, b, dtype=torch.int32, device=self.p.device),
        }
        if self.pace.fixed:
            rows = self.count_of_steps * self.made.width if self.request.tape else 1
            buffers["tape"] = new(rows, b)
            if self.request.undone:
                buffers["carry"] = new(max(self.made.memory, 1), b)
            self._run(self.made, buffers)
        else:
            self._with_tape(buffers, slots)
        saved = buffers["saved"][: slots * n].reshape(slots, n, b).permute(2, 0, 1)
        kept = ("last", "carry", "x0") if self.request.undone else ()
        tape = {k: v for k, v in buffers.items() if k.startswith("tape") or k in kept}
        return Found(buffers["last"].t(), saved, buffers["report"], tape)

    def _with_tape(self, buffers: dict[str, Tensor], slots: int) -> None:
        p, b = self.p, self.p.count
        key = (self.request, p.size)
        room = _rooms.get(key, FIRST_ROOM) if self.request.tape else 1
        while True:
            if self.request.tape:
                buffers["tape"] = self.like.new_empty(room * self.made.width, b)
                for name in ("tape_t", "tape_h", "tape_error"):
                    buffers[name] = self.like.new_empty(room, b)
            buffers["counts"] = self._whole([min(p.max_steps, 2**31 - 1), slots, room])
            self._run(self.made, buffers)
            longest = int(buffers["report"][0].max())
            if longest <= room or not self.request.tape:
                return
            room = _rooms[key] = int(1.1 * longest) + 1

    def _run(self, made: Made, buffers: dict[str, Tensor]) -> None:
        launch(made.program, buffers, self.p.count)

    # ------------------------------------------------------------ backwards

    def backward(
        self, found: Found, values: list[Tensor], grad_last: Tensor, grad_saved: Tensor, wanted: list[bool]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The cotangents of x0 `[B, n]` and of the weights."""
        made = self.back
        assert made is not None
        n, b = self.p.size, self.p.count
        rows = rows_of(made.weights)
        new = self.like.new_empty
        slots = len(self.saved_times)
        buffers = {
            **self.tables,
            **self._more(backward=True),
            **found.tape,
            **packed(values, made.weights, b, self.like),
            "report": found.report,
            "grad_last": grad_last[:, :n].t().contiguous(),
            "grad_saved": grad_saved[..., :n].permute(1, 2, 0).reshape(slots * n, b).contiguous(),
            "grad_x0": new(n, b),
            "grad_weights": new(max(rows["weights"], 1), b),
            "grad_own": new(max(rows["own"], 1), b),
        }
        if rows["nets"]:
            portions = portions_of(b, made.program.lanes, rows["nets"])
            buffers["grad_nets"] = self.like.new_zeros(len(portions), rows["nets"])
        if not self.pace.fixed:
            buffers["counts"] = self._whole([0, slots, 0])
        buffers["grad_saved"] = buffers["grad_saved"] if slots else new(1)
        self._run(made, buffers)
        of = {k: buffers[f"grad_{k}"] for k in ("weights", "own")}
        of["nets"] = buffers["grad_nets"].t() if rows["nets"] else self.like
        return buffers["grad_x0"].t(), unpacked(of, values, made.weights, wanted)

    # ------------------------------------------------------------ the solution

    def solve(self) -> Solution | None:
        """The solution, or None where some trajectory failed: torch then says where and why."""
        p = self.p
        if p.taped:
            last, saved = _Solve.apply(self, p.x0, *self.values)  # type: ignore[no-untyped-call]
            found = self.found
        else:
            with torch.no_grad():
                found = self.forward(p.x0, self.values)
            last, saved = found.last, found.saved
        if self._failed(found):
            return None
        steps = _Accepted(self, found)
        many, rejected, evaluations = self._counts(found)
        record = self._saved(found, last, saved)
        interpolant: Interpolant | None = None
        if p.save.kind != "end":
            interpolant = steps if self.steps else SavedInterpolant(p, record)
        return Solution(
            p, record, {"x": last}, np.full(p.count, p.t1), stats_of(p, many, rejected, evaluations),
            steps_of(p, steps.table, steps.stiffness), events_of(p, EventWatch(p)), interpolant,
        )  # fmt: skip

    def _failed(self, found: Found) -> bool:
        broken = not all(bool(torch.isfinite(v).all()) for v in (found.last, found.saved))
        return broken or (not self.pace.fixed and bool(found.report[3].any()))

    def _counts(self, found: Found) -> tuple[Ints, Ints, Ints]:
        """Steps, rejected ones and evaluations of each trajectory."""
        many, rejected, evaluations, _ = found.report.cpu().numpy().astype(np.int64)
        return many, rejected, evaluations

    def _saved(self, found: Found, last: Tensor, saved: Tensor) -> Saved:
        """Times, which of them count, and values."""
        p, b = self.p, self.p.count
        if p.save.kind == "end":
            return Saved(np.full((b, 1), p.t1), np.ones((b, 1), dtype=bool), {"x": last[:, None]})
        if self.pace.fixed or not self.steps:
            times = np.broadcast_to(self.saved_times, (b, len(self.saved_times))).copy()
            return Saved(times, np.ones(times.shape, dtype=bool), {"x": saved})
        many = found.report[0].cpu().numpy()[:, None]
        slots = np.arange(int(many.max()) + 1)[None, :]
        tape = found.tape["tape"].reshape(-1, self.made.width, b)[: slots.size - 1].permute(2, 0, 1)
        values = torch.cat([self._at_starts(tape), last[:, None]], 1)
        ended = torch.from_numpy(slots >= many).to(last.device)[:, :, None]
        starts = found.tape["tape_t"][: slots.size - 1].t().cpu().numpy().astype(np.float64)
        times = np.where(slots >= many, p.t1, np.pad(starts, ((0, 0), (0, 1))))
        return Saved(times, slots <= many, {"x": torch.where(ended, last[:, None], values)})

    def _at_starts(self, tape: Tensor) -> Tensor:
        """What is saved of the steps' starts, `[B, S, wide]`, from the rows of a tape."""
        return tape[..., : self.p.size]

    def step_table(self, found: Found) -> StepTable:
        """The accepted steps; a run that kept none is made again with a tape."""
        if self.pace.step is not None:
            return fixed_table(self.p, self.pace.step)
        if not found.tape:
            again = type(self)(self.p.on(gradient="none"), self.stepper, self.source, self.request.target)
            again.request = replace(again.request, tape=True)
            again.made = again._make(again.request)
            with torch.no_grad():
                found = again.forward(self.p.x0.detach(), [v.detach() for v in self.values])
        many = found.report[0].cpu().numpy().astype(np.int64)
        keep = np.arange(int(many.max(initial=0)))[None, :] < many[:, None]
        t, h, error = (
            found.tape[name][: keep.shape[1]].t().cpu().numpy().astype(np.float64)[keep]
            for name in ("tape_t", "tape_h", "tape_error")
        )
        ids = np.repeat(np.arange(self.p.count), many)
        starts = np.concatenate([[0], np.cumsum(many)])
        end = np.append(t[1:], self.p.t1)
        end[starts[1:][many > 0] - 1] = self.p.t1
        return StepTable(ids, t, end, h, error, np.arange(len(t)) - starts[ids], ids, starts)


def solver_of(problem: Problem) -> Tableau | type[StepSolver]:
    solver = problem.method.solver
    return solver if isinstance(solver, Tableau) else type(solver)


def options_of(problem: Problem) -> tuple[tuple[str, float], ...]:
    """The numbers among a step solver's own options."""
    solver = problem.method.solver
    options = solver.options if isinstance(solver, StepSolver) else {}
    kinds = (int, float, torch.Tensor)
    return tuple(sorted((k, float(v)) for k, v in options.items() if isinstance(v, kinds)))


class _Accepted:
    """The accepted steps of a run, looked at when somebody asks: their table, and by a replay of them
    continuous output and stiffness."""

    def __init__(self, run: KernelRun, found: Found) -> None:
        self.run, self.found = run, found

    @cached_property
    def _table(self) -> StepTable:
        return self.run.step_table(self.found)

    @cached_property
    def _replayed(self) -> Solution:
        from ndl.runtime.gradients import replayed
        from ndl.runtime.stepping.replay import Script

        p = self.run.p
        with torch.set_grad_enabled(p.taped):
            return replayed(p, self.run.stepper, Script(self._table), None, None)

    def table(self) -> StepTable:
        return self._table

    def stiffness(self) -> Tensor:
        if self.run.p.save.kind == "end" and not self.run.p.taped:
            raise AttributeError("the stages of this run were not kept; use `save = steps`")
        if self.run.p.model.NOISES:  # not estimated
            return torch.full((self.run.p.count, int(self._table.many.max(initial=0))), torch.nan)
        found = self._replayed.steps.stiffness
        return found if found.ndim == 2 else found[None]

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        assert self._replayed.interpolant is not None
        return self._replayed.interpolant(ids, t)


class _Solve(torch.autograd.Function):
    """A run with its derivative."""

    @staticmethod
    def forward(ctx: Any, run: KernelRun, x0: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        run.found = run.forward(x0, list(values))
        ctx.run, ctx.found = run, run.found
        ctx.save_for_backward(*values)
        return run.found.last, run.found.saved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_last: Tensor, grad_saved: Tensor) -> tuple[Any, ...]:
        wanted = list(ctx.needs_input_grad[2:])
        values = list(ctx.saved_tensors)
        grad_x0, grads = ctx.run.backward(ctx.found, values, grad_last, grad_saved, wanted)
        return None, grad_x0, *grads
