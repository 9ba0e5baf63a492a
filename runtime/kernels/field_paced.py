"""A solve of fields by sweeps whose errors choose the steps: explicit embedded pairs.

Steps, sizes and decisions are those of the loop that serves torch; a step with its error is one pass of a
kernel. Saved times inside steps take another pass, which ends there. A gradient takes the steps as they
were: they are taken again by what differentiates fixed steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from ndl.runtime.finite import all_finite
from ndl.runtime.kernels.field_adjoint import Steps, adjoint, states_of
from ndl.runtime.kernels.field_run import SMALL, WORTH, FieldRun, bounded, fields_of, flat_of, refuse
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.inside import Inside
from ndl.runtime.kernels.record import Record
from ndl.runtime.kernels.sweeping import FieldMade, FieldSource, Plan, Sweeper
from ndl.runtime.methods import Tableau
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recorder import Recorder
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.choose import stepper_of
from ndl.runtime.stepping.control import Controller, Tolerances, first_step, proportional
from ndl.runtime.stepping.finish import SavedInterpolant, stats_of, steps_of
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.trail import Piece, StepTable, Trail
from torch import Tensor

EXPECTED = 500
"""Steps that a run is taken to have, where `auto` asks whether compiling pays."""


class PacedFieldRun(FieldRun):
    """One run. Raises `NoKernel` where sweeps do not serve it."""

    def __init__(self, problem: Problem, source: FieldSource, target: str) -> None:
        self.p, self.source, self.target = problem, source, target
        refuse(problem)
        self.stepper = stepper_of(problem)
        if not self.stepper.adaptive:
            raise NoKernel("it does not estimate its error")
        work = EXPECTED * (SMALL + problem.x0.numel()) * problem.repeats
        if problem.backend == "auto" and work < WORTH * (4 if problem.taped else 1):
            raise NoKernel("the run is short")
        self.tol = Tolerances.of(problem)
        if not self.stepper.extrapolates:
            self.tol = proportional(self.tol, self.stepper.order)
        self.pair = self.step_of("pair", False)
        assert isinstance(problem.method.solver, Tableau)
        self.inside = Inside.of(problem.method.solver)

    def solve(self) -> Solution | None:
        """The solution; None where torch is to say what is wrong."""
        p = self.p
        with torch.no_grad():
            found = Advance(self).run()
        if found is None:
            return None
        table, last = found.trail.table(), found.last
        recorder = found.recorder
        if p.taped:
            recorder, last = self._differentiated(table)
        if not all_finite(last):
            return None
        kept = recorder.result()
        if not bounded(p, kept.values["x"]):
            return None
        counts, none = found.steps, np.empty((p.count, 0), dtype=np.int64)
        events = Record(torch.empty(p.count, 0, dtype=torch.float64), none, none, np.zeros_like(counts))
        evaluations = (counts + found.rejected) * self._stages
        return Solution(
            p, kept, {"x": last}, np.full(p.count, p.t1), stats_of(p, counts, found.rejected, evaluations),
            steps_of(p, table, lambda: self._of_torch("stiffness"), self._errors_of()),
            events.events(p), SavedInterpolant(p, kept) if p.save.kind != "end" else None,
        )  # fmt: skip

    @property
    def _stages(self) -> int:
        assert isinstance(self.pair.plan, Plan)
        return self.pair.plan.stages

    @cached_property
    def _by_torch(self) -> Solution:
        """The same run by torch, which keeps what sweeps do not."""
        from ndl.runtime.solve import dispatch

        return dispatch(self.p.on(backend="torch"))

    def _of_torch(self, name: str) -> Tensor:
        found: Tensor = getattr(self._by_torch.steps, name)
        return found if found.ndim == 2 else found[None]

    def _errors_of(self) -> Callable[[], Tensor] | None:
        """The errors with their gradients, where there is one."""
        return (lambda: self._of_torch("error")) if self.p.taped else None

    def tolerances(self) -> list[float]:
        """rtol and atol of each field. Raises `NoKernel` where they differ from point to point."""
        points, found = int(np.prod(self.source.shape)), []
        for s in self.p.model.STATES:
            of = [torch.as_tensor(x, dtype=torch.float64) for x in (self.tol.rtol, self.tol.atol)]
            rtol, atol = (x[s.places] if x.ndim else x.expand(s.size) for x in of)
            both = torch.stack([rtol.reshape(points, -1), atol.reshape(points, -1)])
            if not bool((both == both[:, :1]).all()):
                raise NoKernel("tolerances differ from point to point")
            found += both[:, 0].T.flatten().tolist()
        return found

    # ------------------------------------------------------------ gradients

    def _differentiated(self, table: StepTable) -> tuple[Recorder, Tensor]:
        """The saved values and the last ones with their gradients, members one by one."""
        p = self.p
        recorder, last = Recorder(p.save, p.count, p.sign), []
        parts = [(made, *self.outside(made)) for made in (self.step_of("step", True),)]
        wanted = [self._wanted(table, m) for m in range(p.count)]
        if any(theta is not None for times in wanted for _, _, theta in times):
            made = self.step_of("inside", True)
            parts.append((made, *self.outside(made)))
        fields = fields_of(p.x0, self.source.shape, p.model.STATES)
        for m, times in enumerate(wanted):
            values, end = self._member(table, m, times, fields[m : m + 1], [_own(part, m) for part in parts])
            at = np.array([t for t, _, _ in times])
            recorder.put(np.full(len(at), m), np.arange(len(at)), at, {"x": values})
            last.append(end)
        return recorder, torch.cat(last)

    def _wanted(self, table: StepTable, member: int) -> list[tuple[float, int, float | None]]:
        """The saved times of a member: each with the step after whose end it is, or the one inside which it
        is and where there."""
        first, many = int(table.starts[member]), int(table.many[member])
        ends = np.append(self.p.t0, table.end[first : first + many])
        save = self.p.save
        if save.kind == "end":
            return [(self.p.t1, many, None)]
        if save.kind == "steps":
            return [(float(t), k, None) for k, t in enumerate(ends)]
        found: list[tuple[float, int, float | None]] = []
        for t in save.times:
            k = int(np.searchsorted(self.p.sign * ends, self.p.sign * t))
            if k <= many and ends[k] == t:
                found.append((float(t), k, None))
            else:
                h = table.h[first + k - 1]
                found.append((float(t), k - 1, float((t - ends[k - 1]) / h)))
        return found

    def _member(
        self, table: StepTable, m: int, times: list[tuple[float, int, float | None]], fields: Tensor,
        parts: list[tuple[FieldMade, Tensor, dict[str, Tensor]]],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The values `[times, n]` of a member, and those at its end `[1, n]`."""
        shape, states = self.source.shape, self.p.model.STATES
        first, many = int(table.starts[m]), int(table.many[m])
        t, h = table.t[first : first + many], table.h[first : first + many]
        stops = sorted({many, *(k for _, k, _ in times)})
        made, slots, tables = parts[0]
        assert made.back is not None
        steps = Steps(t, h, stops, states_of(self.p, many))
        at = adjoint(made, made.back, steps, fields, slots, tables)[0]
        found = []
        for _, k, theta in times:
            value = at[stops.index(k)]
            if theta is not None:
                made, slots, tables = parts[1]
                assert made.back is not None
                one = Steps(t[k : k + 1], h[k : k + 1], [1], 1)
                weighed = _filled(slots, made, self.inside.weights(theta))
                value = adjoint(made, made.back, one, value[None], weighed, tables)[0, 0]
            found.append(value)
        return flat_of(torch.stack(found), shape, states), flat_of(at[-1:], shape, states)


