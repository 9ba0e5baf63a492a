"""The linear systems (M - c J) x = b of implicit steps, by dense matrices for all members or by sparse ones.

M is the diagonal mass matrix `[n]`, c `[b]`, J the Jacobian of each member; x and b are `[b, n]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from ndl.runtime.colouring import library
from ndl.runtime.linear_maps import Factors
from ndl.runtime.methods import VectorField
from torch import Tensor

Solve = Callable[[Tensor], Tensor]


class Systems(Protocol):
    """Jacobians as they are carried from step to step, and systems with them."""

    def none(self, x: Tensor) -> Any:
        """In the place of Jacobians that are not known yet."""

    def at(self, f: VectorField, x: Tensor, t: Tensor) -> Any:
        """The Jacobians at (x, t)."""

    def merged(self, need: np.ndarray, new: Any, old: Any) -> Any:
        """`new` in the rows `need [b]`, else `old`."""

    def solver(self, mass: Tensor, c: Tensor, J: Any) -> Solve:
        """b -> x, factorised once; nan where a matrix is singular. With the matrix held, differentiable."""


class Dense:
    """Matrices `[b, n, n]`."""

    def none(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], x.shape[1], x.shape[1])

    def at(self, f: VectorField, x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return f.jacobian(x.detach(), t.detach())

    def merged(self, need: np.ndarray, new: Tensor, old: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(need).to(new.device)[:, None, None], new, old)

    def solver(self, mass: Tensor, c: Tensor, J: Tensor) -> Solve:
        lu, pivots, info = torch.linalg.lu_factor_ex(torch.diag(mass) - c.detach()[:, None, None] * J)
        fine = (info == 0)[:, None]

        def solve(b: Tensor) -> Tensor:
            x: Tensor = torch.linalg.lu_solve(lu, pivots, b[:, :, None])[:, :, 0]
            return torch.where(fine, x, torch.nan)

        return solve


class Sparse:
    """An array `[b]` of SciPy's matrices."""

    def __init__(self) -> None:
        self._last: tuple[Any, np.ndarray, Factors] | None = None

    def none(self, x: Tensor) -> np.ndarray:
        return np.full(x.shape[0], None, dtype=object)

    def at(self, f: VectorField, x: Tensor, t: Tensor) -> np.ndarray:
        assert f.sparse is not None
        return f.sparse(x, t)

    def merged(self, need: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(need, new, old)

    def solver(self, mass: Tensor, c: Tensor, J: np.ndarray) -> Solve:
        size = c.detach().cpu().double().numpy()
        if self._last is not None:
            known, sizes, factors = self._last
            same = len(known) == len(J) and all(a is b for a, b in zip(known, J))
            if same and np.array_equal(sizes, size):
                return factors
        M = library().diags(mass.detach().cpu().double().numpy())
        factors = Factors([M - float(k) * A for k, A in zip(size, J)])
        self._last = (J, size, factors)
        return factors


def systems_of(f: VectorField) -> Systems:
    """The kind that serves a field."""
    return Dense() if f.sparse is None else Sparse()
