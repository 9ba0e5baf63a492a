"""What a solver for an energy is given: E(u), its derivative, the Laplacian, the weights of the integral."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from ndl.runtime.colouring import colouring, components, is_sparse
from ndl.runtime.errors import SettingError
from ndl.runtime.linear_maps import LinearMap, jacobian_map
from ndl.runtime.linearized import free_places
from ndl.runtime.problem import Problem
from torch import Tensor

CLOSE = 1e-9
"""How far a product with a sparse matrix may be from the derivative that it stands for."""


class Energy:
    """`E(u)` `[...]` for u `[..., n]`; `jacobian` is its derivative as a function: the integral of it times v
    is the derivative along v, for v that vanish where a condition gives the value."""

    def __init__(self, problem: Problem, residual: Any) -> None:
        """`residual` is the F of the Euler-Lagrange equation. Raises `SettingError` without an energy."""
        self.problem, self.residual = problem, residual
        self.model: Any = problem.model  # generated: it has an `energy` where it has one
        if not hasattr(self.model, "energy"):
            raise SettingError(
                f"`{problem.method.name}` minimizes an energy of fields on a grid of points, and "
                f"`{self.model.NAME}` has none",
                help="write `minimize integral(L, x in S)` in the model, with `grid = uniform(…)`",
            )
        self.laplacian = Laplacian(problem, self)

    def __call__(self, u: Tensor) -> Tensor:
        found: Tensor = self.model.energy(self.residual.t, u)
        return found

    def jacobian(self, u: Tensor) -> Tensor:
        return torch.where(self.free.to(u.device), self.residual(u), 0.0)

    def start(self, u: Tensor) -> Tensor:
        """u with the values that conditions give."""
        return torch.where(self.free.to(u.device), u, u - self.residual(u))

    @cached_property
    def free(self) -> Tensor:
        """`[n]`: where no condition gives the value."""
        x = self.problem.x0
        return free_places(self.model, lambda v: torch.func.jvp(self.residual, (x,), (v,))[1], x)

    @property
    def weights(self) -> Tensor:
        """Of the integral, for each number of the state `[..., n]`."""
        with torch.enable_grad():
            x = self.problem.x0.detach().clone().requires_grad_(True)
            (found,) = torch.autograd.grad(self.model.measure(self.residual.t, x).sum(), x)
        return found


class Laplacian:
    """`lap` of functions that have the homogeneous conditions of the state."""

    def __init__(self, problem: Problem, energy: Energy) -> None:
        self.problem, self.energy = problem, energy

    def __call__(self, u: Tensor) -> Tensor:
        model: Any = self.problem.model
        if not hasattr(model, "laplacian"):
            raise SettingError(
                f"`{self.problem.method.name}` takes the Laplacian of a field of `{model.NAME}` that has "
                "an end without a condition",
                help="state one for each side, a value or a slope: `on boundary(S): dn(u) = 0`",
            )
        found: Tensor = model.laplacian(self.energy.residual.t, u)
        return found

    def jacobian(self, u: Tensor) -> Tensor | LinearMap:
        """The map, found once: it is the same everywhere."""
        return self.map

    @cached_property
    def map(self) -> Tensor | LinearMap:
        """For each member; a dense matrix of few values."""
        x, model = self.problem.x0.detach(), self.problem.model
        with torch.no_grad():
            if is_sparse(model.GRIDS, model.STATES):
                (grid,) = model.GRIDS
                matrices = colouring(grid, components(grid, model.STATES)).matrices(self, x)
                made = jacobian_map(lambda t, y: self(y), matrices, x, x.new_zeros(()))
                v = torch.cos(torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)).expand(x.shape)
                exact = torch.func.jvp(self, (x,), (v,))[1]
                if bool((made.matvec(v) - exact).abs().max() <= CLOSE * exact.abs().max()):
                    return made
            unit = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
            rows: Tensor = torch.func.vmap(lambda d: torch.func.jvp(self, (x,), (d.expand(x.shape),))[1])(
                unit
            )
        return rows.movedim(0, -1)
