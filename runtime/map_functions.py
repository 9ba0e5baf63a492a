"""Functions of linear maps that are known by products: powers, exponentials, eigenvalues.

f(A) b is found among the vectors A^j b and, where A has sparse factors, (A - sigma)^-j b: the map between
these is a small matrix H, and f(A) b is |b| Q f(H) e_1 (Saad 1992, SIAM J. Numer. Anal. 29, 209–228;
Knizhnerman and Simoncini 2010, Numer. Linear Algebra Appl. 17, 615–638). Derivatives by what A depends on
take such a space of the cotangent as well (Kandolf, Koskela, Relton and Schweitzer 2021, the same, 28).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ndl.runtime.colouring import library
from ndl.runtime.errors import RunError
from ndl.runtime.matrix_free import Identity, LinearOperator, Scaled, Sum, iterated, probes
from ndl.runtime.second_order import once
from torch import Tensor

MOST = 400
"""Vectors of a space at most."""

PRECISION = 1e-13
"""How far two spaces of growing size may give different results, relative to them."""

ONCE = "write it as a matrix, `A: R[n, n]`, whose functions have second derivatives"

NOTHING = 1e-13
"""Eigenvalues below this share of the largest are 0."""


@dataclass(frozen=True)
class Kind:
    """A function of maps: `exp`, or the power `s`, a number or a tensor of one."""

    name: str
    s: Any = 1.0

    def of(self, x: Tensor) -> Tensor:
        """f of eigenvalues; what is 0 stays 0 under powers."""
        if self.name == "exp":
            return torch.exp(x)
        return torch.where(x == 0, x, torch.where(x == 0, torch.ones_like(x), x) ** float(self.s))

    def slope(self, x: Tensor) -> Tensor:
        if self.name == "exp":
            return torch.exp(x)
        s = float(self.s)
        return torch.where(x == 0, x, s * torch.where(x == 0, torch.ones_like(x), x) ** (s - 1))


class Projection:
    """A growing space `Q [m, n]`, orthonormal, and the map in it, `H [m, m]`."""

    def __init__(self, A: LinearOperator, b: Tensor) -> None:
        self.A, self.space = A, A.space
        self.norm = float(self.space.inner(b, b)) ** 0.5
        self.Q = (b / self.norm)[None]
        self.images = A.act(self.Q)
        self.pole = self._shifted()
        self.heads = [0] * (1 if self.pole is None else 2)
        """Which vectors are multiplied next, by A and by the shifted inverse."""
        self.ended = False

    def _shifted(self) -> LinearOperator | None:
        """(A - sigma)^-1 for symmetric maps with sparse factors, sigma on the other side of 0."""
        size = float(self.space.inner(self.Q[0], self.images[0]))
        if not size or not self.A.symmetric or self.A.matrix is None:
            return None
        return Sum(self.A, 1.0, Scaled(size, Identity(self.space))).inverse

    def grow(self) -> None:
        """One vector more for each head."""
        before = len(self.Q)
        for k in range(len(self.heads)):
            w = self.images[self.heads[0]]
            if k and self.pole is not None:
                w = self.pole.act(self.Q[self.heads[1]])
            size = float(self.space.inner(w, w)) ** 0.5
            for _ in range(2):
                w = w - self.space.inner(self.Q, w[None]) @ self.Q
            left = float(self.space.inner(w, w)) ** 0.5
            if not left > 1e-13 * size:
                continue
            self.heads[k] = len(self.Q)
            self.Q = torch.cat([self.Q, w[None] / left])
            self.images = torch.cat([self.images, self.A.act(self.Q[-1:])])
        self.ended = len(self.Q) == before or len(self.Q) >= int(self.space.free.sum())

    @property
    def H(self) -> Tensor:
        H = self.space.dual(self.Q) @ self.images.T
        return (H + H.T) / 2 if self.A.symmetric else H

    def first(self) -> Tensor:
        """The coordinates of b."""
        e = torch.zeros(len(self.Q), dtype=self.Q.dtype)
        e[0] = self.norm
        return e


def spectrum(H: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """The eigenvalues of a symmetric matrix, rounding made 0 for powers, and its vectors. Raises `RunError`
    for a power, not whole, of a negative number."""
    values, vectors = torch.linalg.eigh(H)
    if kind.name == "exp":
        return values, vectors
    rounding = NOTHING * values.abs().max()
    values = torch.where(values.abs() <= rounding, torch.zeros_like(values), values)
    if bool((values < 0).any()) and not float(kind.s).is_integer():
        raise RunError(
            f"a power {float(kind.s):g} of a map with negative eigenvalues, near {float(values.min()):.3g}",
            code="NDL472",
            help="powers that are not whole are of maps with positive eigenvalues: `(-A)^s`, `(A.T @ A)^s`",
        )
    return values, vectors


def coordinates(p: Projection, kind: Kind) -> Tensor:
    """f(H) of b's coordinates."""
    if p.A.symmetric:
        values, U = spectrum(p.H, kind)
        return U @ (kind.of(values) * (U.T @ p.first()))
    found: Tensor = torch.linalg.matrix_exp(p.H) @ p.first()
    return found


