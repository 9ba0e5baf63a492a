"""Linear systems with the sparse Jacobians of steady fields: direct, conjugate gradients, multigrid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ndl.runtime.colouring import library
from ndl.runtime.errors import SettingError
from ndl.runtime.info import GridInfo
from ndl.runtime.linear_maps import solved
from torch import Tensor

COARSEST = 9
"""Points along an axis below which multigrid solves directly."""

CYCLES = 100
"""V-cycles or hundreds of steps of conjugate gradients allowed for one system."""


# ---------------------------------------------------------------- systems

Solve = Callable[[np.ndarray], np.ndarray]


def direct(A: Any) -> Solve:
    """By factors of a sparse matrix."""
    try:
        factors = library().linalg.splu(A.tocsc())
    except RuntimeError:  # singular: no solution, which the iteration says in the model's words
        return lambda b: np.full_like(b, np.nan)
    return lambda b: np.asarray(factors.solve(b))


def given_apart(A: Any, make: Callable[[Any, np.ndarray], Solve]) -> Solve:
    """A solver of what is left, `make(A_ff, free)`, when values that are given are taken out: rows or columns
    with a diagonal entry alone. They are of another scale than differences, and hide a system's symmetry."""
    A = A.tocsr().copy()
    A.eliminate_zeros()
    d = A.diagonal()
    rows = (A.getnnz(axis=1) == 1) & (d != 0)
    columns = (A.getnnz(axis=0) == 1) & (d != 0) & ~rows
    free = ~(rows | columns)
    if not free.any():
        return lambda b: np.asarray(b / d)
    inner, beside = make(A[free][:, free], free), A[free][:, rows]
    below = A[columns]

    def solve(b: np.ndarray) -> np.ndarray:
        x = np.zeros_like(b)
        x[rows] = b[rows] / d[rows]
        x[free] = inner(b[free] - beside @ x[rows])
        x[columns] = (b[columns] - below @ x) / d[columns]
        return x

    return solve


def conjugate_gradients(A: Any, tol: float) -> Solve:
    """Conjugate gradients with the diagonal as preconditioner, for symmetric systems up to their sign; others
    by GMRES."""
    return given_apart(A, lambda inner, free: _conjugate_gradients(inner, tol))


def multigrid(A: Any, grid: GridInfo, components: int, tol: float) -> Solve:
    """`Multigrid` of a field of so many components on a grid."""
    return given_apart(A, lambda inner, free: Multigrid(inner, free, grid, components, tol))


def _conjugate_gradients(A: Any, tol: float) -> Solve:
    linalg = library().linalg
    d = A.diagonal()
    sign = -1.0 if d.sum() < 0 else 1.0
    symmetric = abs(A - A.T).max() <= 1e-10 * abs(A).max()
    near = library().diags(sign / np.where(d == 0, 1.0, d) * np.where(d == 0, 0.0, 1.0))
    run = linalg.cg if symmetric else linalg.gmres

    def solve(b: np.ndarray) -> np.ndarray:
        x, trouble = run(sign * A, sign * b, rtol=tol, atol=0.0, M=near, maxiter=100 * CYCLES)
        return np.asarray(x if not trouble else np.full_like(b, np.nan))

    return solve


class Multigrid:
    """V-cycles over grids of half as many intervals, with Galerkin's coarse systems and symmetric
    Gauss–Seidel smoothing: Trottenberg, Oosterlee and Schüller, Multigrid (2001), chapter 2. It
    preconditions GMRES, so that systems with other conditions than values converge as well. `free` are the
    unknowns of the grid that are solved for; a coarse point is where one of them is."""

    def __init__(self, A: Any, free: np.ndarray, grid: GridInfo, components: int, tol: float) -> None:
        sparse, self.tol = library(), tol
        self.A, self.levels = A, []
        layouts = [(kind, n) for kind, n, _, _ in grid.layouts]
        while max(n for _, n in layouts) > COARSEST:
            P, layouts = _interpolation(sparse, layouts)
            P = sparse.kron(P, sparse.identity(components)).tocsr()[free]
            free = np.asarray((P == 1).sum(axis=0)).ravel() > 0
            P = P[:, free]
            lower = sparse.tril(A).tocsr()
            self.levels.append((A, P, lower, sparse.triu(A).tocsr()))
            A = (P.T @ A @ P).tocsr()
        self.coarsest = direct(A)

    def cycle(self, b: np.ndarray, level: int = 0) -> np.ndarray:
        if level == len(self.levels):
            return self.coarsest(b)
        A, P, lower, upper = self.levels[level]
        sweep = library().linalg.spsolve_triangular
        x = sweep(lower, b, lower=True)
        x = x + P @ self.cycle(P.T @ (b - A @ x), level + 1)
        found: np.ndarray = x + sweep(upper, b - A @ x, lower=False)
        return found

    def __call__(self, b: np.ndarray) -> np.ndarray:
        linalg, n = library().linalg, len(b)
        near = linalg.LinearOperator((n, n), matvec=self.cycle)
        x, trouble = linalg.gmres(self.A, b, rtol=self.tol, atol=0.0, M=near, maxiter=CYCLES)
        return np.asarray(x if not trouble else np.full_like(b, np.nan))


def _interpolation(sparse: Any, layouts: list[tuple[str, int]]) -> tuple[Any, list[tuple[str, int]]]:
    """Linear interpolation from every other point, and the coarse grid."""
    whole: Any = None
    coarse = []
    for kind, n in layouts:
        ring = kind == "ring" and n % 2 == 0
        if n <= COARSEST or (kind == "ring" and n % 2):
            one, m = sparse.identity(n), n
        else:
            m = n // 2 if ring else (n + 1) // 2
            one = sparse.lil_matrix((n, m))
            for j in range(n):
                one[j, j // 2 if j // 2 < m else m - 1] += 0.5 if j % 2 else 1.0
                if j % 2:
                    one[j, (j // 2 + 1) % m if ring else min(j // 2 + 1, m - 1)] += 0.5
        whole = one if whole is None else sparse.kron(whole, one)
        coarse.append((kind, m))
    if all(m == n for (_, m), (_, n) in zip(coarse, layouts)):
        raise SettingError("multigrid needs numbers of points that can be halved", help="use `direct()`")
    return whole.tocsr(), coarse


# ---------------------------------------------------------------- differentiable


class Inverse:
    """v -> J^-1 v for a Jacobian that is held; its derivative is that of this linear map."""

    def __init__(self, A: Any, make: Callable[[Any], Solve]) -> None:
        self.A, self.make = A, make
        self.forward = make(A)
        self._backward: Solve | None = None

    def transposed(self, b: np.ndarray) -> np.ndarray:
        if self._backward is None:
            self._backward = self.make(self.A.T.tocsr())
        return self._backward(b)

    def __call__(self, v: Tensor) -> Tensor:
        return solved(v, self)

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor:
        """Without derivatives."""
        run = self.transposed if transposed else self.forward
        return b.new_tensor(run(b.detach().cpu().double().numpy()))
