"""POD and the choice of interpolation points.

With the thin SVD of snapshots X = V S W^T the first k columns of V are the POD basis: no other basis of k
vectors has a smaller error sum_{i>k} s_i^2. DEIM interpolates f ~ U (P^T U)^{-1} P^T f with the basis U of
snapshots of f and m places P; its error is at most ||(P^T U)^{-1}||_2 times that of the best approximation
by U. Gappy POD takes more places than vectors, and the least squares over them, (P^T U)^+ for the inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """How many vectors of a basis: a rank, a share of the energy sum s_i^2, or the relative error of the
    snapshots in the Frobenius norm."""

    rank: int | None = None
    energy: float | None = None
    tol: float | None = None

    def count(self, s: Tensor) -> int:
        """The number of vectors for singular values s, at least 1."""
        if self.rank is not None:
            return max(1, self.rank)
        total = (s**2).sum()
        if not bool(total > 0):
            return 1
        missed = (total - torch.cumsum(s**2, 0)).clamp(min=0) / total  # after 1, 2, … vectors
        bound = 1 - self.energy if self.energy is not None else (self.tol or 0.0) ** 2
        within = torch.nonzero(missed <= bound)
        return int(within[0]) + 1 if len(within) else len(s)


@dataclass(frozen=True)
class Basis:
    """Orthonormal columns `vectors`, [n, k]; all singular values of the snapshots; the share of energy that
    is kept."""

    vectors: Tensor
    singular: Tensor

    @property
    def rank(self) -> int:
        return self.vectors.shape[1]

    @property
    def missed(self) -> float:
        """The relative error of the snapshots' projection, in the Frobenius norm."""
        s = self.singular**2
        total = float(s.sum())
        return (float(s[self.rank :].sum()) / total) ** 0.5 if total > 0 else 0.0


def pod(snapshots: Tensor, choice: Choice) -> Basis:
    """The POD basis of snapshots [n, s]; completed to an orthonormal one where more vectors are asked for
    than the snapshots have directions."""
    u, s, _ = torch.linalg.svd(snapshots, full_matrices=False)
    k = min(choice.count(s), snapshots.shape[0])
    if k > u.shape[1]:
        more = torch.eye(snapshots.shape[0], dtype=u.dtype)
        q, _ = torch.linalg.qr(torch.cat([u, more], 1))
        u = torch.cat([u, q[:, u.shape[1] :]], 1)
    return Basis(u[:, :k].contiguous(), s)


def deim(u: Tensor) -> Tensor:
    """The greedy points of DEIM: each is where the interpolation of the next vector by those before is
    worst."""
    points = [int(u[:, 0].abs().argmax())]
    for k in range(1, u.shape[1]):
        c = torch.linalg.solve(u[points, :k], u[points, k])
        points.append(int((u[:, k] - u[:, :k] @ c).abs().argmax()))
    return torch.tensor(points)


def qdeim(u: Tensor) -> Tensor:
    """The points of Q-DEIM: the pivots of a QR decomposition of U^T. Drmač, Gugercin (2016), SIAM J. Sci.
    Comput. 38(2)."""
    rest, points = u.mT.clone(), list[int]()
    for _ in range(u.shape[1]):
        p = int((rest**2).sum(0).argmax())
        points.append(p)
        q = rest[:, p] / rest[:, p].norm()
        for _ in range(2):  # twice is enough against rounding
            rest = rest - torch.outer(q, q @ rest)
    return torch.tensor(points)


def gappy(u: Tensor, count: int) -> Tensor:
    """`count` points, at least as many as vectors: those of Q-DEIM, then one by one the place whose row lies
    most along the weakest singular direction of the rows so far.

    Gappy POD: Everson, Sirovich (1995), J. Opt. Soc. Am. A 12. Places by the least singular value as in
    Peherstorfer, Drmač, Gugercin (2020), SIAM J. Sci. Comput. 42(5), without their correction for the gap
    between the last two."""
    points = qdeim(u).tolist()
    for _ in range(count - len(points)):
        _, _, right = torch.linalg.svd(u[points])
        weight = (u @ right[-1]) ** 2
        weight[points] = -1.0
        points.append(int(weight.argmax()))
    return torch.tensor(points)


RULES = {"deim": deim, "qdeim": qdeim}


def amplification(u: Tensor, points: Tensor) -> float:
    """||(P^T U)^+||_2."""
    return 1 / float(torch.linalg.svdvals(u[points])[-1])


def interpolation(u: Tensor, points: Tensor) -> Tensor:
    """U (P^T U)^{-1}, [n, m]; with more points than vectors U (P^T U)^+."""
    if len(points) > u.shape[1]:
        fitted: Tensor = u @ torch.linalg.pinv(u[points])
        return fitted
    found: Tensor = torch.linalg.solve(u[points].mT, u.mT)
    return found.mT
