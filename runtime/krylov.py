"""Systems with a Jacobian of which only products are made: Newton–Krylov methods for large equations.

Products J v are derivatives of the model's residuals along v, products J^T w their pullbacks, so that nothing
of the size of a matrix is stored: Knoll and Keyes (2004), J. Comput. Phys. 193, 357–397. On evenly spaced
grids and meshes the incomplete factors of the sparse Jacobian at the first x precondition all later systems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ndl.runtime.colouring import colouring, components, library
from ndl.runtime.linear_maps import solved
from ndl.runtime.model import Model
from ndl.runtime.problem import Problem
from torch import Tensor

FORCING = 1e-4
"""How small the residual of a linear system becomes on the way, relative to its right side."""

RESTART, ROUNDS = 60, 40
"""Vectors that GMRES keeps, and how often it starts anew."""

FACTORS = ((20.0, 1e-5), (60.0, 1e-7))
"""Entries of incomplete factors for each of the matrix, and the relative size below which they are left out:
the second where the first do not help enough."""


class KrylovInverse:
    """J(x)^-1 b for each member, by the Krylov method that the method's name says; a derivative by b."""

    def __init__(self, problem: Problem, t: Tensor) -> None:
        self.problem, self.t = problem, t
        self.tight = float(problem.method.options.get("tol") or 1e-10) * 1e-2
        self.near: dict[int, Any] = {}
        self.level: dict[int, int] = {}
        self.products = 0
        """Of Jacobians and vectors, so far."""

    def __call__(self, x: Tensor, b: Tensor) -> Tensor:
        return self.at(x)(b)

    def at(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """b -> J(x)^-1 b."""
        systems = [
            System(self, self.problem.members(np.array([m])), m, row) for m, row in enumerate(x.detach())
        ]
        return lambda b: torch.stack([_one(system, row) for system, row in zip(systems, b)])

    def preconditioner(self, m: int, model: Model, x: Tensor, better: bool = False) -> Any:
        """Incomplete factors for a member, made once, and once more where `better` ones are wanted; None
        where the Jacobian is not sparse or there are none better."""
        if better:
            if self.level.get(m, 0) == len(FACTORS) - 1 or self.near.get(m) is None:
                return None
            self.level[m] = self.level.get(m, 0) + 1
            del self.near[m]
        if m not in self.near:
            self.near[m] = self._factors(model, m, x)
        return self.near[m]

    def _factors(self, model: Model, m: int, x: Tensor) -> Any:
        grids = self.problem.model.GRIDS
        if len(grids) != 1 or not grids[0].reach:
            return None
        colours = colouring(grids[0], components(grids[0], self.problem.model.STATES))
        t = self.t[m : m + 1]
        (J,) = colours.matrices(lambda y: model.vector_field(t.expand(y.shape[:-1]), y), x[None])
        try:
            fill, drop = FACTORS[self.level.get(m, 0)]
            return library().linalg.spilu(J.tocsc(), drop_tol=drop, fill_factor=fill)
        except RuntimeError:  # singular: GMRES goes without
            return None


class System:
    """J(x) of one member."""

    def __init__(self, inverse: KrylovInverse, model: Model, m: int, x: Tensor) -> None:
        self.inverse, self.model, self.m, self.x = inverse, model, m, x
        t = inverse.t[m : m + 1]
        self.f: Callable[[Tensor], Tensor] = lambda y: model.vector_field(t, y[None])[0]
        with torch.no_grad():
            self.near = inverse.preconditioner(m, model, x)
        self._pulled: Any = None

    def along(self, v: np.ndarray) -> np.ndarray:
        """J v."""
        self.inverse.products += 1
        tangent = self.x.new_tensor(v.reshape(-1))
        found = torch.func.jvp(self.f, (self.x,), (tangent,))[1]
        return np.asarray(found.detach().cpu().double().numpy())

    def pulled(self, w: np.ndarray) -> np.ndarray:
        """J^T w."""
        if self._pulled is None:
            self._pulled = torch.func.vjp(self.f, self.x)[1]
        (found,) = self._pulled(self.x.new_tensor(w.reshape(-1)))
        return np.asarray(found.detach().cpu().double().numpy())

    def solve(self, b: Tensor, rtol: float, transposed: bool = False) -> Tensor:
        """The solution; no numbers where the method does not come to its end."""
        found = self._solved(b, rtol, transposed)
        while found is None:
            with torch.no_grad():
                self.near = self.inverse.preconditioner(self.m, self.model, self.x, better=True)
            if self.near is None:
                return torch.full_like(b, torch.nan)
            found = self._solved(b, rtol, transposed)
        return found

    def _solved(self, b: Tensor, rtol: float, transposed: bool) -> Tensor | None:
        right = b.cpu().double().numpy()
        linalg, n = library().linalg, len(right)
        product = self.pulled if transposed else self.along
        J = linalg.LinearOperator((n, n), matvec=product, dtype=np.float64)
        near = None
        if self.near is not None:
            way = "T" if transposed else "N"
            near = linalg.LinearOperator((n, n), matvec=lambda v: self.near.solve(v, way), dtype=np.float64)
        same = {"rtol": rtol, "atol": 0.0, "M": near}
        with torch.no_grad():
            trouble, x = 1, right
            if self.inverse.problem.method.name == "bicgstab":
                x, trouble = linalg.bicgstab(J, right, maxiter=ROUNDS * RESTART, **same)
            if trouble:  # also where BiCGSTAB has broken down
                x, trouble = linalg.gmres(J, right, restart=RESTART, maxiter=ROUNDS, **same)
        return None if trouble else b.new_tensor(x)


def _one(system: System, b: Tensor) -> Tensor:
    """The solution of one member's system, with its derivative by b where there is a tape."""
    if not (torch.is_grad_enabled() and b.requires_grad):
        return system.solve(b.detach(), FORCING)
    # b is what the iteration has left of the residual: of rounding no more than zeros is known
    x = torch.nan_to_num(system.solve(b.detach(), FORCING), nan=0.0)
    return solved(b, _Tight(system), x)


class _Tight:
    """Systems of derivatives, which are solved to the method's tolerance."""

    def __init__(self, system: System) -> None:
        self.system = system

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor:
        return self.system.solve(b.detach(), self.system.inverse.tight, transposed)


__all__ = ["KrylovInverse"]
