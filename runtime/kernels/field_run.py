"""A solve of fields by sweeps: fixed steps of an explicit tableau."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ndl.runtime.finite import all_finite
from ndl.runtime.info import State
from ndl.runtime.kernels.field_adjoint import Steps, adjoint, states_of
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.pointwise import PointPlan, PointSweeper
from ndl.runtime.kernels.record import Record
from ndl.runtime.kernels.sweeping import FieldMade, FieldSource, Plan, Sweeper, alike
from ndl.runtime.kernels.weights import values_of
from ndl.runtime.methods import Tableau
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.recompute import checkpoints_of
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.finish import SavedInterpolant, stats_of, steps_of
from ndl.runtime.stepping.pace import fixed_step
from ndl.runtime.stepping.trail import StepTable, fixed_table, shared_table
from ndl.runtime.surroundings import transforms
from torch import Tensor

SMALL, WORTH = 20_000, 40_000_000
"""What a step by torch costs at least, and what compiling costs, in values that torch takes a step on; with a
gradient, four times that."""


class FieldRun:
    """One run. Raises `NoKernel` where sweeps do not serve it."""

    def __init__(self, problem: Problem, source: FieldSource, target: str) -> None:
        self.p, self.source, self.target = problem, source, target
        refuse(problem)
        options, name = problem.method.options, problem.method.name
        step = fixed_step(options, problem.t0, problem.t1, name)
        assert step is not None
        self.table: StepTable = shared_table(problem, step)
        work = self.count * (SMALL + problem.x0.numel()) * problem.repeats
        if problem.backend == "auto" and work < WORTH * (4 if problem.taped else 1):
            raise NoKernel("the run is short")
        self.saves = self._saves()
        self.made = self._make()

    def _make(self) -> FieldMade:
        return self.step_of("step", self.p.taped)

    def step_of(self, kind: str, gradient: bool) -> FieldMade:
        """The step of a kind. Raises `NoKernel`."""
        tableau = self.p.method.solver
        assert isinstance(tableau, Tableau)
        precision = "f64" if self.p.dtype == torch.float64 else "f32"
        made = self.source.make(tableau, precision, self.target, gradient, kind)
        if isinstance(made, str):
            raise NoKernel(made)
        return made

    @property
    def ends(self) -> Floats:
        """The times before the first step and after each."""
        return np.append(self.p.t0, self.table.end[: self.count])

    @property
    def count(self) -> int:
        return int(self.table.many[0])

    def _saves(self) -> list[int]:
        """After how many steps values are saved."""
        save = self.p.save
        if save.kind == "steps":
            return list(range(self.count + 1))
        if save.kind == "end":
            return [self.count]
        at = np.searchsorted(self.p.sign * self.ends, self.p.sign * save.times)
        at = np.minimum(at, self.count)
        slack = 1e-9 * np.abs(self.table.h[0])
        for shift in (-1, 0):
            near = np.clip(at + shift, 0, self.count)
            at = np.where(np.abs(self.ends[near] - save.times) <= slack, near, at)
        if (np.abs(self.ends[at] - save.times) > slack).any():
            raise NoKernel("some saved times lie inside steps")
        return [int(k) for k in at]

    # ------------------------------------------------------------ the run

    def solve(self) -> Solution | None:
        """The solution; None where torch is to tell what is wrong."""
        p = self.p
        with torch.set_grad_enabled(p.taped):
            slots, tables = self.outside(self.made)
            fields = fields_of(p.x0, self.source.shape, p.model.STATES)
            kept = self._taped(fields, slots, tables) if p.taped else self._forwards(fields, slots, tables)
            saved = flat_of(kept, self.source.shape, p.model.STATES)
        wanted = self.stops
        last = saved[:, -1]
        if not (all_finite(last) and bounded(p, saved)):
            return None
        places = [wanted.index(k) for k in self.saves]
        return self._solution(saved if places == list(range(len(wanted))) else saved[:, places], last)

    @property
    def stops(self) -> list[int]:
        """After how many steps values are wanted, the last of them the run's end."""
        return sorted({*self.saves, self.count})

    def _forwards(self, fields: Tensor, slots: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """Fields at the stops, `[B, stops, fields, points]`."""
        sweeper = self._sweeper(fields, tables, slots)
        kept, done = [], 0
        for stop in self.stops:
            self.advance(sweeper, slots, done, stop)
            done = stop
            kept.append(sweeper.fields().reshape(fields.shape))
        return torch.stack(kept, 1) if len(kept) > 1 else kept[0].unsqueeze(1)

    def _taped(self, fields: Tensor, slots: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
        """The same, with a gradient."""
        assert self.made.back is not None and isinstance(self.made.plan, Plan)
        steps = Steps(self.ends[:-1], self.table.h[: self.count], self.stops, states_of(self.p, self.count))
        return adjoint(self.made, self.made.back, steps, fields, slots, tables)

    def _sweeper(self, fields: Tensor, tables: Mapping[str, Tensor], slots: Tensor) -> Sweeper | PointSweeper:
        """What takes the steps, for `fields [B, fields, points]` and `tables [B or 1, points]`."""
        plan = self.made.plan
        if isinstance(plan, PointPlan):
            if slots.shape[0] > 1:
                raise NoKernel("members have parameters of their own, which points do not know")
            return PointSweeper(plan, fields, tables)
        wide = fields.reshape(*fields.shape[:2], *plan.shape)
        return Sweeper(plan, wide, {k: t.reshape(-1, *plan.shape) for k, t in tables.items()})

    def advance(self, sweeper: Sweeper | PointSweeper, slots: Tensor, done: int, stop: int) -> None:
        """Steps `done`, …, `stop` - 1, those of one size together."""
        for first, many in alike(self.table.h, done, stop):
            slots[:, 0], slots[:, 1] = self.table.t[first], self.table.h[first]
            sweeper.advance(slots, many)

    def outside(self, made: FieldMade) -> tuple[Tensor, dict[str, Tensor]]:
        """Slots `[members or 1, …]` and coefficients, each `[members or 1, points]`."""
        names, compute = made.outside
        values = {n: v.cpu() for n, v in zip(names, values_of(self.p.model, names))}
        plain = dict(self.source.ranks)
        own = any(v.ndim > plain[n] for n, v in values.items())
        found = [
            compute({n: v[m] if v.ndim > plain[n] else v for n, v in values.items()})
            for m in range(self.p.count if own else 1)
        ]
        dtype, device = self.p.dtype, self.p.device
        driver = [torch.full((), math.nan, dtype=dtype)] * (2 + made.reserved)
        slots = torch.stack([torch.stack([*driver, *(x.to(dtype) for x in f.numbers)]) for f in found])
        tables = {
            k: torch.stack([f.tables[k] for f in found]).flatten(1).to(device, dtype) for k in found[0].tables
        }
        return slots, tables

    @property
    def _stages(self) -> int:
        plan = self.made.plan
        return len(plan.sweeps) if isinstance(plan, PointPlan) else plan.stages

    def _solution(self, saved: Tensor, last: Tensor) -> Solution:
        p, b = self.p, self.p.count
        times = np.broadcast_to(self.ends[self.saves], (b, len(self.saves))).copy()
        kept = Saved(times, np.ones(times.shape, dtype=bool), {"x": saved})
        counts = np.full(b, self.count, dtype=np.int64)
        none = np.empty((b, 0), dtype=np.int64)
        events = Record(torch.empty(b, 0, dtype=torch.float64), none, none, np.zeros(b, dtype=np.int64))
        return Solution(
            p, kept, {"x": last}, np.full(b, p.t1), stats_of(p, counts, counts * 0, counts * self._stages),
            steps_of(p, lambda: fixed_table(p, abs(float(self.table.h[0]))), unkept),
            events.events(p), SavedInterpolant(p, kept) if p.save.kind != "end" else None,
        )  # fmt: skip


def refuse(problem: Problem) -> None:
    """Raises `NoKernel` with the reason where sweeps do not serve a run."""
    model, solver = problem.model, problem.method.solver
    fixed = fixed_step(problem.method.options, problem.t0, problem.t1, problem.method.name) is not None
    for found, why in (
        (
            problem.gradient not in ("none", "discrete") and checkpoints_of(problem.gradient) is None,
            f"`gradient = {problem.gradient}` of fields is torch's",
        ),
        (bool(transforms()), "transforms of `torch.func` and dual numbers are torch's"),
        (not isinstance(solver, Tableau) or solver.implicit, f"`{problem.method.name}` is not yet a sweep"),
        (problem.method.options.get("cfl") is not None, "its steps follow the speed of waves"),
        (not fixed and bool(model.BREAKS), "a discontinuity is to be located"),
        (bool(model.REQUIRES), "`require` is asked at every step"),
        (bool(model.NOISES), "noise on a grid is torch's"),
        (bool(model.EVENTS), "events of fields are torch's"),
        (bool(model.INPUTS), "inputs of fields are torch's"),
        (problem.t0 == problem.t1, "the span is empty"),
    ):
        if found:
            raise NoKernel(why)


def bounded(problem: Problem, saved: Tensor) -> bool:
    """Whether the states `[B, S, n]` keep their bounds, as `ndl.runtime.requirements` takes them."""
    for s in problem.model.STATES:
        part = saved[..., s.places].detach()
        slack = 1e-6 * (part.abs().amax(-1, keepdim=True) + 1e-6)
        below = s.lower is not None and bool((part < s.lower - slack).any())
        if below or (s.upper is not None and bool((part > s.upper + slack).any())):
            return False
    return True


def unkept() -> Tensor:
    raise AttributeError("the stages of this run were not kept; use `backend = torch`")


def fields_of(x: Tensor, shape: tuple[int, ...], states: Sequence[State]) -> Tensor:
    """Fields `[B, fields, points]` from flat states `[B, n]`, the components of each apart."""
    points, b = math.prod(shape), x.shape[0]
    parts = [x[:, s.offset : s.offset + s.size].reshape(b, points, -1).mT for s in states]
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def flat_of(fields: Tensor, shape: tuple[int, ...], states: Sequence[State]) -> Tensor:
    """The reverse, `[…, n]` of `[…, fields, points]`."""
    points, parts, at = math.prod(shape), [], 0
    for s in states:
        many = s.size // points
        parts.append(fields[..., at : at + many, :].mT.flatten(-2))
        at += many
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]
