"""Roots of systems of equations, a batch at a time, with the derivative of the implicit function.

Newton's method with step halving; F: [..., n] -> [..., n]. After convergence one more Newton step is
taken with the Jacobian held fixed, z - J^-1 F(z, c): its value is z, and its derivative by c is
-J^-1 F_c, that of the implicit function theorem, whatever F captures and however (arguments, weights).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from ndl.runtime.weights import broadcast_shapes
from torch import Tensor

STEPS = 50
HALVINGS = 10


def jacobian(F: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """dF/dz, [..., n, n]: by one backward pass over n copies, where no other transform is at work."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        n = z.shape[-1]
        with torch.enable_grad():
            copies = z.detach().expand(n, *z.shape).requires_grad_(True)
            value = F(copies)
            if not value.requires_grad:
                return torch.zeros_like(z)[..., None].expand(*z.shape, n)
            seed = torch.eye(n, dtype=z.dtype, device=z.device).reshape(n, *[1] * (z.ndim - 1), n)
            rows = torch.autograd.grad(value, copies, seed.expand_as(value))[0]
        return rows.movedim(0, -2)
    unit = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def column(direction: Tensor) -> Tensor:
        value: Tensor = torch.func.jvp(F, (z,), (direction.expand(z.shape).contiguous(),))[1]
        return value

    columns: Tensor = torch.func.vmap(column)(unit)
    return columns.movedim(0, -1)


def solve(J: Tensor, r: Tensor) -> Tensor:
    """J^-1 r, with nan where J is singular instead of an error for the whole batch."""
    x, info = torch.linalg.solve_ex(J, r.unsqueeze(-1))
    return torch.where(info[..., None] == 0, x.squeeze(-1), torch.nan)


def newton(F: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The root near z; nan for members that do not get there in `STEPS` steps.

    A member's Jacobian is kept while its residual falls to a quarter in each step; with an old one no step is
    halved, a new one is made instead."""
    tolerance = torch.finfo(z.dtype).eps ** 0.75
    done = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
    fresh = torch.ones_like(done)
    J = jacobian(F, z)
    factors = torch.linalg.lu_factor_ex(J)[:2]
    r = F(z)
    size = torch.linalg.vector_norm(r, dim=-1)
    for _ in range(STEPS):
        dz = torch.linalg.lu_solve(*factors, r[..., None])[..., 0]
        small = torch.linalg.vector_norm(dz, dim=-1) <= tolerance * (1 + torch.linalg.vector_norm(z, dim=-1))
        scale = torch.where(done, 0.0, 1.0).to(size)
        for _ in range(HALVINGS):
            trial = z - scale[..., None] * torch.where(done[..., None], 0.0, dz)
            r_new = F(trial)
            now = torch.linalg.vector_norm(r_new, dim=-1)
            worse = ~(now <= size) & ~done & ~small
            if not bool((worse & fresh).any()):
                break
            scale = torch.where(worse & fresh, scale / 2, scale)
        stay = worse & ~fresh
        z = torch.where(stay[..., None], z, trial)
        r = torch.where(stay[..., None], r, r_new)
        slow = (stay | ~(now <= 0.25 * size)) & ~done & ~small
        size = torch.where(stay, size, now)
        done = done | (small & ~stay)
        if bool(done.all()):
            return z
        fresh = slow
        if bool(slow.any()):
            J = torch.where(slow[..., None, None], jacobian(F, z), J)
            factors = torch.linalg.lu_factor_ex(J)[:2]
    return torch.where(done[..., None], z, torch.nan)


def implicit_root(
    function: Callable[..., Tensor], guess: Tensor, captured: tuple[Tensor, ...], rank: int
) -> Tensor:
    """z [..., *shape] (`rank` axes) with function(z, *captured) = 0."""
    shape = guess.shape[guess.ndim - rank :]
    like = function(guess, *captured)
    batch = broadcast_shapes(like.shape[: like.ndim - rank], guess.shape[: guess.ndim - rank])
    n = shape.numel()

    def F(z: Tensor) -> Tensor:
        lead = z.shape[: z.ndim - 1 - len(batch)]
        value = function(z.reshape(lead + batch + shape), *captured)
        return value.expand(lead + batch + shape).reshape((*lead, *batch, n))

    with torch.no_grad():
        z = newton(F, guess.detach().expand(batch + shape).reshape((*batch, n)))
    if not torch.is_grad_enabled():
        return z.reshape(batch + shape)
    with torch.no_grad():
        J = jacobian(F, z)
    return (z - solve(J, F(z))).reshape(batch + shape)
