"""Steps of fields by kernels of one point each: a launch for each stage of each step, on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.launch import launch
from torch import Tensor


@dataclass(frozen=True)
class Sweep:
    """A stage's printed kernel: the arrays that it reads and writes, as buffers' names, and its time within a
    step."""

    program: Program
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    node: float


@dataclass(frozen=True)
class PointPlan:
    """A step: its sweeps, how many fields there are, and the kind of each point's place, in order."""

    sweeps: tuple[Sweep, ...]
    fields: int
    places: tuple[int, ...]


class PointSweeper:
    """Takes steps of fields; a member is so many points more."""

    def __init__(
        self, plan: PointPlan, fields: Tensor, coefficients: Mapping[str, Tensor] | None = None
    ) -> None:
        """`fields`: [members, fields, points]; `coefficients`: each [members or 1, points]."""
        self.plan, self.shape = plan, fields.shape
        members, _, points = fields.shape
        places = torch.tensor(plan.places, dtype=torch.int32, device=fields.device)
        self.buffers = {"place": places.repeat(members)}
        for name, c in (coefficients or {}).items():
            self.buffers[name.replace(".", "_")] = c.expand(members, points).reshape(-1).contiguous()
        for f in range(plan.fields):
            self.buffers[f"y0_{f}"] = fields[:, f].reshape(-1).clone()

    def fields(self) -> Tensor:
        """The fields as they are now: [members, fields, points]."""
        members, _, points = self.shape
        found = [self.buffers[f"y0_{f}"].reshape(members, points) for f in range(self.plan.fields)]
        return torch.stack(found, 1)

    def advance(self, slots: Tensor, steps: int) -> None:
        """So many steps of one size. `slots`: [1, slots], the first two of them the time, which goes on, and
        the step size."""
        nodes = torch.tensor([s.node for s in self.plan.sweeps], dtype=torch.float64)
        at = torch.arange(steps, dtype=torch.float64)[:, None] + nodes
        table = slots.expand(steps, len(nodes), -1).clone()
        table[..., 0] = (slots[0, 0].double() + at * slots[0, 1].double()).to(table)
        device = self.buffers["place"].device
        table = table.to(device)
        new = {f"new_{w}": torch.empty_like(self.buffers["y0_0"]) for s in self.plan.sweeps for w in s.writes}
        last = f"y{len(self.plan.sweeps)}"
        for n in range(steps):
            for k, sweep in enumerate(self.plan.sweeps):
                given = {name: new.get(f"new_{name}", self.buffers.get(name)) for name in sweep.reads}
                written = {f"new_{w}": new[f"new_{w}"] for w in sweep.writes}
                more = {"slots": table[n, k], "place": self.buffers["place"]}
                launch(sweep.program, {**given, **written, **more}, self.buffers["place"].numel())  # type: ignore[dict-item]
            for f in range(self.plan.fields):
                name = f"new_{last}_{f}"
                self.buffers[f"y0_{f}"], new[name] = new[name], self.buffers[f"y0_{f}"]
        slots[:, 0] += steps * slots[:, 1]
