"""What the buffers of a run by a kernel say: how it ended, its steps and events, the solution."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from ndl.runtime.kernels.accepted import Accepted
from ndl.runtime.kernels.failures import Ended
from ndl.runtime.kernels.found import Found
from ndl.runtime.kernels.record import Record, saved_until
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.recorder import Saved
from ndl.runtime.solution import Interpolant, Solution
from ndl.runtime.stepping.finish import Between, events_of, stats_of, steps_of
from ndl.runtime.stepping.replay import Script
from ndl.runtime.stepping.trail import StepTable, fixed_table
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.kernels.ode import KernelRun

UNMET = 3
"""The status of a trajectory for which something does not hold (`ndl.compiler.kernels.control`)."""


class Outcome:
    """What a run found."""

    def __init__(self, run: KernelRun, found: Found) -> None:
        self.run, self.p, self.found = run, run.p, found

    @property
    def ended(self) -> Ended | None:
        """How the trajectories ended, where that is known and some came not to their end."""
        found = self.found
        if found.ended is None or not self.report[3].any():
            return None
        many, rejected, _ = self.counts()
        t, h = found.ended.cpu().numpy().astype(np.float64)
        status = self.report[3]
        # what does not hold at the start needs no attempt
        attempts = np.where((status == UNMET) & (many == 0), 0, many + rejected)
        return Ended(status, attempts, t, h, found.last)

    @cached_property
    def report(self) -> Ints:
        """What the kernel tells of each trajectory, `[6, B]`."""
        told: Ints = self.found.report.cpu().numpy().astype(np.int64)
        return told

    def counts(self) -> tuple[Ints, Ints, Ints]:
        """Steps, rejected ones and evaluations of each trajectory."""
        many, rejected, evaluations, *_ = self.report
        return many, rejected, evaluations

    @cached_property
    def last_t(self) -> Floats:
        """Where each trajectory ended `[B]`."""
        p, ended = self.p, self.found.ended
        if ended is None:
            return np.full(p.count, p.t1)
        t = ended[0].cpu().numpy()
        arrived = t == t.dtype.type(p.t1)  # which may have been rounded to the run's precision
        return np.full(p.count, p.t1) if arrived.all() else np.where(arrived, p.t1, t.astype(np.float64))

    def reached(self, saved: Tensor) -> Tensor:
        """The saved values that trajectories came to, and zeros."""
        if self.found.ended is None or not saved.shape[1]:
            return saved
        slots = torch.arange(saved.shape[1], device=saved.device)[None, :, None]
        return torch.where(slots < self.found.report[4][:, None, None], saved.detach(), 0.0)

    # ------------------------------------------------------------ the solution

    def solution(self, last: Tensor, saved: Tensor) -> Solution:
        """The solution with these values, which may carry gradients."""
        p, run, found = self.p, self.run, self.found
        steps = Accepted(run, self)
        many, rejected, evaluations = self.counts()
        record = self.saved(last, saved)
        interpolant: Interpolant | None = None
        if p.save.kind != "end":
            interpolant = steps if run.steps else Between(record, steps)
        elif p.taped and not run.known and not p.model.NOISES and not p.model.EVENTS:
            interpolant = steps  # its tape has the steps anyway
        events = self.record().events(p) if found.events else events_of(p)
        torchs = p.taped or (run.known and run.stepper.adaptive)  # kernels of fixed steps estimate no errors
        return Solution(
            p, record, {"x": last}, self.last_t, stats_of(p, many, rejected, evaluations),
            steps_of(p, steps.table, steps.stiffness, steps.errors if torchs else None),
            events, interpolant,
        )  # fmt: skip

    def saved(self, last: Tensor, saved: Tensor) -> Saved:
        """Times, which of them count, and values."""
        p, run, found, b = self.p, self.run, self.found, self.p.count
        last_t = self.last_t
        if p.save.kind == "end":
            return Saved(last_t[:, None], np.ones((b, 1), dtype=bool), {"x": last[:, None]})
        if run.known or not run.steps:
            grid = run.saved_times
            if found.ended is not None and (found.report[4] < len(grid)).any():
                slots = found.report[4].cpu().numpy().astype(np.int64)
                return saved_until(grid, saved, slots, last, last_t)
            times = np.broadcast_to(grid, (b, len(grid))).copy()
            return Saved(times, np.ones(times.shape, dtype=bool), {"x": saved})
        many = found.report[0].cpu().numpy()[:, None]
        slots = np.arange(int(many.max()) + 1)[None, :]
        values = torch.cat([run.at_starts(self.tape()[:, : slots.size - 1]), last[:, None]], 1)
        ended = torch.from_numpy(slots >= many).to(last.device)[:, :, None]
        starts = found.tape["tape_t"][: slots.size - 1].t().cpu().numpy().astype(np.float64)
        times = np.where(slots >= many, last_t[:, None], np.pad(starts, ((0, 0), (0, 1))))
        return Saved(times, slots <= many, {"x": torch.where(ended, last[:, None], values)})

    def tape(self) -> Tensor:
        """What is kept of each step, `[B, K, width]`."""
        return self.found.tape["tape"].reshape(-1, self.run.made.width, self.p.count).permute(2, 0, 1)

    def record(self) -> Record:
        """The events."""
        return Record.of(self.found.events, self.found.report[5].cpu().numpy().astype(np.int64))

    # ------------------------------------------------------------ its steps

    def step_table(self) -> StepTable:
        """The accepted steps of a run with a tape."""
        p, found = self.p, self.found
        if self.run.known:
            assert self.run.pace.step is not None
            return fixed_table(p, self.run.pace.step)
        many = found.report[0].cpu().numpy().astype(np.int64)
        keep = np.arange(int(many.max(initial=0)))[None, :] < many[:, None]
        t, h, error = (
            found.tape[name][: keep.shape[1]].t().cpu().numpy()[keep].astype(np.float64)
            for name in ("tape_t", "tape_h", "tape_error")
        )
        ids = np.repeat(np.arange(p.count), many)
        starts = np.concatenate([[0], np.cumsum(many)])
        end = np.append(t[1:], p.t1)
        end[starts[1:][many > 0] - 1] = self.last_t[many > 0]
        return StepTable(ids, t, end, h, error, np.arange(len(t)) - starts[ids], ids, starts)

    def script(self) -> Script:
        """The run for a replay."""
        run = self.run
        taped = self if run.known else Outcome(run, run.with_tape(self.found))
        table = taped.step_table()
        crossings = taped.crossed()
        restarts = sorted({(member, step + 1) for member, step, _ in crossings})
        if not taped.found.events:
            return Script(table, [], restarts, crossings, run.pace.fixed)
        record = taped.record()
        restarts = sorted({*restarts, *record.restarts()})
        firings = record.firings(self.p, taped.of_steps("tape_kind"))
        return Script(table, firings, restarts, crossings, run.pace.fixed)

    def crossed(self) -> list[tuple[int, int, int]]:
        """The breaks that steps cross: (member, step, break)."""
        if "tape_fresh" not in self.found.tape:
            return []
        bits = self.of_steps("tape_fresh")
        return [
            (int(m), int(step), k)
            for m, step in np.argwhere(bits)
            for k in range(int(bits[m, step]).bit_length())
            if int(bits[m, step]) >> k & 1
        ]

    def of_steps(self, name: str) -> Ints:
        """A number that the tape has for each step, `[B, K]`; 0 after the last one."""
        many = self.found.report[0].cpu().numpy()
        rows = self.found.tape[name][: int(many.max(initial=0))].t().cpu().numpy().astype(np.int64)
        return np.where(np.arange(rows.shape[1])[None, :] < many[:, None], rows, 0)
