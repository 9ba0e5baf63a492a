"""Tables of Lagrange elements on a mesh: what a field and its derivatives are at points of quadrature.

`scikit-fem` makes them (extra `fem`). A table belongs to a `place`: `cell` has the points of quadrature
inside the cells, `facet` those on the boundary. With N nodes, E cells or facets, q points in each and k nodes
of a cell:

dofs     [E, k]        the nodes that a cell has, or the cell behind a facet
values   [E, q, k]     their functions at the points (one row for all cells where they are the same)
slopes   [E, q, d, k]  the derivatives
weights  [E, q]        of quadrature
points   [E, q, d]
normals  [E, q, d]     on facets
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ndl.compiler.geometry.mesh import Mesh


class MissingPackage(Exception):
    """scikit-fem or meshio is not installed."""


def library() -> Any:
    try:
        import skfem
    except ImportError:
        raise MissingPackage("scikit-fem") from None
    return skfem


@dataclass(frozen=True, eq=False)
class Table:
    """One place; see the module."""

    dofs: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    normals: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Elements:
    """The tables of one mesh; `nodes` `[N, d]` are the places of the unknowns."""

    mesh: Mesh
    order: int
    nodes: np.ndarray
    cell: Table
    facet: Table
    facets: np.ndarray
    """Of each facet on the boundary its corners `[F, d]`, in the order of `facet`."""

    facet_dofs: np.ndarray
    """The nodes on each facet `[F, m]`."""

    @property
    def key(self) -> str:
        return f"{self.mesh.key}-{self.order}"

    @cached_property
    def middles(self) -> np.ndarray:
        """The middle of each facet `[F, d]`."""
        found: np.ndarray = self.mesh.points[self.facets].mean(1)
        return found

    @cached_property
    def lumped(self) -> np.ndarray:
        """The integral of each node's function `[N]`."""
        t = self.cell
        shares = np.einsum(
            "eq,eqk->ek", t.weights, np.broadcast_to(t.values, (*t.weights.shape, t.dofs.shape[1]))
        )
        return np.bincount(t.dofs.ravel(), shares.ravel(), len(self.nodes))


def elements(mesh: Mesh, order: int) -> Elements:
    """The tables of elements of order 1 or 2. Raises `MissingPackage`."""
    skfem = library()
    kind = {1: "Line", 2: "Tri", 3: "Tet"}[mesh.dimension]
    element = getattr(skfem, f"Element{kind}P{order}")()
    grid = getattr(skfem, f"Mesh{kind}1")(
        np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.cells.T), sort_t=False
    )
    inside = skfem.Basis(grid, element, intorder=2 * order)
    border = skfem.FacetBasis(grid, element, intorder=2 * order)
    corners = np.sort(grid.facets[:, border.find].T, axis=1)
    return Elements(
        mesh,
        order,
        np.ascontiguousarray(inside.doflocs.T),
        _table(inside, shared=True),
        _table(border, np.asarray(border.normals)),
        corners,
        _on_facets(grid, inside, border.find),
    )


def _table(basis: Any, normals: np.ndarray | None = None, shared: bool = False) -> Table:
    k = basis.element_dofs.shape[0]
    values = np.stack([np.asarray(basis.basis[i][0]) for i in range(k)], -1)
    slopes = np.stack([np.asarray(basis.basis[i][0].grad) for i in range(k)], -1)
    points = np.asarray(basis.global_coordinates())
    return Table(
        np.ascontiguousarray(basis.element_dofs.T).astype(np.int64),
        values[:1] if shared else values,
        np.ascontiguousarray(np.moveaxis(slopes, 0, 2)),
        np.asarray(basis.dx),
        np.ascontiguousarray(np.moveaxis(points, 0, -1)),
        None if normals is None else np.ascontiguousarray(np.moveaxis(normals, 0, -1)),
    )


def _on_facets(grid: Any, basis: Any, facets: np.ndarray) -> np.ndarray:
    """The nodes on each facet: of its corners and, of order 2, its edges or its middle."""
    found = [np.asarray(basis.get_dofs(facets=np.array([f])).flatten()) for f in facets]
    return np.stack(found)
