"""Eigenfunctions of the Laplacian on a mesh, by which random fields there are sums of waves.

With the stiffness matrix A, the consistent mass matrix M and the boundary integral R of
b u v where a condition dn(u) + b u = 0 stands, (A + R) e = mu M e among the nodes that have no given value;
the Laplacian multiplies e by -mu. The e are orthonormal, e' M e = 1 (Boffi 2010, "Finite element
approximation of eigenvalue problems", Acta Numerica 19).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from ndl.compiler.geometry import store
from ndl.compiler.geometry.elements import Elements, Table

MOST = 1024
"""Eigenfunctions that are kept, those of the longest waves."""
DENSE = 4096
"""Unknowns up to which they are found by dense matrices."""
LONGEST = 300
"""Of more unknowns so many are found, by Lanczos' method with a sparse factor."""


def kept_modes(e: Elements, robin: np.ndarray, given: np.ndarray) -> tuple[str, int]:
    """The key under which the store has the `basis` `[N, m]` and `values` `[m]` of a mesh, and m. `robin` are
    the factors b at the points of the boundary `[F, q]`, `given` `[N]` marks nodes of given values."""
    what = hashlib.sha256(robin.tobytes() + given.tobytes()).hexdigest()[:12]
    key = f"modes {e.key} {what}"
    if f"{key} basis" not in store.ARRAYS:
        basis, values = modes(e, robin, given)
        store.ARRAYS[f"{key} basis"], store.ARRAYS[f"{key} values"] = basis, -values
    return key, len(store.ARRAYS[f"{key} values"])


def modes(e: Elements, robin: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(basis `[N, m]`, mu `[m]` in increasing order); 0 at nodes of given values. Of each function the entry
    of largest size is positive."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    cell, n = e.cell, len(e.nodes)
    A = sum(gram(cell, cell.slopes[:, :, d], cell.weights, n) for d in range(cell.slopes.shape[2]))
    A = A + gram(e.facet, e.facet.values, e.facet.weights * robin, n)
    M = gram(cell, cell.values, cell.weights, n)
    free = np.flatnonzero(~given)
    A, M = A.tocsr()[free][:, free], M.tocsr()[free][:, free]
    if len(free) <= DENSE:
        values, vectors = eigh(A.toarray(), M.toarray(), subset_by_index=[0, min(MOST, len(free)) - 1])
    else:
        below = -0.1 * A.diagonal().sum() / M.diagonal().sum() / len(free)  # no eigenvalue: A is not negative
        first = np.random.default_rng(0).normal(size=len(free))
        values, vectors = eigsh(A.tocsc(), LONGEST, M.tocsc(), sigma=below, v0=first)
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(values))])
    basis = np.zeros((n, len(values)))
    basis[free] = vectors
    # a constant has none but rounding, which roots of the map would keep
    return basis, np.where(np.abs(values) < 1e-12 * np.abs(values).max(), 0.0, values)


def gram(table: Table, rows: np.ndarray, weights: np.ndarray, n: int) -> Any:
    """The integrals `[n, n]`, sparse, of the products of two functions of nodes, `rows` `[1 or E, q, k]`
    their values or derivatives at the points of quadrature."""
    from scipy import sparse

    rows = np.broadcast_to(rows, (*weights.shape, table.dofs.shape[1]))
    local = np.einsum("eq,eqi,eqj->eij", weights, rows, rows)
    i = np.broadcast_to(table.dofs[:, :, None], local.shape)
    j = np.broadcast_to(table.dofs[:, None, :], local.shape)
    return sparse.coo_matrix((local.ravel(), (i.ravel(), j.ravel())), shape=(n, n)).tocsr()
