"""Second derivatives: roots that have them and refuse third ones, and gradients that refuse to have them.

A root z of F(z, c) = 0 that was found without a tape is moved by -J^-1 F(z, c), J = dF/dz held. The move is 0
and its derivative by c that of the implicit function. The derivative of each further move with the same J is
right to one order more: the error of such a move is the error before it times J(z)^-1 J - 1, which is of the
size of the change of c. Two moves are made, and one more for each
derivative by `torch.func` that is being taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from ndl.runtime.errors import SettingError
from torch import Tensor

SECOND = "write `gradient = discrete` for second derivatives"
BY_TORCH = "write `backend = torch` for second derivatives"
NO_THIRD = "take differences of second derivatives"

Map = Callable[[Tensor], Tensor]


def rooted(F: Map, z: Tensor, solve: Map) -> Tensor:
    """The root z `[..., n]` as a function of all that F captures, with first and second derivatives; `solve`
    is r -> J^-1 r with J held, differentiable itself."""
    z = z.detach()
    return again(F, z - solve(F(z)), solve)


def again(F: Map, first: Tensor, solve: Map) -> Tensor:
    """A root that has first derivatives, with second ones; third ones are a `SettingError`."""
    stack = torch._C._functorch.get_interpreter_stack()
    z = first
    if stack is None:
        z = _Later.apply(first)  # type: ignore[no-untyped-call]
    for _ in range(1 + _order(stack or ())):
        r = F(z)
        z = z - solve(r - r.detach())
    return z


def _order(stack: Sequence[Any]) -> int:
    """How many of the transforms at work are derivatives."""
    kinds = torch._C._functorch.TransformType
    return sum(level.key() in (kinds.Grad, kinds.Jvp) for level in stack)


class _Later(torch.autograd.Function):
    """z, whose cotangents cancel, to rounding, but for those of second derivatives: only a way back that is
    recorded, and those after it, go on."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.recorded = False
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> Tensor | None:  # type: ignore[override]
        ctx.recorded |= torch.is_grad_enabled()
        if g is None or not ctx.recorded:
            return None
        found: Tensor = _Twice.apply(g, *ctx.saved_tensors)  # type: ignore[no-untyped-call]
        return found


class _Twice(torch.autograd.Function):
    """A cotangent of z whose derivatives have none: neither by itself nor by z, for which a 0 says so."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return g.view_as(g)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        if not torch.is_grad_enabled():
            return g, None
        (z,) = ctx.saved_tensors
        what = "a gradient through an equation that is solved"
        return once(what, NO_THIRD, (g, torch.zeros_like(z)), (g, z))


def once(
    what: str, help: str, made: Sequence[Tensor | None], given: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """`made`, gradients that have none themselves, as functions of what is `given`: there a `SettingError`
    says that `what` has none, and the help."""
    if not torch.is_grad_enabled():
        return tuple(made)
    found: tuple[Tensor | None, ...] = _Once.apply(what, help, len(made), *made, *given)  # type: ignore[no-untyped-call]
    return found


_inner: ContextVar[bool] = ContextVar("inner", default=False)
_repeated: ContextVar[bool] = ContextVar("repeated", default=False)


@contextmanager
def _holding(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


@contextmanager
def inner_derivative() -> Iterator[None]:
    """What is computed inside is differentiated at once, as part of a value."""
    with _holding(_inner), _kept() if _repeated.get() else nullcontext():
        yield


def repeated() -> AbstractContextManager[None]:
    """What is computed inside keeps no tape: it will be computed again for its derivatives."""
    return _holding(_repeated)


def is_repeated() -> bool:
    """Whether that is so."""
    return _repeated.get()


def _kept() -> AbstractContextManager[None]:
    """A tape after all: to differentiate by it would have all that goes before computed again."""
    return torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)


def guarded(what: str, help: str, x: Tensor) -> Tensor:
    """x, whose cotangents have no derivatives, but for those of an `inner_derivative`: see `once`."""
    if not x.requires_grad or _inner.get():
        return x
    found: Tensor = _Guarded.apply(what, help, x)  # type: ignore[no-untyped-call]
    return found


class _Guarded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, what: str, help: str, x: Tensor) -> Tensor:
        ctx.what, ctx.help = what, help
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return None, None, *once(ctx.what, ctx.help, [g], [g])


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, what: str, help: str, count: int, *tensors: Tensor | None) -> Any:
        ctx.what, ctx.help = what, help
        return tuple(None if t is None else t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise none_itself(ctx.what, ctx.help)


def none_itself(what: str, help: str) -> SettingError:
    """That the gradient of something has no gradient."""
    return SettingError(f"the gradient of {what} has no gradient itself", help=help)