def projected(A: LinearOperator, kind: Kind, b: Tensor) -> tuple[Projection, Tensor]:
    """A space in which f(A) b is known, and its coordinates there."""
    p = Projection(A, b)
    found, close = coordinates(p, kind), 0
    while not p.ended and close < 2:
        p.grow()
        new = coordinates(p, kind)
        apart = new.clone()
        apart[: len(found)] -= found
        close = close + 1 if float(apart.norm()) <= PRECISION * float(new.norm()) else 0
        found = new
        if len(p.Q) > MOST:
            if float(apart.norm()) > 1e-9 * float(new.norm()):
                raise RunError(
                    f"a function of this map is not known to 1e-9 from {MOST} vectors",
                    code="NDL473",
                    help="take a smaller time, or a map of which an equation with sparse neighbours is known",
                )
            break
    return p, found


def apply(A: LinearOperator, kind: Kind, b: Tensor) -> Tensor:
    """f(A) b for `b [..., n]`, with derivatives by b, by what A depends on and by the power."""
    if kind.name == "^" and not A.symmetric:
        raise RunError(
            f"the power {float(kind.s):g} of a map that is not symmetric",
            code="NDL472",
            help="powers, but whole ones, are of symmetric maps; `A.T @ A` is one",
        )
    rows = [_one(A, kind, row) for row in b.reshape(-1, b.shape[-1])]
    return torch.stack(rows).reshape(b.shape)


def _one(A: LinearOperator, kind: Kind, b: Tensor) -> Tensor:
    with torch.no_grad():
        start = A.space.vector(A.space.values(b.detach()))
        if not bool(start.any()):
            return b * 0
        p, c = projected(A, kind, start)
        y = c @ p.Q
    if not torch.is_grad_enabled():
        return y  # type: ignore[no-any-return]
    taped = A.act(p.Q)
    s = torch.as_tensor(kind.s, dtype=torch.float64)
    found: Tensor = _Applied.apply(b, taped, s, y, p, kind)  # type: ignore[no-untyped-call]
    return found


class _Applied(torch.autograd.Function):
    """y = f(A) b, found already; `taped` are the images of the vectors of its space under A."""

    @staticmethod
    def forward(
        ctx: Any, b: Tensor, taped: Tensor, s: Tensor, y: Tensor, p: Projection, kind: Kind
    ) -> Tensor:
        ctx.p, ctx.kind = p, kind
        ctx.save_for_backward(b, taped, s)
        return y.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        with torch.no_grad():
            made = pulled(ctx.p, ctx.kind, g)
        return (
            *once("an exponential or a power of a map", ONCE, made, (g, *ctx.saved_tensors)),
            None,
            None,
            None,
        )


