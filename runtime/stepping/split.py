"""Steps of splittings, for the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ndl.runtime.flows import Flow
from ndl.runtime.methods import StepSolver, VectorField
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.stepping.calling import call_step
from ndl.runtime.stepping.control import clock
from ndl.runtime.stepping.stepper import Attempt, Carry, Stepper, Time, fraction, hermite, pick
from torch import Tensor


class SplitField(VectorField):
    """A whole right-hand side with the flows of its parts, in order."""

    def __init__(self, whole: VectorField, flows: list[Flow], visits: dict[str, int] | None = None) -> None:
        super().__init__(whole.function, whole._jacobian, whole._time_derivative, whole.mass)
        self.colours = whole.colours
        self.flows, self.visits = flows, {} if visits is None else visits


class SplitStepper(Stepper):
    """`step(A, B, x, t, h)`: A is the first part's flow, B that of the rest, split in turn alike."""

    revisits = True

    def __init__(self, solver: StepSolver) -> None:
        self.solver = solver
        self.order = self.error_order = float(solver.ORDER)
        self.adaptive = False

    def attempt(
        self, f: VectorField, x: Tensor, t: Time, h: Time, carry: Carry, taped: bool = False
    ) -> Attempt:
        assert isinstance(f, SplitField)
        at = t if isinstance(t, Tensor) else clock(t, x)
        size = h if isinstance(h, Tensor) else clock(h, x)
        f.visits.clear()
        x1 = self.flow(f.flows)(x, at, size)
        new = Carry(fresh=np.zeros(x.shape[0], dtype=bool), f0=None)
        return Attempt(x, x1, None, new, np.full(x.shape[0], len(f.flows), dtype=np.int64))

    def flow(self, flows: list[Flow]) -> Flow:
        """One step, put together from the flows of the parts."""
        if len(flows) == 1:
            return flows[0]
        A, B = flows[0], self.flow(flows[1:])

        def step(x: Tensor, t: Tensor, h: Tensor) -> Tensor:
            return call_step(self.solver, {"A": A, "B": B, "x": x, "t": t, "h": h})[0]

        return step

    def revisit(
        self, f: VectorField, x0: Tensor, x1: Tensor, t: Floats, h: Floats, ids: Ints
    ) -> Attempt | None:
        none = np.zeros(len(ids), dtype=np.int64)
        return Attempt(x0, x1, None, Carry(fresh=none.astype(bool), f0=None), none)

    def complete(self, f: VectorField, step: Attempt, t: Time, h: Time) -> None:
        at = t if isinstance(t, Tensor) else clock(t, step.x0)
        size = h if isinstance(h, Tensor) else clock(h, step.x0)
        ends = [f(step.x0, at) * size[:, None], f(step.x1, at + size) * size[:, None]]
        step.stages = torch.stack(ends)

    def interpolate(self, step: Attempt, rows: Ints | None, theta: Any) -> Tensor:
        """Cubic Hermite, with the slopes of the whole right-hand side."""
        K = step.stages
        column = fraction(theta, step.x0)
        return hermite(pick(step.x0, rows), pick(step.x1, rows), pick(K[0], rows), pick(K[1], rows), column)

    def stiffness(self, step: Attempt, h: Time) -> Tensor:
        """||f1 - f0|| / ||x1 - x0||, with the slopes at both ends of the step."""
        K = step.stages
        size = h.abs() if isinstance(h, Tensor) else torch.from_numpy(np.abs(h)).to(K)
        top = torch.linalg.vector_norm(K[1] - K[0], dim=-1)
        gap: Tensor = size * torch.linalg.vector_norm(step.x1 - step.x0, dim=-1)
        found: Tensor = top / gap.clamp(min=1e-300)
        return found
