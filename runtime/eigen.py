"""Eigenvalues and eigenvectors of matrices, with derivatives."""

from __future__ import annotations

from typing import Any

import torch
from ndl.runtime.weights import broadcast_shapes
from torch import Tensor

ALIKE = 1e-12
"""How far a symmetric matrix may be from its transpose, relative to its largest entry."""


def is_symmetric(A: Tensor) -> bool:
    """Whether A is its conjugate transpose, to rounding."""
    return bool((A - A.mH).abs().max() <= ALIKE * A.abs().max())


def eig(A: Tensor) -> tuple[Tensor, Tensor]:
    """Values `w [n]` and vectors `V [n, n]` of a matrix; `V[k]`, of norm 1, belongs to `w[k]`. Of a symmetric
    one both are real and the values ascend; else both are complex, in the order of real and then of imaginary
    parts. The largest entry of a vector is positive."""
    if is_symmetric(A):
        w, V = torch.linalg.eigh((A + A.mH) / 2)
    else:
        w, V = torch.linalg.eig(A)
        order = sorted(range(len(w)), key=lambda k: (float(w[k].real), float(w[k].imag)))
        w, V = w[order], V[:, order]
    V = V.mT
    tops = V.gather(1, V.abs().argmax(1, keepdim=True)).detach()
    return w, V * (tops.abs() / tops)


# ---------------------------------------------------------------- matrices that are known to be symmetric


def _decomposed(A: Tensor) -> tuple[Tensor, Tensor]:
    """Values and vectors, as rows, of the symmetric part."""
    w, V = torch.linalg.eigh((A + A.mT) / 2)
    rows = V.mT
    tops = rows.gather(-1, rows.abs().argmax(-1, keepdim=True)).detach()
    return w, rows * torch.sign(tops)


def eigvalsh(A: Tensor) -> Tensor:
    """The eigenvalues `[..., n]` of symmetric matrices, ascending."""
    return _decomposed(A)[0]


def eigvecsh(A: Tensor) -> Tensor:
    """Their vectors `[..., n, n]` as rows, of norm 1, the largest entry of each positive."""
    return _decomposed(A)[1]


def symmetric_power(A: Tensor, s: Tensor | float) -> Tensor:
    """A^s of symmetric matrices `[..., n, n]` whose eigenvalues are positive, `s` of the shape `[...]`; NaN
    for a negative eigenvalue and an s that is not whole."""
    power = torch.as_tensor(s, dtype=A.dtype, device=A.device)
    batch = broadcast_shapes(A.shape[:-2], power.shape)
    found: Tensor = _Power.apply(A.expand(*batch, *A.shape[-2:]), power.expand(batch))  # type: ignore[no-untyped-call]
    return found


def _differences(w: Tensor, s: Tensor) -> Tensor:
    """(w_i^s - w_j^s)/(w_i - w_j), the derivative where the two are close: `[..., n, n]`."""
    a, b, s = w[..., :, None], w[..., None, :], s[..., None, None]
    gap = a - b
    near = gap.abs() <= 1e-5 * (a.abs() + b.abs())
    slope = s * ((a + b) / 2) ** (s - 1)
    return torch.where(near, slope, (a**s - b**s) / torch.where(near, torch.ones_like(gap), gap))


class _Power(torch.autograd.Function):
    """Its derivatives do not divide by gaps between eigenvalues, as those of their vectors do."""

    generate_vmap_rule = True

    @staticmethod
    def forward(A: Tensor, s: Tensor) -> Tensor:
        w, V = _decomposed(A)
        return V.mT @ (w[..., None] ** s[..., None, None] * V)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def _parts(ctx: Any) -> tuple[Tensor, Tensor, Tensor]:
        A, s = ctx.saved_tensors
        w, V = _decomposed(A)
        logs = w.log() * w ** s[..., None]
        return V, _differences(w, s), V.mT @ (logs[..., None] * V)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        V, weights, by_power = _Power._parts(ctx)
        back = V.mT @ (weights * (V @ g @ V.mT)) @ V
        return (back + back.mT) / 2, (g * by_power).sum((-2, -1))

    @staticmethod
    def jvp(ctx: Any, dA: Tensor | None, ds: Tensor | None) -> Tensor:  # type: ignore[override]
        V, weights, by_power = _Power._parts(ctx)
        found = torch.zeros_like(V)
        if dA is not None:
            found = V.mT @ (weights * (V @ ((dA + dA.mT) / 2) @ V.mT)) @ V
        return found if ds is None else found + ds[..., None, None] * by_power
