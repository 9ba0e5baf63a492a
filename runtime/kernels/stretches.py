"""The way back of a run that kept no tape: stretches of it taken again from checkpoints, each differentiated.

The kernels are those of `ndl.compiler.kernels.stretches`, the order of stretches is that of
`ndl.runtime.recompute`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.kernels.lease import KEPT, Lease
from ndl.runtime.kernels.request import Made
from ndl.runtime.recompute import Checkpoints, Plan, Stretch, cost, plan, schedule, too_little
from torch import Tensor

Launch = Callable[[Made, dict[str, Tensor]], None]


@dataclass(frozen=True)
class Stretches:
    """Kernels that take a stretch again, and back. Where the first leaves arrays to the second (`Made.kept`),
    their layers are not computed a third time."""

    again: Made
    back: Made

    def kept(self, count: int, rows: int) -> int:
        """How many reals the arrays of `rows` steps are, in whole blocks of lanes."""
        lanes = self.again.program.lanes
        return self.again.kept * -(-count // lanes) * lanes * rows

    def states(self, plan: Plan, x0: Tensor) -> Tensor:
        """Room for the checkpoints of a plan."""
        return x0.new_empty(max(plan.places, 1) * self.again.held, x0.shape[1])


@dataclass(frozen=True)
class Bill:
    """A run to be gone back: its `steps`, how many trajectories, bytes of a number and, for each step and
    trajectory, of what is known of that."""

    steps: int
    count: int
    size: int
    trail: int


@dataclass(frozen=True)
class Way:
    """The way back of a run: by which kernels, and what they keep."""

    kernels: Stretches
    plan: Plan
    steps: int

    @staticmethod
    def of(choices: Sequence[Stretches], asked: Checkpoints, bill: Bill) -> Way:
        """The way that computes least. Raises `SettingError` where the memory is too small."""
        if asked.states is not None:
            found = plan(bill.steps, asked.states)
            assert found is not None
            return Way(choices[0], found, bill.steps)
        assert asked.memory is not None
        known = bill.steps * bill.trail * bill.count
        rooms = int((asked.memory - known) // (bill.size * bill.count))
        ways = []
        for kernels in choices:
            kept = -(-kernels.kept(bill.count, 1) // bill.count)
            found = plan(bill.steps, rooms, kernels.again.held, kernels.again.width + kept)
            if found is not None and kernels.kept(bill.count, found.rows) <= KEPT:
                ways.append(Way(kernels, found, bill.steps))
        if not ways:
            least = known + choices[0].again.width * bill.size * bill.count
            raise too_little(asked.memory, least)
        return min(ways, key=lambda way: way.effort)

    @property
    def effort(self) -> int:
        """How many steps are computed again, those of the adjoint counted where it computes them too; to
        begin a stretch is like a step more."""
        rows, steps = self.plan.rows, self.steps
        length = -(-steps // rows)
        again = cost(length, self.plan.places + 1) * rows + length
        return again if self.kernels.again.kept else again + steps

    def marks(self, x0: Tensor) -> dict[str, Tensor]:
        """What a run of fixed steps takes to write the checkpoints from which the way back begins."""
        stretch = next(schedule(-(-self.steps // self.plan.rows), self.plan.places))
        tables = _marked(stretch, self.plan.rows, x0.device)
        return {**tables, "states": self.kernels.states(self.plan, x0)}

    def run(
        self, slots: int, buffers: dict[str, Tensor], launch: Launch, states: Tensor | None = None
    ) -> None:
        """From the cotangents `grads [G, B]` of the end to those of the start, in place. `states` are the
        checkpoints that the run has written, which others will take the place of."""
        made, steps, again, back = self.plan, self.steps, self.kernels.again, self.kernels.back
        lease = Lease(buffers["x0"], self.kernels.kept(buffers["x0"].shape[1], made.rows))
        buffers["kept"] = lease.buffer
        x0 = buffers["x0"]
        count, device, rows = x0.shape[1], x0.device, made.rows
        buffers["states"] = self.kernels.states(made, x0) if states is None else states
        buffers["tape"] = x0.new_empty(min(rows, steps) * again.width, count)
        buffers["due"] = torch.full((1, count), slots, dtype=torch.int32, device=device)
        # whether a kernel adds to sums or writes them anew is its printer's business
        sums = [buffers[name] for name in back.program.buffers if name == "grad_nets"]
        totals = [torch.zeros_like(s) for s in sums]
        for number, s in enumerate(schedule(-(-steps // rows), made.places)):
            if number == 0 and states is not None and s.marks:
                s = Stretch(*s.marks[-1], (), s.last)
            taped, end = s.last * rows, min((s.last + 1) * rows, steps)
            buffers |= _marked(s, rows, device)
            buffers["stretch"] = _table(device, s.first * rows, end, s.source, taped)
            launch(again, buffers)
            buffers["stretch"] = _table(device, taped, end)
            launch(back, buffers)
            for total, part in zip(totals, sums):
                total += part
                part.zero_()
        for total, part in zip(totals, sums):
            part.copy_(total)


def _marked(stretch: Stretch, rows: int, device: torch.device) -> dict[str, Tensor]:
    """The tables `marks` and `places` of a stretch of stretches of `rows` steps."""
    return {
        "marks": _table(device, *(at * rows for at, _ in stretch.marks), -1),
        "places": _table(device, *(place for _, place in stretch.marks), -1),
    }


def _table(device: torch.device, *values: int) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int32)).to(device)


def cotangents(grad_last: Tensor, made: Made, rows: Mapping[str, int], n: int) -> Tensor:
    """The rows `grads [G, B]` at the end: those of the state, then of memory and weights, which are 0."""
    count = n + made.memory + rows["weights"] + rows["own"]
    found = grad_last.new_zeros(count, grad_last.shape[0])
    found[:n] = grad_last[:, :n].t()
    return found