def pulled(p: Projection, kind: Kind, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cotangents of b, of the images of its space and of the power, for that of f(A) b."""
    space, slope = p.space, g.new_zeros(())
    start = space.primal(space.vector(space.values(g)))
    if not bool(start.any()):
        return g * 0, torch.zeros_like(p.images), slope
    back, c = projected(p.A.transposed(), kind, start)
    Z = pairing(back, p, kind)
    if kind.name == "^":
        values, U = spectrum(p.H, kind)
        logs = torch.where(values > 0, values, torch.ones_like(values)).log() * kind.of(values)
        slope = g @ ((U @ (logs * (U.T @ p.first()))) @ p.Q)
    return space.dual(c @ back.Q), space.dual(Z.T @ back.Q), slope


def pairing(back: Projection, p: Projection, kind: Kind) -> Tensor:
    """Z with sum_ij Z_ij <q'_i, E q_j> = <g, df(A)[E] b>, `[m', m]`."""
    outer = torch.outer(back.first(), p.first())
    if p.A.symmetric:
        (x, U), (y, V) = spectrum(back.H, kind), spectrum(p.H, kind)
        return U @ (divided(kind, x, y) * (U.T @ outer @ V)) @ V.T
    m = len(back.Q)
    block = outer.new_zeros(m + len(p.Q), m + len(p.Q))
    block[:m, :m], block[:m, m:], block[m:, m:] = back.H, outer, p.H.T
    found: Tensor = torch.linalg.matrix_exp(block)[:m, m:]
    return found


def divided(kind: Kind, x: Tensor, y: Tensor) -> Tensor:
    """(f(x_i) - f(y_j))/(x_i - y_j), f' where the two are close."""
    a, b = torch.meshgrid(x, y, indexing="ij")
    gap, middle = a - b, (a + b) / 2
    near = gap.abs() <= 1e-5 * (a.abs() + b.abs()) + (1e-6 if kind.name == "exp" else 0.0)
    safe = torch.where(near, torch.ones_like(gap), gap)
    return torch.where(near, kind.slope(middle), (kind.of(a) - kind.of(b)) / safe)


# ---------------------------------------------------------------- eigenvalues


def eigenpairs(A: LinearOperator, count: int) -> tuple[Tensor, Tensor]:
    """The `count` eigenvalues nearest to 0 of a symmetric map, those of least size first, and their vectors
    `[count, n]` of norm 1, without derivatives; those of the values are of simple ones. Raises `RunError`."""
    n = int(A.space.free.sum())
    if not A.symmetric:
        raise RunError(
            "the eigenvalues of a map that is not symmetric",
            code="NDL472",
            help="`eig(A, n)` is of symmetric maps; `eig(A)` of any matrix",
        )
    if not 1 <= count <= n:
        raise RunError(f"`eig` of a map of {n} numbers has 1 to {n} values, not {count}", code="NDL474")
    with torch.no_grad():
        rows = _pairs(A, count, n)
    vectors = torch.zeros(count, A.space.n, dtype=torch.float64)
    vectors[:, A.space.free] = torch.from_numpy(np.ascontiguousarray(rows))
    tops = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * torch.sign(tops)
    norms = A.space.inner(vectors, vectors)
    return A.space.inner(vectors, A.act(vectors)) / norms, vectors


def _pairs(A: LinearOperator, count: int, n: int) -> np.ndarray:
    """The vectors as rows, in order of the sizes of their values."""
    import scipy.linalg

    linalg, W = library().linalg, A.space.matrix
    if n <= 64 or count >= n // 2:
        if A.matrix is not None:
            B = A.matrix.toarray()
        else:
            eye = torch.zeros(n, A.space.n, dtype=torch.float64)
            eye[:, A.space.free] = torch.eye(n, dtype=torch.float64)
            B = A.space.dual(A.act(eye))[:, A.space.free].numpy()
        values, vectors = scipy.linalg.eigh((B + B.T) / 2, W.toarray())
    else:
        v0 = A.space.vector(probes(A.space.n)[0])[A.space.free].numpy()
        shift = -A.sign * 1e-3 * abs(_rayleigh(A))
        shifted = Sum(A, -1.0, Scaled(shift, Identity(A.space)))
        if A.matrix is not None:
            inverse = linalg.splu(shifted.matrix.tocsc()).solve
        else:
            inverse = lambda b: iterated(shifted, b)  # noqa: E731
        size = (n, n)
        values, vectors = linalg.eigsh(
            linalg.LinearOperator(size, matvec=lambda v: v, dtype=np.float64),
            k=count,
            M=W,
            sigma=shift,
            OPinv=linalg.LinearOperator(size, matvec=inverse, dtype=np.float64),
            v0=v0,
            tol=0.0,
        )
    order = np.argsort(np.abs(values), kind="stable")[:count]
    found: np.ndarray = vectors[:, order].T
    return found


def _rayleigh(A: LinearOperator) -> float:
    """<A v, v>/<v, v> of a smooth vector, of the size of small eigenvalues."""
    v = A.space.vector(torch.ones(A.space.n, dtype=torch.float64))
    return float(A.space.inner(A.act(v), v) / A.space.inner(v, v))


__all__ = ["Kind", "apply", "eigenpairs"]
