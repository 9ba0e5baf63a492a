"""A run by kernels as one function of autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from ndl.runtime.errors import SettingError
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.kernels.ode import KernelRun


class Solve(torch.autograd.Function):
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
