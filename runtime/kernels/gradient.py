"""A run by kernels as one function of autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from ndl.runtime.second_order import BY_TORCH, none_itself, once
from torch import Tensor

if TYPE_CHECKING:
    from ndl.runtime.kernels.ode import KernelRun

THIRD = "write `backend = torch` for third derivatives"


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
            made = _Gradient.apply(ctx.run, len(made), *made, *given, x0, drivers, *values)  # type: ignore[no-untyped-call]
        return None, *made


class _Gradient(torch.autograd.Function):
    """Gradients by a kernel, the first `count` of the tensors, as functions of the others: the cotangents of
    `last`, of `saved` and of the times of events, x0, the coefficients of paths, the weights."""

    @staticmethod
    def forward(ctx: Any, run: KernelRun, count: int, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.run, ctx.count = run, count
        ctx.save_for_backward(*tensors[count:])
        return tuple(None if t is None else t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        known = ctx.saved_tensors  # which also sees that no weight was changed meanwhile
        with torch.no_grad():
            made = by_torch(ctx.run, known[:3], grads)
        made = once("a gradient by a kernel", THIRD, made, (*grads, *known))
        return None, None, *[None] * ctx.count, *made


def by_torch(
    run: KernelRun, given: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Second derivatives by torch, which makes the run again: from the cotangents of the gradients by x0 and
    weights those of what the gradients are functions of. Raises `SettingError` where torch's results are
    others than the kernel's."""
    from ndl.runtime import solve

    p = run.p
    if run.wide != p.size or p.model.EVENTS or run.drivers.wanted:
        raise none_itself("this run by a kernel", BY_TORCH)
    inputs: list[Tensor | None] = [p.x0, None, *run.values]
    pairs = [(v, g) for v, g in zip(inputs, grads, strict=True) if v is not None and v.requires_grad]
    by, directions = [v for v, _ in pairs], [g for _, g in pairs]
    with torch.enable_grad():
        solution = solve.by_torch(p)
        outputs = [solution.last["x"], *([solution.saved.values["x"]] if p.save.kind != "end" else [])]
        cotangents = [g.detach().requires_grad_() for g in given[: len(outputs)]]
        first = torch.autograd.grad(outputs, by, cotangents, create_graph=True, allow_unused=True)
    known = [(f, d) for f, d in zip(first, directions) if f is not None and f.requires_grad and d is not None]
    second = torch.autograd.grad(
        [f for f, _ in known], [*cotangents, *by], [d for _, d in known], allow_unused=True
    )
    found = {id(v): g for v, g in zip(by, second[len(cotangents) :])}
    of_outputs = [*second[: len(cotangents)], *[None] * (3 - len(cotangents))]
    return *of_outputs, *(None if v is None else found.get(id(v)) for v in inputs)
