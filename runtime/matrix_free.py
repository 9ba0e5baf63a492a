"""Linear maps that are known by what they make of vectors, and their inverses.

A map acts on vectors `[..., n]` of a `Space`, whose inner product is that of functions: the transpose of a
map is its adjoint there, <A u, v> = <u, A.T v>. Entries of a space that are not `free` are 0: there the
conditions of a field give its value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ndl.runtime.colouring import library
from ndl.runtime.errors import RunError
from ndl.runtime.linear_maps import Factors, solved
from ndl.runtime.second_order import again
from torch import Tensor

TOLERANCE = 1e-13
"""Of the systems that are solved by iterations, relative to the right side."""

RESTART, ROUNDS = 100, 20
"""Vectors that GMRES keeps, and how often it starts anew."""

SYMMETRIC = 1e-10
"""How far <A u, v> and <u, A v> may be apart, relative to the sizes of A u and v."""


class Space:
    """Vectors of n numbers for values of a `shape`. The inner product has the `weights` `[n]` (None: 1), or
    the matrix `mass` of finite elements."""

    def __init__(
        self,
        shape: tuple[int, ...],
        weights: Tensor | None = None,
        mass: Any = None,
        free: Tensor | None = None,
    ) -> None:
        self.shape, self.weights, self.mass = shape, weights, mass
        self.n = int(np.prod(shape, dtype=np.int64))
        self.free = torch.ones(self.n, dtype=torch.bool) if free is None else free

    def vector(self, v: Tensor) -> Tensor:
        """Values `[..., *shape]` as a vector, 0 where a condition gives them."""
        lead = v.shape[: v.ndim - len(self.shape)]
        flat = v.reshape(*lead, self.n)
        return torch.where(self.free.to(v.device), flat, torch.zeros_like(flat))

    def values(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], *self.shape)

    def dual(self, v: Tensor) -> Tensor:
        """W v, so that <u, v> is the sum of u and W v entry by entry."""
        if self.mass is None:
            return v if self.weights is None else v * self.weights.to(v)
        return _Product.apply(v, self.mass)  # type: ignore[no-any-return, no-untyped-call]

    def primal(self, v: Tensor) -> Tensor:
        """W^-1 v."""
        if self.mass is None:
            return v if self.weights is None else v / self.weights.to(v)
        flat = torch.where(self.free.to(v.device), v, torch.zeros_like(v))
        found = self._factors(flat.reshape(-1, 1, self.n))
        return found.reshape(v.shape)

    def inner(self, u: Tensor, v: Tensor) -> Tensor:
        return (u * self.dual(v)).sum(-1)

    @cached_property
    def matrix(self) -> Any:
        """W among the free entries."""
        free = self.free.numpy()
        if self.mass is not None:
            return self.mass[free][:, free].tocsr()
        w = np.ones(self.n) if self.weights is None else self.weights.numpy()
        return library().diags(w[free]).tocsr()

    @cached_property
    def _factors(self) -> Factors:
        """Of the mass matrix, 1 where values are given."""
        given = library().diags((~self.free).double().numpy())
        inside = library().diags(self.free.double().numpy())
        return Factors([(inside @ self.mass @ inside + given).tocsr()])


class _Product(torch.autograd.Function):
    """A symmetric sparse matrix times vectors."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, A: Any) -> Tensor:
        ctx.A = A
        flat = v.detach().double().reshape(-1, v.shape[-1]).numpy()
        return v.new_tensor((A @ flat.T).T).reshape(v.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _Product.apply(g, ctx.A), None  # type: ignore[no-untyped-call]


class LinearOperator(ABC):
    """A map of a space to itself. Subclasses have `act` and `transposed`, and `weak` where W A is a sparse
    matrix."""

    def __init__(self, space: Space) -> None:
        self.space = space

    @abstractmethod
    def act(self, v: Tensor) -> Tensor:
        """A v for `v [..., n]`, with derivatives by v and by what A depends on."""

    @abstractmethod
    def transposed(self) -> LinearOperator:
        """The adjoint in the space's inner product."""

    def weak(self) -> Any:
        """W A among the free entries as a sparse matrix, without derivatives; None where it is not known as
        one."""
        return None

    @cached_property
    def matrix(self) -> Any:
        return self.weak()

    @cached_property
    def symmetric(self) -> bool:
        """Whether <A u, v> = <u, A v>: of two vectors, to rounding; sums of numbers that are not alike agree
        for no other reason."""
        with torch.no_grad():
            u, v = (self.space.vector(p) for p in probes(self.space.n))
            Au, Av = self.act(u), self.act(v)
            apart = float((self.space.inner(Au, v) - self.space.inner(u, Av)).abs())
            size = float(self.space.inner(Au, Au) * self.space.inner(v, v)) ** 0.5
        return bool(apart <= SYMMETRIC * size)

    @cached_property
    def sign(self) -> float:
        """1 or -1, as <A v, v> of some vector has it."""
        with torch.no_grad():
            v = self.space.vector(probes(self.space.n)[0])
            return -1.0 if float(self.space.inner(self.act(v), v)) < 0 else 1.0

    @cached_property
    def inverse(self) -> Inverse:
        return Inverse(self)


def probes(n: int) -> tuple[Tensor, Tensor]:
    """Two vectors without a pattern."""
    k = torch.arange(n, dtype=torch.float64)
    return torch.cos(1.7 * k * k + k + 0.3), torch.sin(0.9 * k * k - 2 * k + 0.7)


class Identity(LinearOperator):
    def act(self, v: Tensor) -> Tensor:
        return v

    def transposed(self) -> LinearOperator:
        return self

    def weak(self) -> Any:
        return self.space.matrix


class Scaled(LinearOperator):
    """c A for a number c."""

    def __init__(self, factor: Any, A: LinearOperator) -> None:
        super().__init__(A.space)
        self.factor, self.A = factor, A

    def act(self, v: Tensor) -> Tensor:
        return self.factor * self.A.act(v)  # type: ignore[no-any-return]

    def transposed(self) -> LinearOperator:
        return Scaled(self.factor, self.A.transposed())

    def weak(self) -> Any:
        inner = self.A.matrix
        return None if inner is None else float(self.factor) * inner


class Sum(LinearOperator):
    """A + c B for c = 1 or -1."""

    def __init__(self, A: LinearOperator, c: float, B: LinearOperator) -> None:
        super().__init__(A.space)
        self.A, self.c, self.B = A, c, B

    def act(self, v: Tensor) -> Tensor:
        return self.A.act(v) + self.c * self.B.act(v)

    def transposed(self) -> LinearOperator:
        return Sum(self.A.transposed(), self.c, self.B.transposed())

    def weak(self) -> Any:
        a, b = self.A.matrix, self.B.matrix
        return None if a is None or b is None else a + self.c * b


class Product(LinearOperator):
    """A B."""

    def __init__(self, A: LinearOperator, B: LinearOperator) -> None:
        super().__init__(A.space)
        self.A, self.B = A, B

    def act(self, v: Tensor) -> Tensor:
        return self.A.act(self.B.act(v))

    def transposed(self) -> LinearOperator:
        return Product(self.B.transposed(), self.A.transposed())

    def weak(self) -> Any:
        a, b = self.A.matrix, self.B.matrix
        if a is None or b is None or self.space.mass is not None:
            return None
        return a @ library().diags(1 / self.space.matrix.diagonal()) @ b


class Function(LinearOperator):
    """A map that a function computes, `transposed` the one that computes its transpose."""

    def __init__(
        self,
        space: Space,
        along: Callable[[Tensor], Tensor],
        back: Callable[[Tensor], Tensor],
        weak: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(space)
        self.along, self.back, self._weak = along, back, weak

    def act(self, v: Tensor) -> Tensor:
        return self.along(v)

    def transposed(self) -> LinearOperator:
        weak = None if self._weak is None else lambda: None if self.matrix is None else self.matrix.T.tocsr()
        return Function(self.space, self.back, self.along, weak)

    def weak(self) -> Any:
        return None if self._weak is None else self._weak()


# ---------------------------------------------------------------- inverses


class Inverse(LinearOperator):
    """A^-1: by factors of the sparse matrix, else by conjugate gradients for symmetric maps and GMRES for
    others. Raises `RunError` for a map that takes something to 0."""

    def __init__(self, A: LinearOperator) -> None:
        super().__init__(A.space)
        self.A = A

    def transposed(self) -> LinearOperator:
        return self.A.transposed().inverse

    @cached_property
    def factors(self) -> Any:
        """Of W A; None where there is no sparse matrix."""
        if self.A.matrix is None:
            return None
        try:
            return library().linalg.splu(self.A.matrix.tocsc())
        except RuntimeError:
            raise singular() from None

    def act(self, v: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.solve(v.detach())
        if not torch.is_grad_enabled():
            return x

        def left(x: Tensor) -> Tensor:
            return self.A.act(x) - v

        return again(left, solved(-left(x), self, x), lambda r: solved(r, self))

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor:
        """A^-1 b for `b [..., n]`; with `transposed` W A^-T W^-1 b for its adjoint, the pullback."""
        free = self.space.free.numpy()
        right = (b if transposed else self.space.dual(b)).detach().double().cpu().numpy()
        rows = right.reshape(-1, self.space.n)
        found = np.zeros_like(rows)
        for k, row in enumerate(rows):
            found[k][free] = self._row(row[free], transposed)
        x = b.new_tensor(found.reshape(right.shape))
        return self.space.dual(x) if transposed else x

    def _row(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        if self.factors is not None:
            x = np.asarray(self.factors.solve(b, "T" if transposed else "N"))
            self._check(x, b, transposed)
            return x
        A = self.A.transposed() if transposed and not self.A.symmetric else self.A
        return iterated(A, b)

    def _check(self, x: np.ndarray, b: np.ndarray, transposed: bool) -> None:
        """Factors of a singular matrix are rounding."""
        A = self.A.matrix.T if transposed else self.A.matrix
        left = np.abs(A @ x - b).max(initial=0.0)
        if not left <= 1e-6 * max(np.abs(b).max(initial=0.0), 1e-300) or self.degenerate:
            raise singular()

    @cached_property
    def degenerate(self) -> bool:
        """Whether a pivot is rounding."""
        pivots = np.abs(self.factors.U.diagonal())
        return bool(pivots.min(initial=1.0) <= 1e-14 * pivots.max(initial=1.0))


def iterated(A: LinearOperator, b: np.ndarray) -> np.ndarray:
    """The solution of W A x = b among the free entries, by products."""
    free = A.space.free

    def product(v: np.ndarray) -> np.ndarray:
        whole = torch.zeros(A.space.n, dtype=torch.float64)
        whole[free] = torch.from_numpy(np.ascontiguousarray(v.reshape(-1)))
        with torch.no_grad():
            return np.asarray(A.space.dual(A.act(whole))[free].numpy()) * sign

    linalg, n, sign = library().linalg, len(b), A.sign
    system = linalg.LinearOperator((n, n), matvec=product, dtype=np.float64)
    trouble, x = 1, b
    with np.errstate(all="ignore"):  # a map that is singular ends in no numbers
        if A.symmetric:
            x, trouble = linalg.cg(system, sign * b, rtol=TOLERANCE, atol=0.0, maxiter=10 * n)
        if trouble or not np.isfinite(x).all():
            x, trouble = linalg.gmres(
                system, sign * b, rtol=TOLERANCE, atol=0.0, restart=min(n, RESTART), maxiter=ROUNDS
            )
        left = np.linalg.norm(product(x) - sign * b)
    if not left <= 1e-9 * np.linalg.norm(b):
        raise RunError(
            "the iterations for the inverse of this map came to no end",
            code="NDL473",
            help="it may take something to 0: add a multiple of `identity`",
        )
    return np.asarray(x)


def singular() -> RunError:
    return RunError(
        "this map takes something to 0 and has no inverse",
        code="NDL473",
        help="add a multiple of `identity`, or give a value at the boundary",
    )


__all__ = [
    "Function",
    "Identity",
    "Inverse",
    "LinearOperator",
    "Product",
    "Scaled",
    "Sequence",
    "Space",
    "Sum",
]
