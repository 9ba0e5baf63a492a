"""The way back of a run that kept no tape: stretches of it taken again from checkpoints, each differentiated.

The kernels are those of `ndl.compiler.kernels.stretches`, the order of stretches is that of
`ndl.runtime.recompute`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ndl.runtime.kernels.request import Made
from ndl.runtime.recompute import Checkpoints, Plan, Stretch, plan, schedule, too_little
from torch import Tensor

Launch = Callable[[Made, dict[str, Tensor]], None]


@dataclass(frozen=True)
class Stretches:
    """Kernels that take a stretch again, and back."""

    again: Made
    back: Made

    def plan(self, steps: int, asked: Checkpoints, count: int, trail: int, size: int) -> Plan:
        """What to keep of `steps` steps of `count` trajectories. `trail` bytes a step and trajectory are for
        its time and size, `size` is that of a number. Raises `SettingError` where the memory is too small."""
        if asked.states is not None:
            found = plan(steps, asked.states)
            assert found is not None
            return found
        assert asked.memory is not None
        state, row = self.again.held, self.again.width
        known = steps * trail * count
        rooms = int((asked.memory - known) // (size * count))
        found = plan(steps, rooms, state, row)
        if found is None:
            raise too_little(asked.memory, known + row * size * count)
        return found

    def marks(self, made: Plan, steps: int, x0: Tensor) -> dict[str, Tensor]:
        """What a run of fixed steps takes to write the checkpoints from which the way back begins."""
        stretch = next(schedule(-(-steps // made.rows), made.places))
        return {**_marked(stretch, made.rows, x0.device), "states": self._states(made, x0)}

    def _states(self, made: Plan, x0: Tensor) -> Tensor:
        return x0.new_empty(max(made.places, 1) * self.again.held, x0.shape[1])

    def run(
        self, made: Plan, steps: int, slots: int, buffers: dict[str, Tensor], launch: Launch,
        states: Tensor | None = None,
    ) -> None:  # fmt: skip
        """From the cotangents `grads [G, B]` of the end to those of the start, in place. `states` are the
        checkpoints that the run has written, which others will take the place of."""
        x0 = buffers["x0"]
        count, device, rows = x0.shape[1], x0.device, made.rows
        buffers["states"] = self._states(made, x0) if states is None else states
        buffers["tape"] = x0.new_empty(min(rows, steps) * self.again.width, count)
        buffers["due"] = torch.full((1, count), slots, dtype=torch.int32, device=device)
        # whether a kernel adds to sums or writes them anew is its printer's business
        sums = [buffers[name] for name in self.back.program.buffers if name == "grad_nets"]
        totals = [torch.zeros_like(s) for s in sums]
        for number, s in enumerate(schedule(-(-steps // rows), made.places)):
            if number == 0 and states is not None and s.marks:
                s = Stretch(*s.marks[-1], (), s.last)
            taped, end = s.last * rows, min((s.last + 1) * rows, steps)
            buffers |= _marked(s, rows, device)
            buffers["stretch"] = _table(device, s.first * rows, end, s.source, taped)
            launch(self.again, buffers)
            buffers["stretch"] = _table(device, taped, end)
            launch(self.back, buffers)
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
