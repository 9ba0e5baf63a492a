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
from ndl.runtime.recompute import Checkpoints, Plan, plan, schedule, too_little
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

    def run(self, made: Plan, steps: int, slots: int, buffers: dict[str, Tensor], launch: Launch) -> None:
        """From the cotangents `grads [G, B]` of the end to those of the start, in place."""
        x0 = buffers["x0"]
        count, device = x0.shape[1], x0.device
        rows = min(made.rows, steps)
        buffers["states"] = x0.new_empty(max(made.places, 1) * self.again.held, count)
        buffers["tape"] = x0.new_empty(rows * self.again.width, count)
        buffers["due"] = torch.full((1, count), slots, dtype=torch.int32, device=device)

        def table(*values: int) -> Tensor:
            return torch.from_numpy(np.array(values, dtype=np.int32)).to(device)

        for s in schedule(-(-steps // rows), made.places):
            first, taped, end = s.first * rows, s.last * rows, min((s.last + 1) * rows, steps)
            buffers["stretch"] = table(first, end, s.source, taped)
            buffers["marks"] = table(*(at * rows for at, _ in s.marks), -1)
            buffers["places"] = table(*(place for _, place in s.marks), -1)
            launch(self.again, buffers)
            buffers["stretch"] = table(taped, end)
            launch(self.back, buffers)


def cotangents(grad_last: Tensor, made: Made, rows: Mapping[str, int], n: int) -> Tensor:
    """The rows `grads [G, B]` at the end: those of the state, then of memory and weights, which are 0."""
    count = n + made.memory + rows["weights"] + rows["own"]
    found = grad_last.new_zeros(count, grad_last.shape[0])
    found[:n] = grad_last[:, :n].t()
    return found