def _own(
    part: tuple[FieldMade, Tensor, dict[str, Tensor]], m: int
) -> tuple[FieldMade, Tensor, dict[str, Tensor]]:
    """What a member has of slots and tables."""
    made, slots, tables = part

    def own(x: Tensor) -> Tensor:
        return x[m : m + 1] if x.shape[0] > 1 else x

    return made, own(slots), {k: own(x) for k, x in tables.items()}


def _filled(slots: Tensor, made: FieldMade, numbers: list[float]) -> Tensor:
    """Slots with the numbers that are reserved."""
    return torch.cat(
        [slots[:, :2], slots.new_tensor([numbers]).expand(len(slots), -1), slots[:, 2 + made.reserved :]], 1
    )


class Advance:
    """The steps of all members: what `ndl.runtime.stepping.loop` does where a kernel steps."""

    def __init__(self, run: PacedFieldRun) -> None:
        self.run_, self.p = run, run.p
        p, b = run.p, run.p.count
        self.pace = Pace.of(p, run.stepper)
        self.control = Controller.of(p, run.stepper.error_order, run.stepper.grow)
        self.trail, self.recorder = Trail(b, p.sign, keep=False), Recorder(p.save, b, p.sign)
        self.steps, self.rejected = np.zeros(b, dtype=np.int64), np.zeros(b, dtype=np.int64)
        self.last = torch.empty_like(p.x0)
        self.ids: Ints = np.arange(b)
        self.t, self.old, self.again = np.full(b, p.t0), np.ones(b), np.zeros(b, dtype=bool)
        self.slots, tables = run.outside(run.pair)
        self.slots = _filled(self.slots, run.pair, run.tolerances()).repeat(b // len(self.slots), 1)
        fields = fields_of(p.x0, run.source.shape, p.model.STATES)
        self.many = fields.shape[1]
        assert isinstance(run.pair.plan, Plan)
        self.sweeper = _sweeper(
            run.pair.plan, torch.cat([fields, torch.zeros_like(fields[:, :1])], 1), tables
        )
        self.h, _ = first_step(
            p.field(), p.x0, self.t, p.sign, np.abs(p.t1 - self.t), run.stepper.error_order, run.tol
        )  # fmt: skip
        if self.pace.first is not None:
            self.h = np.minimum(self.pace.first, np.abs(p.t1 - self.t))
        self.within: tuple[Sweeper, Tensor] | None = None

    def run(self) -> Advance | None:
        """The finished run; None where a member cannot come to its end."""
        p = self.p
        self._save(self.ids)
        while len(self.ids):
            end = self.pace.end(self, np.full(len(self.ids), p.t1))  # type: ignore[arg-type]
            h = end - self.t
            tiny = np.abs(h) <= 4e-15 * np.maximum(np.abs(self.t), np.abs(end))
            spent = self.steps[self.ids] + self.rejected[self.ids]
            if (tiny & (end != p.t1)).any() or (spent >= p.max_steps).any():
                return None
            self._advance(h, end)
        return self

    def _advance(self, h: Floats, end: Floats) -> None:
        ids, members = self.ids, [int(m) for m in self.ids]
        times = torch.from_numpy(np.stack([self.t, h], 1)).to(self.slots)
        self.slots[members, :2] = times
        self.sweeper.attempt(self.slots, members)
        error = self._errors(members)
        accept = np.isfinite(error) & (error <= 1.0)
        bad = ~accept
        self.rejected[ids[bad]] += 1
        if accept.any():
            self._inside(accept, end, h)
            self.sweeper.accept([int(m) for m in ids[accept]])
        rows = np.nonzero(accept)[0]
        self.trail.add(Piece(rows, ids[rows], self.t[rows], end[rows], h[rows], error[rows]))
        self.steps[ids[rows]] += 1
        self._sizes(accept, error, h, end == self.p.t1)
        self.t = np.where(accept, end, self.t)
        self._save(ids[accept])
        self._leave(accept & (self.t == self.p.t1))

    def _sizes(self, accept: np.ndarray, error: Floats, h: Floats, ended: np.ndarray) -> None:
        """The next steps."""
        size = np.abs(h) * self.control.accepted(np.where(accept, error, 1.0), self.old, self.again)
        size = np.where(ended & ~self.again, np.maximum(size, self.h), size)
        less = np.abs(h) * self.control.rejected(np.where(np.isfinite(error), error, np.inf))
        self.h = np.where(accept, size, less)
        self.old = np.where(accept, np.maximum(error, 1e-4), self.old)
        self.again = ~accept

    def _errors(self, members: list[int]) -> Floats:
        """Root mean squares of the scaled errors."""
        shares = [self.sweeper.plain(self.sweeper.next[m : m + 1, self.many :]).sum() for m in members]
        found: Floats = torch.stack(shares).double().numpy()
        return np.sqrt(found / self.p.size)

    def _states(self, members: list[int]) -> Tensor:
        """The states of members as they are now, `[m, n]`."""
        found = [self.sweeper.plain(self.sweeper.now[m : m + 1, : self.many]) for m in members]
        fields = torch.cat(found).flatten(2)
        return flat_of(fields, self.run_.source.shape, self.p.model.STATES)

    # ------------------------------------------------------------ saving

    def _save(self, ids: Ints) -> None:
        """The values now, where the plan asks for them."""
        kind, at = self.p.save.kind, self.t[np.isin(self.ids, ids)]
        if kind == "end" or not len(ids):
            return
        if kind == "steps":
            self.recorder.append(ids, at, {"x": self._states([int(m) for m in ids])})
            return
        due = self.recorder.due(ids, at)
        if due is not None:
            rows, slots, times = due
            self.recorder.put(ids[rows], slots, times, {"x": self._states([int(m) for m in ids[rows]])})

    def _inside(self, accept: np.ndarray, end: Floats, h: Floats) -> None:
        """Saved times strictly inside the accepted steps."""
        live = np.nonzero(accept)[0]
        due = self.recorder.due(self.ids[live], end[live], inclusive=False)
        if due is None:
            return
        rows, slots, times = due
        values = [self._value(int(live[r]), float(t), float(h[live[r]])) for r, t in zip(rows, times)]
        self.recorder.put(self.ids[live[rows]], slots, times, {"x": torch.cat(values)})

    def _value(self, row: int, t: float, h: float) -> Tensor:
        run, m = self.run_, int(self.ids[row])
        made = run.step_of("inside", False)
        fields = self.sweeper.plain(self.sweeper.now[m : m + 1, : self.many])
        slots, tables = run.outside(made)
        _, slots, tables = _own((made, slots, tables), m)
        slots = _filled(slots, made, run.inside.weights((t - float(self.t[row])) / h))
        slots[:, 0], slots[:, 1] = float(self.t[row]), h
        assert isinstance(made.plan, Plan)
        sweeper = _sweeper(made.plan, fields.flatten(2), tables)
        sweeper.advance(slots, 1)
        return flat_of(sweeper.fields().flatten(2), run.source.shape, self.p.model.STATES)

    def _leave(self, done: np.ndarray) -> None:
        """Members that have come to their end are taken out."""
        if not done.any():
            return
        ids, stay = self.ids[done], np.nonzero(~done)[0]
        x = self._states([int(m) for m in ids])
        self.last[torch.from_numpy(ids)] = x
        self.recorder.finish(ids, self.t[done], {"x": x})
        self.ids, self.t, self.h = self.ids[stay], self.t[stay], self.h[stay]
        self.old, self.again = self.old[stay], self.again[stay]


def _sweeper(plan: Plan, fields: Tensor, tables: dict[str, Tensor]) -> Sweeper:
    """For fields `[B, fields, points]`."""
    wide = fields.reshape(*fields.shape[:2], *plan.shape)
    return Sweeper(plan, wide, {k: t.reshape(-1, *plan.shape) for k, t in tables.items()})


__all__ = ["PacedFieldRun"]
