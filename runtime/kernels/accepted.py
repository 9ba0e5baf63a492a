"""The accepted steps of a run by a kernel, for what only torch knows of them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from ndl.runtime import at_once
from ndl.runtime.chance import draws_by_step
from ndl.runtime.memory import refuse_tape
from ndl.runtime.problem import Floats, Ints
from ndl.runtime.solution import Solution
from ndl.runtime.stepping.drawn import drawing
from ndl.runtime.stepping.earlier import remembers
from ndl.runtime.stepping.explicit import ExplicitRK
from ndl.runtime.stepping.finish import errors_of, stiffness_of
from ndl.runtime.stepping.replay import Script
from ndl.runtime.stepping.stepper import Stepper
from ndl.runtime.stepping.trail import StepTable, Trail
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.kernels.ode import KernelRun
    from ndl.runtime.kernels.outcome import Outcome


STAGES = 8
"""About how many vectors torch keeps of a step."""


class Accepted:
    """The accepted steps of a run, looked at when somebody asks: their table, and by a replay of them
    continuous output and stiffness."""

    def __init__(self, run: KernelRun, outcome: Outcome) -> None:
        self.run, self.outcome, self.found = run, outcome, outcome.found

    @cached_property
    def _stepper(self) -> Stepper:
        """The method as torch takes its steps: with the draws of each."""
        return drawing(self.run.p, self.run.stepper)

    @cached_property
    def _script(self) -> Script:
        return self.outcome.script()

    @cached_property
    def _replayed(self) -> Solution:
        from ndl.runtime.gradients import replayed

        p = self.run.p
        kept = len(self._script.table.ids) * p.size * p.x0.element_size() * STAGES
        refuse_tape(kept, p.device, "list the times that you want in `save`")
        with torch.set_grad_enabled(p.taped):
            return replayed(p, self._stepper, self._script, None, None)

    def table(self) -> StepTable:
        return self._script.table

    @cached_property
    def _starts(self) -> Tensor | None:
        """The states at the starts of all steps, `[R, n]`, where nothing but explicit steps has moved them; a
        kernel that has not kept them makes the run again."""
        run, p = self.run, self.run.p
        model = p.model
        moved = model.EVENTS or model.DELAYS or model.NOISES or remembers(model) or draws_by_step(model)
        if moved or not isinstance(run.stepper, ExplicitRK) or self._script.crossings:
            return None
        table = self._script.table
        kept = type(self.outcome)(run, run.with_tape(self.found))
        states = run.at_starts(kept.tape())
        place = np.arange(len(table.ids)) - table.starts[table.ids]
        return states[torch.from_numpy(table.ids), torch.from_numpy(place)].detach()

    @cached_property
    def _at_once(self) -> Trail | None:
        """All steps taken again together, with their gradients."""
        p, stepper = self.run.p, self.run.stepper
        if not p.taped or self.run.known or self._starts is None or not len(self._starts):
            return None
        if not at_once.applies(p, stepper):
            return None
        with torch.enable_grad():
            return at_once.retaken(p, stepper, self._script.table, self._starts.clone())[0]

    def _inside(self, ids: Ints, t: Floats) -> Tensor | None:
        """The states of members at times, without gradients, from the steps that hold them alone."""
        if self._starts is None or not len(self._starts):
            return None
        p, stepper, table = self.run.p, self.run.stepper, self._script.table
        step = table.holding(ids, t, p.sign)
        x0, at, h = self._starts[torch.from_numpy(step)], table.t[step], table.h[step]
        f = p.field(ids)
        taken = stepper.attempt(f, x0, at, h, stepper.begin(f, x0, at))
        stepper.complete(f, taken, at, h)
        return stepper.interpolate(taken, np.arange(len(ids)), (t - at) / h)

    def errors(self) -> Tensor:
        """The scaled error norms, with their gradients if the run has some: the steps are taken again by
        torch."""
        if self._at_once is not None:
            return errors_of(self.run.p, self._at_once, self._at_once.table())
        found = self._replayed.steps.error
        return found if found.ndim == 2 else found[None]

    def stiffness(self) -> Tensor:
        if self.run.p.save.kind == "end" and not self.run.p.taped:
            raise AttributeError("the stages of this run were not kept; use `save = steps`")
        if self._at_once is not None:
            return stiffness_of(self._at_once, self.run.stepper, self._at_once.table())
        found = self._replayed.steps.stiffness
        return found if found.ndim == 2 else found[None]

    def __call__(self, ids: Ints, t: Floats) -> dict[str, Tensor]:
        if not (torch.is_grad_enabled() and self.run.p.taped):
            with torch.no_grad():
                found = self._inside(ids, t)
            if found is not None:
                return {"x": found}
        assert self._replayed.interpolant is not None
        return self._replayed.interpolant(ids, t)
