"""Earlier values of states, `prev(x, k)`: places of the flat state that the steps of the solver shift along.

Within a step they are constant. An accepted step hands each the value that its source had at the step's
start, before the events at its end fire; a rejected step changes nothing.
"""

from __future__ import annotations

import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.model import Model
from ndl.runtime.problem import Problem
from ndl.runtime.stepping.stepper import Attempt
from torch import Tensor


def remembers(model: Model) -> bool:
    """Whether the steps of a solver shift some of the model's states along."""
    return any(s.by_step for s in model.STATES)


def refuse_exact(problem: Problem) -> None:
    """Raise `SettingError` for gradients of the exact solution, which knows no steps, and for those that take
    the steps backwards."""
    if problem.gradient in ("adjoint", "reversible") and remembers(problem.model):
        raise SettingError(
            f"`gradient = {problem.gradient}` does not know the steps on which `{problem.model.NAME}` looks "
            "back",
            help="use `gradient = discrete` or `checkpoint(n)`",
        )


class Earlier:
    """Places `[m]` of earlier values and of their sources. `changes` says whether the right-hand side reads
    them, so that it jumps after each step."""

    def __init__(self, problem: Problem) -> None:
        model = problem.model
        kept = [s for s in model.STATES if s.by_step]
        to = [i for s in kept for i in range(s.places.start, s.places.stop)]
        sources = [model.state(s.source).places for s in kept]
        taken = [i for place in sources for i in range(place.start, place.stop)]
        self.to, self.source = (
            torch.tensor(v, dtype=torch.int64, device=problem.device) for v in (to, taken)
        )
        sparsity = model.JACOBIAN_SPARSITY
        read = None if sparsity is None else {j for _, j in sparsity}
        self.changes = bool(kept) and (read is None or bool(read & set(to)))

    def __bool__(self) -> bool:
        return bool(len(self.to))

    def hold(self, step: Attempt) -> None:
        """Keeps the earlier values constant within a step: a multistep method would mix them with older
        ones."""
        if self:
            step.x1 = self._put(step.x1, step.x0, self.to)
            if step.error is not None:
                step.error = torch.index_fill(step.error, -1, self.to, 0.0)

    def shift(self, x0: Tensor, x1: Tensor) -> Tensor:
        """The state x1 after a step from x0, with the earlier values shifted along."""
        return self._put(x1, x0, self.source) if self else x1

    def _put(self, x: Tensor, values: Tensor, places: Tensor) -> Tensor:
        return torch.index_copy(x, -1, self.to, values.index_select(-1, places))
