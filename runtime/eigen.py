"""Eigenvalues and eigenvectors of matrices, with derivatives."""

from __future__ import annotations

import torch
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
