"""Whole solves of ordinary equations by kernels: buffers, the autograd function, and the solution."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.events import EventWatch
from ndl.runtime.kernels.accepted import Accepted
from ndl.runtime.kernels.drivers import drivers_of
from ndl.runtime.kernels.failures import Ended, explained
from ndl.runtime.kernels.launch import launch, portions
from ndl.runtime.kernels.lease import KEPT, Lease
from ndl.runtime.kernels.record import Record, saved_until
from ndl.runtime.kernels.request import KernelSource, Made, Request
from ndl.runtime.kernels.stretches import Bill, Stretches, Way, cotangents
from ndl.runtime.kernels.weights import own_names, packed, rows_of, unpacked, value_of
from ndl.runtime.memory import refuse_tape
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Floats, Ints, Problem
from ndl.runtime.recompute import checkpoints_of
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.control import Tolerances, proportional
from ndl.runtime.stepping.finish import (
    SavedInterpolant,
    events_of,
    stats_of,
    steps_of,
)
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.replay import Script
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import StepTable, fixed_table
from torch import Tensor

FIRST_ROOM, FIRST_EVENTS = 256, 16
"""Rows of a tape, and of a record of events, whose length nobody knows yet."""

UNMET = 3
"""The status of a trajectory for which something does not hold (`ndl.compiler.kernels.control`)."""

_rooms: dict[Any, tuple[int, int]] = {}


class NoKernel(Exception):
    """Why a run goes by torch."""


@dataclass
class Found:
    """What a run leaves: `saved [B, S, n]`, `last [B, n]`, counts `[B]`; with a tape, the accepted steps and
    what it keeps of them; where each trajectory goes at its own time, its last time and step `ended [2, B]`
    and its events."""

    last: Tensor
    saved: Tensor
    report: Tensor
    tape: dict[str, Tensor]
    kept: Lease | None = None
    ended: Tensor | None = None
    events: dict[str, Tensor] = field(default_factory=dict)
    way: Way | None = None


class KernelRun:
    """One run: the buffers of its kernels. With `watch` each trajectory goes at its own time even with fixed
    steps."""

    explains = True
    """Whether a failure is told from what the kernel left of it; if not, torch makes the run again."""

    def __init__(
        self, problem: Problem, stepper: Stepper, source: KernelSource, target: str, watch: bool = False
    ) -> None:
        self.p, self.stepper, self.source = problem, stepper, source
        names = source.weights()
        if isinstance(names, str):
            raise NoKernel(names)
        drivers = drivers_of(problem, source.paths())
        if isinstance(drivers, str):
            raise NoKernel(drivers)
        self.drivers = drivers
        self.pace = Pace.of(problem, stepper)
        self.found: Found
        self.values = [value_of(problem.model, name) for name, _ in names]
        """The weights that the kernel reads, in its order."""
        self.steps = problem.save.kind == "steps"
        watch = watch or bool(problem.model.EVENTS)
        self.known = self.pace.fixed and not watch
        self.checkpoints = checkpoints_of(problem.gradient)
        whole = problem.taped and self.checkpoints is None
        self.like = torch.empty(0, dtype=problem.dtype, device=problem.device)
        self.tol = Tolerances.of(problem)
        if not (stepper.extrapolates or self.pace.fixed):
            self.tol = proportional(self.tol, stepper.order)
        self.request = Request(
            solver=solver_of(problem),
            adaptive=not self.pace.fixed,
            precision="f64" if problem.dtype == torch.float64 else "f32",
            own=own_names(problem.model, names) | drivers.own,
            save=problem.save.kind == "grid" or (self.known and self.steps),
            tape=whole or (self.steps and not self.known),
            sign=problem.sign,
            vector=isinstance(self.tol.rtol, Tensor) or self.tol.atol.ndim > 0,
            grow=stepper.grow,
            target=target,
            options=options_of(problem),
            keep=whole and self.known and target == "cpu",
            watch=watch,
            drivers=drivers.wanted,
            trail=self.checkpoints is not None,
        )
        # of one trajectory: all take the same fixed steps
        alone = problem.on(x0=problem.x0[:1])
        self.table = fixed_table(alone, self.pace.step) if self.pace.step is not None else None
        self.request = self._requested(self.request)
        if self.checkpoints is not None and self.checkpoints.memory is not None and self.known:
            self._take_whole(self.checkpoints.memory)
        self.made = self._make(self.request)
        if self.kept_room > KEPT:
            self.request = replace(self.request, keep=False)
            self.made = self._make(self.request)
        # a run whose derivative has no kernel goes by torch as a whole
        whole = problem.taped and self.checkpoints is None
        self.back = self._make(replace(self.request, backward=True, tape=False)) if whole else None
        self.stretches = self._stretches(target) if self.checkpoints is not None else []
        self.tables = self._fixed_tables() if self.known else self._adaptive_tables()

    def _requested(self, request: Request) -> Request:
        """The request with what only some kinds of run ask for."""
        return request

    def _take_whole(self, memory: float) -> None:
        """Do without checkpoints where the tape of fixed steps fits into so many bytes."""
        for keep in (True, False) if self.request.target == "cpu" else (False,):
            request = replace(self.request, tape=True, trail=False, keep=keep)
            self.made = self._make(request)
            reals = self.count_of_steps * self.made.width * self.p.count + self.kept_room
            if reals * self.like.element_size() <= memory:
                self.request, self.checkpoints = request, None
                return

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

    def _stretches(self, target: str) -> list[Stretches]:
        """The kernels for a way back without a tape. Arrays of nets are kept where the memory is given."""
        assert self.checkpoints is not None
        keeps = [False, True] if self.checkpoints.memory is not None and target == "cpu" else [False]
        found = []
        for keep in keeps:
            request = replace(self.request, stretch=True, trail=False, keep=keep)
            again, back = replace(request, tape=True), replace(request, backward=True)
            found.append(Stretches(self._make(again), self._make(back)))
        return [s for s in found if s is found[0] or s.again.kept]

    @property
    def kept_room(self) -> int:
        """How many reals the arrays that the run keeps take, whole blocks of lanes."""
        lanes = self.made.program.lanes
        return (
            self.made.kept
            * -(-self.p.count // lanes)
            * lanes
            * (self.count_of_steps if self.made.kept else 0)
        )

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
        first = pace.step or pace.first or 0.0
        head = torch.tensor([p.t0, p.t1, longest, first], dtype=torch.float64)
        # a last saved time that never comes ends the search for due ones
        times = np.append(self.saved_times, p.sign * np.inf)
        found = {"settings": self._real(torch.cat([head, rtol, atol])), "times": self._real(times)}
        if self.table is not None:
            ends = self.table.end[: self.count_of_steps]
            found["ends"] = self._real(np.append(ends, p.sign * np.inf))
        return found

    @property
    def count_of_steps(self) -> int:
        assert self.table is not None
        return int(self.table.many[0])

    @property
    def saved_times(self) -> Floats:
        """The saved times that are known beforehand."""
        if self.known and self.steps:
            assert self.table is not None
            return np.append(self.p.t0, self.table.end[: self.count_of_steps])
        return self.p.save.times if self.p.save.kind == "grid" else np.empty(0)

    # ------------------------------------------------------------ forwards

    def forward(self, x0: Tensor, values: list[Tensor]) -> Found:
        """Run the kernel; with a tape whose length was guessed too small, once more."""
        n, b = self.wide, self.p.count
        new = self.like.new_empty
        slots = len(self.saved_times)
        lease: Lease | None = None
        way: Way | None = None
        buffers = {
            **self.tables,
            **self._more(),
            **packed(values, self.made.weights, b, self.like),
            **self.drivers.buffers(),
            "x0": x0.t().contiguous(),
            "last": new(n, b),
            "saved": new(max(slots, 1) * n, b),
            "report": torch.zeros(6, b, dtype=torch.int32, device=self.p.device),
        }
        if self.known:
            rows = self.count_of_steps * self.made.width if self.request.tape else 1
            buffers["tape"] = self._tape(rows)
            lease = Lease(self.like, self.kept_room)
            if self.request.undone:
                buffers["carry"] = new(max(self.made.memory, 1), b)
            if self.stretches:
                way = self._way(buffers["report"])
                buffers |= way.marks(buffers["x0"])
            self._run(self.made, {**buffers, "kept": lease.buffer})
        else:
            buffers["ended"] = new(2, b)
            self._with_room(buffers, slots)
        saved = buffers["saved"][: slots * n].reshape(slots, n, b).permute(2, 0, 1)
        over = ("last", "carry", "x0") if self.request.undone else ("x0", "states") if self.stretches else ()
        tape = {k: v for k, v in buffers.items() if k.startswith("tape") or k in over}
        events = {k: v for k, v in buffers.items() if k.startswith("event_")}
        if self.stretches and way is None:
            way = self._way(buffers["report"])
        ended = buffers.get("ended")
        return Found(buffers["last"].t(), saved, buffers["report"], tape, lease, ended, events, way)

    def _with_room(self, buffers: dict[str, Tensor], slots: int) -> None:
        """Run the kernel; where the room for the tape or the record of events was too small, once more."""
        p, b = self.p, self.p.count
        taped, watch = self.request.tape, bool(p.model.EVENTS)
        tape = taped or self.request.trail
        key = (self.request, p.size)
        room, events = _rooms.get(key, (FIRST_ROOM, FIRST_EVENTS))
        while True:
            if taped:
                buffers["tape"] = self._tape(room * self.made.width)
            if tape:
                for name in ("tape_t", "tape_h", *(["tape_error"] if taped else [])):
                    buffers[name] = self.like.new_empty(room, b)
            for name in ("tape_kind", "tape_fresh", "tape_new"):
                if name in self.made.program.buffers:
                    buffers[name] = self._whole(np.zeros((room, b)))
            if watch:
                buffers["event_t"] = self.like.new_empty(events, b)
                for name in ("event_step", "event_kind"):
                    buffers[name] = self._whole(np.zeros((events, b)))
                if tape:
                    buffers["event_x"] = self.like.new_empty(events * p.size, b)
            buffers["counts"] = self._whole([min(p.max_steps, 2**31 - 1), slots, room, events])
            self._run(self.made, buffers)
            longest, most = int(buffers["report"][0].max()), int(buffers["report"][5].max())
            if (longest <= room or not tape) and most <= events:
                return
            room = max(room, int(1.1 * longest) + 1) if tape else room
            events = max(events, int(1.1 * most) + 1)
            _rooms[key] = room, events

    def _tape(self, rows: int) -> Tensor:
        """Room for the steps of all trajectories. Raises `SettingError` where there is none."""
        if rows > 1:
            refuse_tape(rows * self.p.count * self.like.element_size(), self.p.device)
        return self.like.new_empty(rows, self.p.count)

    def _run(self, made: Made, buffers: dict[str, Tensor]) -> None:
        launch(made.program, buffers, self.p.count)

    # ------------------------------------------------------------ backwards

    def backward(
        self, found: Found, values: list[Tensor], grads: tuple[Tensor, Tensor, Tensor], wanted: list[bool]
    ) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
        """From the cotangents of `last`, of `saved` and of the times of events: those of x0 `[B, n]`, of the
        coefficients of paths and of the weights."""
        made = self.back if found.way is None else found.way.kernels.back
        grad_last, grad_saved, grad_event_t = grads
        assert made is not None
        n, b = self.p.size, self.p.count
        rows = rows_of(made.weights)
        new = self.like.new_empty
        slots = len(self.saved_times)
        states = found.tape.pop("states", None)  # a second way back finds other checkpoints there
        buffers = {
            **self.tables,
            **self._more(backward=True),
            **found.tape,
            **packed(values, made.weights, b, self.like),
            **self.drivers.buffers(),
            "report": found.report,
            "grad_last": grad_last[:, :n].t().contiguous(),
            "grad_saved": grad_saved[..., :n].permute(1, 2, 0).reshape(slots * n, b).contiguous(),
            "grad_x0": new(n, b),
            "grad_weights": new(max(rows["weights"], 1), b),
            "grad_own": new(max(rows["own"], 1), b),
        }
        if rows["nets"]:
            many = portions(made.program, b, rows["nets"])
            buffers["grad_nets"] = self.like.new_zeros(many, rows["nets"])
        if self.drivers.wanted:
            buffers["grad_drivers"] = torch.zeros_like(self.drivers.values.detach())
        if not self.known:
            assert found.ended is not None
            buffers["counts"] = self._whole([0, slots, 0])
            buffers["ended"] = found.ended
        if found.events:
            buffers |= {**found.events, "grad_event_t": grad_event_t.contiguous()}
        buffers["grad_saved"] = buffers["grad_saved"] if slots else new(1, b)
        if found.kept is not None:
            buffers["kept"] = found.kept.buffer
        if found.way is None:
            self._run(made, buffers)
        else:
            buffers["grads"] = cotangents(grad_last, made, rows, n)
            found.way.run(slots, buffers, self._run, states)
        of = {k: buffers[f"grad_{k}"] for k in ("weights", "own")}
        of["nets"] = buffers["grad_nets"].t() if rows["nets"] else self.like
        weights = unpacked(of, values, made.weights, wanted)
        return buffers["grad_x0"].t(), buffers.get("grad_drivers"), weights

    def _way(self, report: Tensor) -> Way:
        """What is kept on the way back of a run without a tape."""
        assert self.checkpoints is not None
        size = self.like.element_size()
        steps = self.count_of_steps if self.known else max(int(report[0].max()), 1)
        trail = 0 if self.known else 2 * size + 4 * ("tape_new" in self.made.program.buffers)
        return Way.of(self.stretches, self.checkpoints, Bill(steps, self.p.count, size, trail))

    # ------------------------------------------------------------ the solution

    def solve(self) -> Solution | None:
        """The solution, or None where torch must say what is wrong. Raises `SolveFailure` when some
        trajectory cannot come to its end; the others do."""
        p = self.p
        if p.taped:
            last, saved, times = _Solve.apply(self, p.x0, self.drivers.values, *self.values)  # type: ignore[no-untyped-call]
            found = self.found
            if found.events:
                found.events["event_t"] = times
        else:
            with torch.no_grad():
                found = self.forward(p.x0, self.values)
            last, saved = found.last, found.saved
        ended = self._ended(found)
        if ended and not self.explains:
            return None
        if ended:
            whole = self._solution(found, found.last.detach(), found.saved.detach())
            raise explained(p, self.stepper, self.tol, ended, whole)
        if all(bool(torch.isfinite(v.detach()).all()) for v in (last, self._reached(found, saved))):
            return self._solution(found, last, saved)
        if self.known and self.explains:
            # the same steps once more, each trajectory at its own time: that run knows who fails and where
            with suppress(NoKernel):
                KernelRun(p.on(gradient="none"), self.stepper, self.source, self.request.target, True).solve()
        return None

    def _ended(self, found: Found) -> Ended | None:
        """How the trajectories ended, where that is known."""
        if found.ended is None:
            return None
        many, rejected, _ = self._counts(found)
        t, h = found.ended.cpu().numpy().astype(np.float64)
        status = found.report[3].cpu().numpy().astype(np.int64)
        # what does not hold at the start needs no attempt
        attempts = np.where((status == UNMET) & (many == 0), 0, many + rejected)
        return Ended(status, attempts, t, h, found.last)

    def _solution(self, found: Found, last: Tensor, saved: Tensor) -> Solution:
        p = self.p
        steps = Accepted(self, found)
        many, rejected, evaluations = self._counts(found)
        record = self._saved(found, last, saved)
        interpolant: Interpolant | None = None
        if p.save.kind != "end":
            interpolant = steps if self.steps else SavedInterpolant(p, record)
        elif p.taped and not self.known and not p.model.NOISES and not p.model.EVENTS:
            interpolant = steps  # its tape has the steps anyway
        events = events_of(p, EventWatch(p)) if not found.events else self.record(found).events(p)
        return Solution(
            p, record, {"x": last}, self._last_t(found), stats_of(p, many, rejected, evaluations),
            steps_of(p, steps.table, steps.stiffness, steps.errors if p.taped else None),
            events, interpolant,
        )  # fmt: skip

    def record(self, found: Found) -> Record:
        """The events of a run."""
        return Record.of(found.events, found.report[5].cpu().numpy().astype(np.int64))

    def _last_t(self, found: Found) -> Floats:
        """Where each trajectory ended `[B]`."""
        if found.ended is None:
            return np.full(self.p.count, self.p.t1)
        t: Floats = found.ended[0].cpu().numpy().astype(np.float64)
        # t1 may have been rounded to the run's precision
        whole = np.asarray(self._real([self.p.t1]).cpu(), dtype=np.float64)
        return np.where(t == whole, self.p.t1, t)

    def _counts(self, found: Found) -> tuple[Ints, Ints, Ints]:
        """Steps, rejected ones and evaluations of each trajectory."""
        many, rejected, evaluations, *_ = found.report.cpu().numpy().astype(np.int64)
        return many, rejected, evaluations

    def _reached(self, found: Found, saved: Tensor) -> Tensor:
        """The saved values that trajectories came to, and zeros."""
        if found.ended is None or not saved.shape[1]:
            return saved
        slots = torch.arange(saved.shape[1], device=saved.device)[None, :, None]
        return torch.where(slots < found.report[4][:, None, None], saved.detach(), 0.0)

    def _saved(self, found: Found, last: Tensor, saved: Tensor) -> Saved:
        """Times, which of them count, and values."""
        p, b = self.p, self.p.count
        last_t = self._last_t(found)
        if p.save.kind == "end":
            return Saved(last_t[:, None], np.ones((b, 1), dtype=bool), {"x": last[:, None]})
        if self.known or not self.steps:
            grid = self.saved_times
            if found.ended is not None and (found.report[4] < len(grid)).any():
                slots = found.report[4].cpu().numpy().astype(np.int64)
                return saved_until(grid, saved, slots, last, last_t)
            times = np.broadcast_to(grid, (b, len(grid))).copy()
            return Saved(times, np.ones(times.shape, dtype=bool), {"x": saved})
        many = found.report[0].cpu().numpy()[:, None]
        slots = np.arange(int(many.max()) + 1)[None, :]
        tape = found.tape["tape"].reshape(-1, self.made.width, b)[: slots.size - 1].permute(2, 0, 1)
        values = torch.cat([self._at_starts(tape), last[:, None]], 1)
        ended = torch.from_numpy(slots >= many).to(last.device)[:, :, None]
        starts = found.tape["tape_t"][: slots.size - 1].t().cpu().numpy().astype(np.float64)
        times = np.where(slots >= many, last_t[:, None], np.pad(starts, ((0, 0), (0, 1))))
        return Saved(times, slots <= many, {"x": torch.where(ended, last[:, None], values)})

    def _at_starts(self, tape: Tensor) -> Tensor:
        """What is saved of the steps' starts, `[B, S, wide]`, from the rows of a tape."""
        return tape[..., : self.p.size]

    def with_tape(self, found: Found) -> Found:
        """The run with its accepted steps; one that kept none is made again."""
        if found.tape.get("tape_error") is not None:
            return found
        again = type(self)(
            self.p.on(gradient="none"), self.stepper, self.source, self.request.target, self.request.watch
        )
        again.request = replace(again.request, tape=True)
        again.made = again._make(again.request)
        with torch.no_grad():
            return again.forward(self.p.x0.detach(), [v.detach() for v in self.values])

    def step_table(self, found: Found) -> StepTable:
        """The accepted steps of a run with a tape."""
        if self.known:
            assert self.pace.step is not None
            return fixed_table(self.p, self.pace.step)
        many = found.report[0].cpu().numpy().astype(np.int64)
        keep = np.arange(int(many.max(initial=0)))[None, :] < many[:, None]
        t, h, error = (
            found.tape[name][: keep.shape[1]].t().cpu().numpy()[keep].astype(np.float64)
            for name in ("tape_t", "tape_h", "tape_error")
        )
        ids = np.repeat(np.arange(self.p.count), many)
        starts = np.concatenate([[0], np.cumsum(many)])
        end = np.append(t[1:], self.p.t1)
        end[starts[1:][many > 0] - 1] = self._last_t(found)[many > 0]
        return StepTable(ids, t, end, h, error, np.arange(len(t)) - starts[ids], ids, starts)

    def script(self, found: Found) -> Script:
        """The run for a replay."""
        taped = found if self.known else self.with_tape(found)
        table = self.step_table(taped)
        crossings = self._crossed(taped)
        restarts = sorted({(member, step + 1) for member, step, _ in crossings})
        if not taped.events:
            return Script(table, [], restarts, crossings, self.pace.fixed)
        record = self.record(taped)
        restarts = sorted({*restarts, *record.restarts()})
        firings = record.firings(self.p, self._of_steps(taped, "tape_kind"))
        return Script(table, firings, restarts, crossings, self.pace.fixed)

    def _crossed(self, found: Found) -> list[tuple[int, int, int]]:
        """The breaks that steps cross: (member, step, break)."""
        if "tape_fresh" not in found.tape:
            return []
        bits = self._of_steps(found, "tape_fresh")
        return [
            (int(m), int(step), k)
            for m, step in np.argwhere(bits)
            for k in range(int(bits[m, step]).bit_length())
            if int(bits[m, step]) >> k & 1
        ]

    def _of_steps(self, found: Found, name: str) -> Ints:
        """A number that the tape has for each step, `[B, K]`; 0 after the last one."""
        many = found.report[0].cpu().numpy()
        rows = found.tape[name][: int(many.max(initial=0))].t().cpu().numpy().astype(np.int64)
        return np.where(np.arange(rows.shape[1])[None, :] < many[:, None], rows, 0)


