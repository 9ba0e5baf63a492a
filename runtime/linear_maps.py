"""Matrices of implicit steps that are never formed: a diagonal, one plus a multiple of a sparse Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from ndl.runtime.colouring import library
from ndl.runtime.second_order import again
from torch import Tensor

Entries = Any
"""A number, or a tensor: `[...]` for a factor, `[..., n]` for a diagonal."""


class Factors:
    """A sparse matrix for each member, factorised: solutions for `[B, n]`, with their derivatives."""

    def __init__(self, matrices: Sequence[Any]) -> None:
        self.factors = [_factor(A) for A in matrices]

    def __call__(self, b: Tensor) -> Tensor:
        return solved(b, self)

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor:
        """Without derivatives."""
        rows = b.detach().cpu().double().numpy()
        flat = rows.reshape(-1, len(self.factors), rows.shape[-1])
        found = np.full_like(flat, np.nan)
        for k, lu in enumerate(self.factors):
            if lu is not None and np.isfinite(flat[:, k]).all():
                found[:, k] = lu.solve(np.ascontiguousarray(flat[:, k].T), "T" if transposed else "N").T
        return b.new_tensor(found.reshape(rows.shape))


def _factor(A: Any) -> Any:
    """The factors of a matrix; None where it is singular."""
    if not np.isfinite(A.data).all():
        return None
    try:
        return library().linalg.splu(A.tocsc())
    except RuntimeError:
        return None


class Solver(Protocol):
    """Solves A x = b, or the system of the pullback, without derivatives."""

    def solve(self, b: Tensor, transposed: bool = False) -> Tensor: ...


def solved(b: Tensor, solver: Solver, x: Tensor | None = None) -> Tensor:
    """A^-1 b with its derivative by b, A held; `x` is the solution where it is known. With b = v - A x that
    has the derivatives of A^-1 v by v and by what A depends on."""
    found: Tensor = _Solved.apply(b, solver, x, False)  # type: ignore[no-untyped-call]
    return found


class _Solved(torch.autograd.Function):
    """A linear map: its derivatives in both directions are systems with the same matrix."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, solver: Solver, x: Tensor | None, transposed: bool) -> Tensor:
        ctx.solver, ctx.transposed = solver, transposed
        return solver.solve(b, transposed) if x is None else x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        back = _Solved.apply(g, ctx.solver, None, not ctx.transposed)  # type: ignore[no-untyped-call]
        return back, None, None, None


class LinearMap:
    """D + c J for a diagonal D and a sparse Jacobian J: what can be done with it without forming it. Any
    other operation sees the dense matrix."""

    def __init__(
        self, matrices: np.ndarray | None, apply: Callable[[Tensor], Tensor] | None,
        factor: Entries = 1.0, diagonal: Entries = 0.0,
    ) -> None:  # fmt: skip
        """`matrices` is J for each member, without derivatives; `apply` is v -> J v with them. Both are None
        where there is only D."""
        self.matrices, self.apply = matrices, apply
        self.factor, self.diagonal = factor, diagonal
        self._factors: Factors | None = None

    # ------------------------------------------------------------ arithmetic

    def __neg__(self) -> LinearMap:
        return self * -1.0

    def __mul__(self, c: Any) -> LinearMap:
        by = c[..., 0, 0] if isinstance(c, Tensor) and c.ndim > 1 else c
        column = by[..., None] if isinstance(by, Tensor) and by.ndim else by
        return LinearMap(self.matrices, self.apply, self.factor * by, self.diagonal * column)

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> LinearMap:
        return self.__mul__(1 / c)

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, LinearMap):
            return self.dense() + other
        one, two = (self, other) if self.matrices is not None else (other, self)
        if two.matrices is not None:
            return self.dense() + other.dense()
        return LinearMap(one.matrices, one.apply, one.factor, one.diagonal + two.diagonal)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dense(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        left = args[0]
        if function in ARITHMETIC and isinstance(left, Tensor):  # on the right of a tensor
            return ARITHMETIC[function](args[1], left)
        plain = [a.dense() if isinstance(a, LinearMap) else a for a in args]
        return function(*plain, **(kwargs or {}))

    def dense(self) -> Tensor:
        """`[..., n, n]`."""
        if self.matrices is None:
            made: Tensor = torch.diag_embed(self.diagonal)
            return made
        n = self.matrices[0].shape[0]
        like = next(v for v in (self.factor, self.diagonal, torch.zeros(())) if isinstance(v, Tensor))
        J = like.new_tensor(np.stack([A.toarray() for A in self.matrices]))
        c = self.factor[..., None, None] if isinstance(self.factor, Tensor) else self.factor
        d = torch.as_tensor(self.diagonal, dtype=J.dtype, device=J.device)
        return c * J + torch.diag_embed(d.expand(*d.shape[:-1], n) if d.ndim else d.expand(n))

    # ------------------------------------------------------------ products and solutions

    def matvec(self, v: Tensor) -> Tensor:
        """(D + c J) v."""
        if self.apply is None:
            return self.diagonal * v  # type: ignore[no-any-return]
        c = self.factor[..., None] if isinstance(self.factor, Tensor) else self.factor
        taped = torch.is_grad_enabled()
        return self.diagonal * v + c * (self.apply(v) if taped else self._product(v))  # type: ignore[no-any-return]

    def _product(self, v: Tensor) -> Tensor:
        """J v, without derivatives."""
        assert self.matrices is not None
        rows = v.cpu().double().numpy()
        return v.new_tensor(np.stack([A @ row for A, row in zip(self.matrices, rows)]))

    def _systems(self) -> Factors:
        if self._factors is None:
            assert self.matrices is not None
            b, n = len(self.matrices), self.matrices[0].shape[0]
            c = np.broadcast_to(_host(self.factor), (b,))
            d = np.broadcast_to(_host(self.diagonal), (b, n))
            diags = library().diags
            self._factors = Factors([diags(d[k]) + c[k] * A for k, A in enumerate(self.matrices)])
        return self._factors

    def solve(self, b: Tensor) -> Tensor:
        """(D + c J)^-1 b, with derivatives by all that the matrix depends on where there is a tape."""
        if self.matrices is None:
            return b / self.diagonal  # type: ignore[no-any-return]
        factors = self._systems()
        x = factors.solve(b)
        if not torch.is_grad_enabled():
            return x

        def left(x: Tensor) -> Tensor:
            return self.matvec(x) - b

        return again(left, solved(-left(x), factors, x), factors)


ARITHMETIC = {
    torch.Tensor.mul: LinearMap.__mul__,
    torch.Tensor.__mul__: LinearMap.__mul__,
    torch.Tensor.add: LinearMap.__add__,
    torch.Tensor.__add__: LinearMap.__add__,
    torch.Tensor.sub: LinearMap.__rsub__,
    torch.Tensor.__sub__: LinearMap.__rsub__,
}
"""What tensors do with a map on their right."""


def _host(value: Any) -> np.ndarray:
    plain = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
    return np.asarray(plain, dtype=np.float64)


def diagonal(entries: Tensor) -> LinearMap:
    """The matrix with a vector on its diagonal."""
    return LinearMap(None, None, 1.0, entries)


def jacobian_map(
    function: Callable[[Tensor, Tensor], Tensor], matrices: np.ndarray, x: Tensor, t: Tensor
) -> LinearMap:
    """df/dx at (x, t) for f of (t, x), its sparse matrices known."""

    def apply(v: Tensor) -> Tensor:
        found: Tensor = torch.func.jvp(lambda y: function(t, y), (x,), (v.expand_as(x),))[1]
        return found

    return LinearMap(matrices, apply)
