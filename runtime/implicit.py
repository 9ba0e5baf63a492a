"""Roots of systems of equations, a batch at a time, with the derivative of the implicit function.

Newton's method with step halving; F: [..., n] -> [..., n]. After convergence two more steps are taken with
the Jacobian held: their derivatives are those of the implicit function, whatever F captures and however
(arguments, weights).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ndl.runtime.colouring import Colouring
from ndl.runtime.linear_maps import Factors
from ndl.runtime.second_order import inner_derivative, rooted
from ndl.runtime.weights import broadcast_shapes
from torch import Tensor

STEPS = 50
HALVINGS = 10


def jacobian(F: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """dF/dz, [..., n, n]: by one backward pass over n copies, where no other transform is at work."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        n = z.shape[-1]
        with torch.enable_grad(), inner_derivative():
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


class Slopes:
    """Dense Jacobians of F, factorised, each kept until it is renewed."""

    def __init__(self, F: Callable[[Tensor], Tensor], z: Tensor) -> None:
        self.F, self.J = F, jacobian(F, z)
        self.factors = torch.linalg.lu_factor_ex(self.J)[:2]

    def renew(self, z: Tensor, rows: Tensor) -> None:
        """At z, in some rows."""
        self.J = torch.where(rows[..., None, None], jacobian(self.F, z), self.J)
        self.factors = torch.linalg.lu_factor_ex(self.J)[:2]

    def solve(self, r: Tensor) -> Tensor:
        x: Tensor = torch.linalg.lu_solve(*self.factors, r[..., None])[..., 0]
        return x


class SparseSlopes:
    """Sparse ones, by a colouring that is tried along a random vector. Raises `Denser` where it fails."""

    def __init__(self, F: Callable[[Tensor], Tensor], z: Tensor, colours: Colouring) -> None:
        self.F, self.colours = F, colours
        self.matrices = np.full(len(z), None, dtype=object)
        self.renew(z, torch.ones(len(z), dtype=torch.bool))
        generator = torch.Generator().manual_seed(1)
        v = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z)
        slope = torch.func.jvp(F, (z,), (v,))[1].detach().cpu().double().numpy()
        rows = v.cpu().double().numpy()
        along = np.stack([A @ row for A, row in zip(self.matrices, rows)])
        size = np.abs(along).max() + np.abs(slope).max()
        if not np.abs(along - slope).max() <= 1e4 * torch.finfo(z.dtype).eps * size:
            raise Denser

    def renew(self, z: Tensor, rows: Tensor) -> None:
        with torch.no_grad():
            new = self.colours.matrices(self.F, z.detach())
        self.matrices = np.where(rows.cpu().numpy(), new, self.matrices)
        self.factors = Factors(list(self.matrices))

    def solve(self, r: Tensor) -> Tensor:
        return self.factors(r)


class Denser(Exception):
    """A function reads more places than the field that it calls."""


def slopes_of(F: Callable[[Tensor], Tensor], z: Tensor, colours: Colouring | None) -> Slopes | SparseSlopes:
    """The Jacobian of F at z, as sparse as it is known to be."""
    if colours is None or z.ndim != 2 or z.shape[-1] != colours.total:
        return Slopes(F, z)
    try:
        return SparseSlopes(F, z, colours)
    except Denser:
        return Slopes(F, z)


def newton(F: Callable[[Tensor], Tensor], z: Tensor, colours: Colouring | None = None) -> Tensor:
    """The root near z; nan for members that do not get there in `STEPS` steps.

    A member's Jacobian is kept while its residual falls to a quarter in each step; with an old one no step is
    halved, a new one is made instead."""
    tolerance = torch.finfo(z.dtype).eps ** 0.75
    done = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
    fresh = torch.ones_like(done)
    J = slopes_of(F, z, colours)
    r = F(z)
    size = torch.linalg.vector_norm(r, dim=-1)
    for _ in range(STEPS):
        dz = J.solve(r)
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
            J.renew(z, slow)
    return torch.where(done[..., None], z, torch.nan)


def implicit_root(
    function: Callable[..., Tensor],
    guess: Tensor,
    captured: tuple[Tensor, ...],
    rank: int,
    colours: Colouring | None = None,
) -> Tensor:
    """z [..., *shape] (`rank` axes) with function(z, *captured) = 0; `colours` are those of a field that the
    function calls."""
    shape = guess.shape[guess.ndim - rank :]
    like = function(guess, *captured)
    batch = broadcast_shapes(like.shape[: like.ndim - rank], guess.shape[: guess.ndim - rank])
    n = shape.numel()

    def F(z: Tensor) -> Tensor:
        lead = z.shape[: z.ndim - 1 - len(batch)]
        value = function(z.reshape(lead + batch + shape), *captured)
        return value.expand(lead + batch + shape).reshape((*lead, *batch, n))

    with torch.no_grad():
        z = newton(F, guess.detach().expand(batch + shape).reshape((*batch, n)).contiguous(), colours)
    if not torch.is_grad_enabled():
        return z.reshape(batch + shape)
    with torch.no_grad():
        J = slopes_of(F, z, colours)
    inverse = J.solve if isinstance(J, SparseSlopes) else lambda r: solve(J.J, r)
    return rooted(F, z, inverse).reshape(batch + shape)