def solver_of(problem: Problem) -> Tableau | type[StepSolver]:
    solver = problem.method.solver
    return solver if isinstance(solver, Tableau) else type(solver)


def options_of(problem: Problem) -> tuple[tuple[str, float], ...]:
    """The numbers among a step solver's own options."""
    solver = problem.method.solver
    options = solver.options if isinstance(solver, StepSolver) else {}
    kinds = (int, float, torch.Tensor)
    return tuple(sorted((k, float(v)) for k, v in options.items() if isinstance(v, kinds)))


class _Solve(torch.autograd.Function):
    """A run with its derivative."""

    @staticmethod
    def forward(
        ctx: Any, run: KernelRun, x0: Tensor, drivers: Tensor, *values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        run.found = run.forward(x0, list(values))
        ctx.run, ctx.found = run, run.found
        ctx.save_for_backward(x0, drivers, *values)
        # the results would hold this context, which holds the run: it would wait for the collector
        times = run.found.events.get("event_t", run.like)
        return run.found.last.detach(), run.found.saved.detach(), times.detach()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Any, ...]:
        wanted = list(ctx.needs_input_grad[3:])
        x0, drivers, *values = ctx.saved_tensors
        with torch.no_grad():
            grad_x0, grad_drivers, grads = ctx.run.backward(ctx.found, values, given, wanted)
        made = (grad_x0, grad_drivers, *grads)
        if torch.is_grad_enabled():
            made = _Once.apply(len(made), *made, *given, x0, drivers, *values)  # type: ignore[no-untyped-call]
        return None, *made


class _Once(torch.autograd.Function):
    """Gradients that have none themselves: the first `count` of the tensors, as functions of the others."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(None if t is None else t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise SettingError(
            "the gradient of a run by a kernel has no gradient itself",
            help="write `backend = torch` for second derivatives",
        )
