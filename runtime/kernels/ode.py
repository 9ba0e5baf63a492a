"""Whole solves of ordinary equations by kernels: what is asked for, the buffers, there and back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ndl.runtime.finite import all_finite
from ndl.runtime.kernels.chances import chances
from ndl.runtime.kernels.drivers import drivers_of
from ndl.runtime.kernels.failures import explained
from ndl.runtime.kernels.found import Found, NoKernel
from ndl.runtime.kernels.gradient import Solve
from ndl.runtime.kernels.launch import launch, portions, summed, zeros
from ndl.runtime.kernels.lease import KEPT, LENT, Lease
from ndl.runtime.kernels.outcome import Outcome
from ndl.runtime.kernels.request import KernelSource, Made, Request, options_of, rounds, solver_of
from ndl.runtime.kernels.rooms import Room
from ndl.runtime.kernels.stretches import Bill, Stretches, Way, cotangents
from ndl.runtime.kernels.tables import adaptive_tables, few_wholes, fixed_tables, reals
from ndl.runtime.kernels.weights import own_names, packed, rows_of, unpacked, values_of
from ndl.runtime.memory import refuse_tape
from ndl.runtime.problem import Floats, Problem
from ndl.runtime.recompute import checkpoints_of
from ndl.runtime.reversible import refuse_irreversible
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.control import Controller, Tolerances, proportional
from ndl.runtime.stepping.pace import Pace
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import shared_table
from torch import Tensor

FIRST_ROOM, FIRST_EVENTS, FIRST_TURNS = 256, 16, 32
"""Rows of a tape, of a record of events, and of kept arrays, whose length nobody knows yet."""

_rooms: dict[Any, Room] = {}


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
        self.values = values_of(problem.model, [name for name, _ in names])
        """The weights that the kernel reads, in its order."""
        self.steps = problem.save.kind == "steps"
        watch = watch or bool(problem.model.EVENTS)
        self.known = self.pace.fixed and not watch
        self.checkpoints = checkpoints_of(problem.gradient)
        undone = problem.gradient in ("reversible", "adjoint")
        if undone:
            refuse_irreversible(problem, stepper)
        whole = problem.taped and self.checkpoints is None and not undone
        self.like = torch.empty(0, dtype=problem.dtype, device=problem.device)
        self.tol = Tolerances.of(problem)
        if not (stepper.extrapolates or self.pace.fixed):
            self.tol = proportional(self.tol, stepper.order)
        self.request = Request(
            solver=solver_of(problem),
            adaptive=not self.pace.fixed,
            precision="f64" if problem.dtype == torch.float64 else "f32",
            own=own_names(self.values, names) | drivers.own,
            save=problem.save.kind == "grid" or (self.known and self.steps),
            tape=whole or (self.steps and not self.known),
            sign=problem.sign,
            vector=isinstance(self.tol.rtol, Tensor) or self.tol.atol.ndim > 0,
            grow=stepper.grow,
            beta=Controller.of(problem, stepper.error_order, stepper.grow).beta,
            target=target,
            options=options_of(problem),
            keep=whole and (self.known or not self.pace.fixed) and target == "cpu",
            watch=watch,
            drivers=drivers.wanted,
            undone=undone,
            trail=self.checkpoints is not None,
            tf32=rounds(problem, target),
        )
        self.table = None
        if self.pace.step is not None:
            # of one trajectory: all take the same fixed steps
            self.table = shared_table(problem, self.pace.step)
        self.request = self._requested(self.request)
        if self.checkpoints is not None and self.checkpoints.memory is not None and self.known:
            self._take_whole(self.checkpoints.memory)
        self.made = self._make(self.request)
        if self.made.kept and self.most_kept < (self.count_of_steps if self.known else FIRST_TURNS):
            self.request = replace(self.request, keep=False)
            self.made = self._make(self.request)
        # a run whose derivative has no kernel goes by torch as a whole
        whole = problem.taped and self.checkpoints is None
        self.back = self._make(replace(self.request, backward=True, tape=False)) if whole else None
        self.stretches = self._stretches(target) if self.checkpoints is not None else []
        self.tables = {**self._tables(), **chances(problem, self.like)}

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
    def kept_width(self) -> int:
        """How many reals the arrays that the run keeps of a step take, whole blocks of lanes."""
        lanes = self.made.program.lanes
        return self.made.kept * -(-self.p.count // lanes) * lanes

    @property
    def kept_room(self) -> int:
        """How many reals the arrays of all fixed steps take."""
        return self.kept_width * self.count_of_steps if self.made.kept else 0

    @property
    def most_kept(self) -> int:
        """Of how many steps or turns arrays may be kept."""
        return KEPT // self.kept_width - (not self.known)

    # ------------------------------------------------------------ tables

    def _tables(self) -> dict[str, Tensor]:
        """What all trajectories share."""
        p, tol, pace, times = self.p, self.tol, self.pace, self.saved_times
        if self.known:
            assert self.table is not None
            ends = np.append(p.t0, self.table.end[: self.count_of_steps])
            return fixed_tables(p, self.table, self._settled(times, ends), self.like)
        wide = p.size if self.request.vector else 1
        paces = (pace.longest, pace.step or pace.first or 0.0)
        found = adaptive_tables(p, tol, wide, paces, times, self.like)
        if self.table is not None:
            ends = self.table.end[: self.count_of_steps]
            found["ends"] = reals(np.append(ends, p.sign * np.inf), self.like)
        return found

    def _settled(self, times: Floats, ends: Floats) -> Floats:
        """Saved times, given the start and the steps' ends."""
        return times

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
        lent: Lease | None = None
        turns = 0
        way: Way | None = None
        weights = packed(values, self.made.weights, b, self.like)
        buffers = {
            **self.tables,
            **self._more(),
            **weights,
            **self.drivers.buffers(),
            "x0": x0.t().contiguous(),
            "last": new(n, b),
            "saved": new(max(slots, 1) * n, b),
            "report": torch.zeros(6, b, dtype=torch.int32, device=self.p.device),
        }
        if self.known:
            rows = self.count_of_steps * self.made.width if self.request.tape else 1
            buffers["tape"], lent = self._tape(rows)
            lease = Lease(self.like, self.kept_room)
            if self.request.undone:
                buffers["carry"] = new(max(self.made.memory, 1), b)
            if self.stretches:
                way = self._way(buffers["report"])
                buffers |= way.marks(buffers["x0"])
            self._run(self.made, {**buffers, "kept": lease.buffer})
        else:
            buffers["ended"] = new(2, b)
            turns, lease, lent = self._with_room(buffers, slots)
        saved = buffers["saved"][: slots * n].reshape(slots, n, b).permute(2, 0, 1)
        over: tuple[str, ...] = ("x0", "states", "history") if self.stretches else ("history",)
        if self.request.undone:
            over = ("last", "carry", "x0")
        tape = {k: v for k, v in buffers.items() if k.startswith("tape") or k in over}
        events = {k: v for k, v in buffers.items() if k.startswith("event_")}
        if self.stretches and way is None:
            way = self._way(buffers["report"])
        return Found(
            buffers["last"].t(), saved, buffers["report"], tape, lent, lease, buffers.get("ended"),
            events, way, turns, weights,
        )  # fmt: skip

    def _with_room(self, buffers: dict[str, Tensor], slots: int) -> tuple[int, Lease | None, Lease | None]:
        """Run the kernel; where the room for the tape, the record of events or kept arrays was too small,
        once more. The turns of the longest run, their arrays where there is memory for all, and who lends
        the tape."""
        p, b = self.p, self.p.count
        taped, watch = self.request.tape, bool(p.model.EVENTS)
        past = bool(self.made.past[1])
        tape = taped or self.request.trail
        given = _rooms.setdefault((self.request, p.size), Room(FIRST_ROOM, FIRST_EVENTS, FIRST_TURNS))
        room, events, turns = given.steps, given.events, given.turns
        keeps, lease, lent = self.made.kept > 0, None, None
        if past and self.table is not None:
            room = max(room, self.count_of_steps + FIRST_ROOM)
        while True:
            if taped:
                lent = None  # a shorter one is lent again
                buffers["tape"], lent = self._tape(room * self.made.width)
            if tape:
                for name in ("tape_t", "tape_h", *(["tape_error"] if taped else [])):
                    buffers[name] = self.like.new_empty(room, b)
            if past:
                # one more, by which a run is known to have come to its end
                buffers["history"] = self._history(room + 1)
            if keeps:
                turns = min(turns, self.most_kept)
                lease = Lease(self.like, self.kept_width * (turns + 1))
                buffers["kept"] = lease.buffer
            names = ("kind", "fresh", "new", "origin", "lag", "turn")
            for name in (*(f"tape_{n}" for n in names), "break_step"):
                if name in self.made.program.buffers:
                    buffers[name] = self._counts(room)
            if "break_t" in self.made.program.buffers:
                buffers["break_t"] = self.like.new_empty(room, b)
            if watch:
                buffers["event_t"] = self.like.new_empty(events, b)
                for name in ("event_step", "event_kind", "event_turn"):
                    buffers[name] = self._counts(events)
                if tape:
                    buffers["event_x"] = self.like.new_empty(events * p.size, b)
            limits = (min(p.max_steps, 2**31 - 1), slots, room, events, turns)
            buffers["counts"] = few_wholes(limits, p.device)
            self._run(self.made, buffers)
            report = buffers["report"].cpu().numpy()
            longest, most = int(report[0].max()), int(report[5].max())
            taken = int((report[0] + report[1]).max()) if keeps else 0
            enough = not keeps or taken <= turns or turns == self.most_kept
            if (longest <= room or not (tape or past)) and most <= events and enough:
                given.taken(longest)
                return taken, lease if taken <= turns else None, lent
            room = max(room, int((2 if past else 1.1) * longest) + 1) if tape or past else room
            events = max(events, int(1.1 * most) + 1)
            turns = max(turns, int(1.1 * taken) + 1)
            given.grow(room, events, turns)
            lease = None  # its memory is lent again
            buffers.pop("kept", None)

    def _tape(self, rows: int) -> tuple[Tensor, Lease | None]:
        """Room for the steps of all trajectories, and who lends it. Raises `SettingError` where there is
        none."""
        size = rows * self.p.count
        if rows > 1:
            instead = None if self.p.taped else "list the times that you want in `save`"
            refuse_tape(size * self.like.element_size(), self.p.device, instead)
        if size > LENT or self.like.device.type != "cpu":
            return self.like.new_empty(rows, self.p.count), None
        lease = Lease(self.like, size, "tape")
        return lease.buffer[:size].view(rows, self.p.count), lease

    def _counts(self, rows: int) -> Tensor:
        """Room for whole numbers, which are 0."""
        return torch.zeros(rows, self.p.count, dtype=torch.int32, device=self.p.device)

    def _history(self, steps: int) -> Tensor:
        """Room for the past of so many steps; what is not written is 0."""
        first, width = self.made.past
        return self.like.new_zeros(first + steps * width, self.p.count)

    def _run(self, made: Made, buffers: dict[str, Tensor]) -> None:
        launch(made.program, buffers, self.p.count)

    # ------------------------------------------------------------ backwards

    def backward(
        self, found: Found, values: list[Tensor], grads: tuple[Tensor, Tensor, Tensor], wanted: list[bool]
    ) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
        """From the cotangents of `last`, of `saved` and of the times of events: those of x0 `[B, n]`, of the
        coefficients of paths and of the weights."""
        made = self._back_of(found)
        grad_last, grad_saved, grad_event_t = grads
        n, b = self.p.size, self.p.count
        rows = rows_of(made.weights)
        new = self.like.new_empty
        slots = len(self.saved_times)
        states = found.tape.pop("states", None)  # a second way back finds other checkpoints there
        buffers = {
            **self.tables,
            **self._more(backward=True),
            **found.tape,
            **self._weights_of(found, made, values),
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
            buffers["grad_nets"] = zeros(many, rows["nets"], self.like)
        if self.drivers.wanted:
            buffers["grad_drivers"] = torch.zeros_like(self.drivers.values.detach())
        if not self.known:
            assert found.ended is not None
            buffers["counts"] = few_wholes((found.turns, slots, 0), self.p.device)
            buffers["ended"] = found.ended
        if "history" in found.tape:
            buffers["grad_history"] = torch.zeros_like(found.tape["history"])
        if "grad_break_t" in made.program.buffers:
            buffers["grad_break_t"] = torch.zeros_like(found.tape["tape_t"])
        if found.events:
            buffers |= {
                **found.events,
                "grad_event_t": grad_event_t.clone(memory_format=torch.contiguous_format),
            }
        buffers["grad_saved"] = buffers["grad_saved"] if slots else new(1, b)
        if found.kept is not None:
            buffers["kept"] = found.kept.buffer
        if found.way is None:
            self._run(made, buffers)
        else:
            buffers["grads"] = cotangents(grad_last, made, rows, n)
            found.way.run(slots, buffers, self._run, states)
        of = {k: buffers[f"grad_{k}"] for k in ("weights", "own")}
        of["nets"] = summed(buffers["grad_nets"])[:, None] if rows["nets"] else self.like
        weights = unpacked(of, values, made.weights, wanted)
        return buffers["grad_x0"].t(), buffers.get("grad_drivers"), weights

    def _weights_of(self, found: Found, made: Made, values: list[Tensor]) -> dict[str, Tensor]:
        """The tables of weights for the way back: those of the way there where both order them alike."""
        if made.weights == self.made.weights:
            return found.weights
        return packed(values, made.weights, self.p.count, self.like)

    def _back_of(self, found: Found) -> Made:
        """The kernel of the way back; one that computes arrays again where there was no memory for all."""
        if found.way is not None:
            return found.way.kernels.back
        assert self.back is not None
        if self.known or found.kept is not None or not self.made.kept:
            return self.back
        return self._make(replace(self.request, backward=True, tape=False, keep=False))

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
            last, saved, times = Solve.apply(self, p.x0, self.drivers.values, *self.values)  # type: ignore[no-untyped-call]
            found = self.found
            if found.events:
                found.events["event_t"] = times
        else:
            with torch.no_grad():
                found = self.forward(p.x0, self.values)
            last, saved = found.last, found.saved
        outcome = Outcome(self, found)
        ended = outcome.ended
        if ended and not self.explains:
            return None
        if ended:
            whole = outcome.solution(found.last.detach(), found.saved.detach())
            raise explained(p, self.stepper, self.tol, ended, whole)
        values = (last, outcome.reached(saved))
        if all(all_finite(v) for v in values):
            return outcome.solution(last, saved)
        if self.known and self.explains:
            # the same steps once more, each trajectory at its own time: that run knows who fails and where
            with suppress(NoKernel):
                KernelRun(p.on(gradient="none"), self.stepper, self.source, self.request.target, True).solve()
        return None

    def at_starts(self, tape: Tensor) -> Tensor:
        """What is saved of the steps' starts, `[B, S, wide]`, from what is kept of each step."""
        return tape[..., : self.p.size]

    def with_tape(self, found: Found) -> Found:
        """The run with its accepted steps; one that kept none is made again."""
        if self.request.tape:
            return found
        again = type(self)(
            self.p.on(gradient="none"), self.stepper, self.source, self.request.target, self.request.watch
        )
        again.request = replace(again.request, tape=True)
        again.made = again._make(again.request)
        with torch.no_grad():
            return again.forward(self.p.x0.detach(), [v.detach() for v in self.values])
