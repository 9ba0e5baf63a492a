"""Fields on meshes, with any leading batch axes: values and derivatives at points of quadrature, sums over
the functions of the nodes, and mass matrices.

Generated code names a mesh by a key; `register` says what it is. Tables have the shapes of
`ndl.compiler.geometry.elements`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ndl.runtime.errors import RunError
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Place:
    """Points of quadrature in cells or on facets: `dofs` `[E, k]`, `values` `[1 or E, q, k]`, `slopes`
    `[E, q, d, k]`, `weights` `[E, q]`."""

    dofs: Tensor
    values: Tensor
    slopes: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class MeshTables:
    """A mesh: `nodes` `[N, d]`, `points` `[n, d]`, `cells` `[m, d + 1]`, and its places by name."""

    key: str
    nodes: np.ndarray
    points: np.ndarray
    cells: np.ndarray
    places: Mapping[str, Place]
    on: dict[Any, Any] = field(default_factory=dict)
    """What was made of the tables for a device and precision."""

    def rows(self, place: str, slope: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The nodes `[E, k]` and rows `[1 or E, q, k]` of values or of derivatives."""
        wide = like.dtype if not like.is_complex() else like.real.dtype
        key = place, slope, wide, like.device
        if key not in self.on:
            table = self.places[place]
            rows = table.values if slope < 0 else table.slopes[:, :, slope]
            self.on[key] = table.dofs.to(like.device), rows.to(device=like.device, dtype=wide)
        found: tuple[Tensor, Tensor] = self.on[key]
        return found

    @property
    def corners(self) -> np.ndarray:
        """Cells between nodes `[., d + 1]`: triangles of order 2 as four, others by their corners."""
        dofs = self.places["cell"].dofs.numpy()
        if dofs.shape[1] != 6:
            return dofs[:, : self.cells.shape[1]]
        return np.concatenate([dofs[:, list(part)] for part in ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))])

    def pattern(self, reach: int) -> tuple[Any, np.ndarray]:
        """Which nodes `[N, N]` lie so many cells apart (-1: all), as a sparse matrix, and colours `[N]` of
        the nodes such that no row has two of one colour."""
        if reach not in self.on:
            from scipy import sparse

            N, dofs = len(self.nodes), self.places["cell"].dofs.numpy()
            if reach < 0:
                self.on[reach] = sparse.csr_matrix(np.ones((N, N))), np.arange(N)
            else:
                cells = np.repeat(np.arange(len(dofs)), dofs.shape[1])
                in_cell = sparse.csr_matrix((np.ones(dofs.size), (dofs.ravel(), cells)))
                near = in_cell @ in_cell.T
                whole = sparse.identity(N, format="csr")
                for _ in range(reach):
                    whole = whole @ near
                    whole.data[:] = 1.0
                self.on[reach] = whole.tocsr(), coloured(whole.T @ whole)
        found: tuple[Any, np.ndarray] = self.on[reach]
        return found


def coloured(graph: Any) -> np.ndarray:
    """A colour for each vertex that no neighbour has, in order of their numbers."""
    graph = graph.tocsr()
    found = np.full(graph.shape[0], -1)
    for v in range(len(found)):
        taken = set(found[graph.indices[graph.indptr[v] : graph.indptr[v + 1]]].tolist())
        colour = 0
        while colour in taken:
            colour += 1
        found[v] = colour
    return found


MESHES: dict[str, MeshTables] = {}
ARRAYS: dict[str, Tensor] = {}


def register(elements: Any) -> None:
    """Tables that generated code names, as `ndl.compiler.geometry.elements.Elements` has them."""
    if elements.key in MESHES:
        return
    places = {}
    for name in ("cell", "facet"):
        table = getattr(elements, name)
        arrays = (table.dofs, table.values, table.slopes, table.weights)
        places[name] = Place(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
    MESHES[elements.key] = MeshTables(
        elements.key, elements.nodes, elements.mesh.points, elements.mesh.cells, places
    )


def register_array(key: str, values: np.ndarray) -> None:
    if key not in ARRAYS:
        ARRAYS[key] = torch.from_numpy(np.array(values, dtype=np.float64))


def _known(table: Mapping[str, Any], key: str) -> Any:
    if key not in table:
        raise RunError(
            f"this module was made for the mesh `{key}`, which is not loaded",
            help="run the `.ndl` file that it was made from",
        )
    return table[key]


def tables(key: str) -> MeshTables:
    """A mesh by its key."""
    found: MeshTables = _known(MESHES, key)
    return found


def mesh_data(key: str) -> Tensor:
    """A constant vector."""
    found: Tensor = _known(ARRAYS, key).clone()
    return found


def mesh_index(key: str) -> Tensor:
    """A constant vector of whole numbers."""
    return mesh_data(key).long()


def register_points(key: str, points: np.ndarray) -> None:
    """A set of points as a mesh without cells."""
    if key not in MESHES:
        none = np.zeros((0, points.shape[1] + 1), dtype=np.int64)
        MESHES[key] = MeshTables(key, points, points, none, {})


def mesh_apply(
    x: Tensor, axis: int, *, mesh: str, place: str, slope: int, transposed: bool = False
) -> Tensor:
    """Values (`slope` -1) or derivatives of a field at the points of a place along `axis`; transposed, from
    the points to the nodes."""
    tables: MeshTables = _known(MESHES, mesh)
    x = (x if x.is_floating_point() or x.is_complex() else x.double()).movedim(axis, -1)
    dofs, rows = tables.rows(place, slope, x)
    (E, k), q = dofs.shape, rows.shape[1]
    if x.is_complex():
        rows = rows.to(x.dtype)
    if transposed:
        shares = (x.reshape(*x.shape[:-1], E, 1, q) @ rows).reshape(*x.shape[:-1], E * k)
        found = x.new_zeros((*x.shape[:-1], len(tables.nodes))).index_add(-1, dofs.reshape(-1), shares)
    else:
        own = x[..., dofs.reshape(-1)].reshape(*x.shape[:-1], E, k, 1)
        found = (rows @ own).reshape(*x.shape[:-1], E * q)
    return found.movedim(-1, axis)


# ---------------------------------------------------------------- at any place


def mesh_cardinal(p: Tensor, *, mesh: str, by: tuple[int, ...]) -> Tensor:
    """The functions of the nodes at places `[…, d]`, differentiated by the coordinates `by`: `[…, N]`. Beyond
    the mesh those of the cell go on whose least barycentric coordinate is greatest."""
    p = p if p.is_floating_point() else p.double()
    found: Tensor = _Cardinal.apply(p, mesh, by)  # type: ignore[no-untyped-call]
    return found


class _Cardinal(torch.autograd.Function):
    """The derivative by p is that of one coordinate more, at the faces of cells from one side."""

    @staticmethod
    def forward(p: Tensor, mesh: str, by: tuple[int, ...]) -> Tensor:
        return node_functions(p, tables(mesh), by)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, ctx.mesh, ctx.by = inputs
        ctx.save_for_backward(p)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (p,) = ctx.saved_tensors
        slopes = [(g * mesh_cardinal(p, mesh=ctx.mesh, by=(*ctx.by, k))).sum(-1) for k in range(p.shape[-1])]
        return torch.stack(slopes, -1), None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], p: Tensor, mesh: str, by: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        return _Cardinal.apply(p.movedim(in_dims[0], 0), mesh, by), 0  # type: ignore[no-untyped-call]


def node_functions(p: Tensor, mesh: MeshTables, by: tuple[int, ...]) -> Tensor:
    d, dofs = p.shape[-1], mesh.places["cell"].dofs.to(p.device)
    A, own = _barycentric(mesh, p)
    flat = torch.cat([torch.ones_like(p[..., :1]), p], -1).reshape(-1, d + 1).to(torch.float64)
    cells = torch.cat([torch.einsum("eij,nj->nei", A, part).amin(-1).argmax(1) for part in flat.split(256)])  # type: ignore[no-untyped-call]
    at = torch.einsum("nij,nj->ni", A[cells], flat)[:, own]  # [n, k, 2]
    G = A[cells][:, :, 1:][:, own]  # [n, k, 2, d]
    corner = (own[:, 0] == own[:, 1]).to(torch.float64)
    if dofs.shape[1] == d + 1:
        zero = torch.zeros_like(at[..., 0])
        rows = at[..., 0] if not by else G[:, :, 0, by[0]] if len(by) == 1 else zero
    else:
        rows = _quadratic(at, G, 4 - 2 * corner, corner, by)
    found = rows.new_zeros(len(flat), len(mesh.nodes)).scatter(1, dofs[cells], rows)
    return found.reshape(*p.shape[:-1], len(mesh.nodes)).to(p)


def _quadratic(at: Tensor, G: Tensor, weight: Tensor, less: Tensor, by: tuple[int, ...]) -> Tensor:
    """weight*l*l' - less*l of two barycentric coordinates, or a derivative."""
    (a, b), (g, h) = at.unbind(-1), G.unbind(2)
    if not by:
        return weight * a * b - less * a
    if len(by) == 1:
        return weight * (g[..., by[0]] * b + a * h[..., by[0]]) - less * g[..., by[0]]
    if len(by) == 2:
        return weight * (g[..., by[0]] * h[..., by[1]] + g[..., by[1]] * h[..., by[0]])
    return torch.zeros_like(a)


def _barycentric(mesh: MeshTables, like: Tensor) -> tuple[Tensor, Tensor]:
    """Of each cell the matrix from (1, x) to barycentric coordinates `[E, d + 1, d + 1]`, and the corners
    between which each node of a cell lies, `[k, 2]`, the same one twice for a corner."""
    key = "barycentric", like.device
    if key not in mesh.on:
        corners = mesh.points[mesh.cells]
        A = np.linalg.inv(np.concatenate([np.ones((*corners.shape[:2], 1)), corners], 2).transpose(0, 2, 1))
        nodes = mesh.nodes[mesh.places["cell"].dofs[0].numpy()]
        at = np.concatenate([np.ones((len(nodes), 1)), nodes], 1) @ A[0].T
        own = [np.flatnonzero(row > 0.25)[[0, -1]] for row in at]
        mesh.on[key] = torch.from_numpy(A).to(like.device), torch.from_numpy(np.array(own)).to(like.device)
    found: tuple[Tensor, Tensor] = mesh.on[key]
    return found


# ---------------------------------------------------------------- mass matrices


def mesh_solve(x: Tensor, axis: int, *, mesh: str, free: str) -> Tensor:
    """M^-1 x among the free nodes, 0 at others."""
    found: Tensor = _Mass.apply(x.movedim(axis, -1), mesh, free)  # type: ignore[no-untyped-call]
    return found.movedim(-1, axis)


class _Mass(torch.autograd.Function):
    """A symmetric linear map: its derivatives in both directions are itself."""

    @staticmethod
    def forward(x: Tensor, mesh: str, free: str) -> Tensor:
        if len(tables(mesh).nodes) > DENSE:
            return chebyshev_iteration(x, mesh, free)
        found: Tensor = x @ _inverse(tables(mesh), free, x).to(x.dtype)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.mesh, ctx.free = inputs

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Mass.apply(g, ctx.mesh, ctx.free), None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Tensor:  # type: ignore[override]
        found: Tensor = _Mass.apply(dx, ctx.mesh, ctx.free)  # type: ignore[no-untyped-call]
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, mesh: str, free: str) -> tuple[Tensor, int]:
        return _Mass.apply(x.movedim(in_dims[0], 0), mesh, free), 0  # type: ignore[no-untyped-call]


DENSE = 1024
"""Nodes up to which the inverse of a mass matrix is kept."""


def _inverse(mesh: MeshTables, free: str, like: Tensor) -> Tensor:
    """M^-1 among the free nodes, 0 elsewhere, `[N, N]`."""
    wide = like.real.dtype if like.is_complex() else like.dtype
    key = "inverse", free, wide, like.device
    if key not in mesh.on:
        place, kept = mesh.places["cell"], _known(ARRAYS, free).bool()
        values = place.values.expand(len(place.dofs), -1, -1)
        own = torch.einsum("eq,eqi,eqj->eij", place.weights, values, values)
        M = own.new_zeros(len(mesh.nodes), len(mesh.nodes))
        M.index_put_((place.dofs[:, :, None], place.dofs[:, None, :]), own, accumulate=True)
        found = torch.zeros_like(M)
        found[kept[:, None] & kept[None, :]] = torch.linalg.inv(M[kept][:, kept]).reshape(-1)
        mesh.on[key] = found.to(device=like.device, dtype=wide)
    made: Tensor = mesh.on[key]
    return made


def chebyshev_iteration(b: Tensor, mesh: str, free: str) -> Tensor:
    """M^-1 b by Chebyshev's semi-iteration with the diagonal D as preconditioner, to nearly full precision in
    a fixed number of steps: the eigenvalues of D^-1 M lie between the extreme ones of the cells (Wathen,
    1987, IMA J. Numer. Anal. 7, 449–457; Wathen and Rees, 2009, ETNA 34, 125–135)."""
    tables: MeshTables = _known(MESHES, mesh)
    kept, diagonal, weights, (low, high) = _mass_parts(tables, free, b)
    digits = torch.finfo(b.dtype).eps
    ratio = (high / low) ** 0.5
    count = int(np.ceil(np.log(digits / 8) / np.log((ratio - 1) / (ratio + 1))))
    center, half = (high + low) / 2, (high - low) / 2

    def M(v: Tensor) -> Tensor:
        at = mesh_apply(v, -1, mesh=mesh, place="cell", slope=-1)
        return kept * mesh_apply(weights * at, -1, mesh=mesh, place="cell", slope=-1, transposed=True)

    b = kept * b
    x = torch.zeros_like(b)
    r, alpha, p = b, 0.0, x
    for k in range(count):
        z = r / diagonal
        if k == 0:
            p, alpha = z, 1 / center
        else:
            beta = (half * alpha / 2) ** 2 * (2.0 if k == 1 else 1.0)
            alpha = 1 / (center - beta / alpha)
            p = z + beta * p
        x = x + alpha * p
        r = r - alpha * M(p)
    return x


def mass_matrix(key: str, each: int) -> Any:
    """The mass matrix of a mesh for fields of `each` numbers, a sparse matrix."""
    import scipy.sparse as sparse

    mesh = tables(key)
    cell = mesh.places["cell"]
    dofs, values, weights = (a.numpy() for a in (cell.dofs, cell.values, cell.weights))
    local = np.einsum(
        "eq,eqi,eqj->eij", weights, *[np.broadcast_to(values, (len(dofs), *values.shape[1:]))] * 2
    )
    rows, columns = np.broadcast_arrays(dofs[:, :, None], dofs[:, None, :])
    n = len(mesh.nodes)
    M = sparse.csr_matrix((local.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n))
    return M if each == 1 else sparse.kron(M, sparse.identity(each)).tocsr()


def _mass_parts(
    tables: MeshTables, free: str, like: Tensor
) -> tuple[Tensor, Tensor, Tensor, tuple[float, float]]:
    """The marks of free nodes, the diagonal, the weights of quadrature, and bounds of the eigenvalues."""
    key = "mass", free, like.dtype, like.device
    if key not in tables.on:
        place = tables.places["cell"]
        values = place.values.expand(len(place.dofs), -1, -1)
        own = torch.einsum("eq,eqi,eqj->eij", place.weights, values, values)
        shares = own.diagonal(dim1=1, dim2=2)
        diagonal = own.new_zeros(len(tables.nodes)).index_add(0, place.dofs.reshape(-1), shares.reshape(-1))
        scaled = own / (shares[:, :, None] * shares[:, None, :]) ** 0.5
        modes = torch.linalg.eigvalsh(scaled)
        bounds = float(modes.min()) * 0.999, float(modes.max()) * 1.001
        wide = like.real.dtype if like.is_complex() else like.dtype
        arrays = (_known(ARRAYS, free), diagonal, place.weights.reshape(-1))
        tables.on[key] = (*(a.to(device=like.device, dtype=wide) for a in arrays), bounds)
    found: tuple[Tensor, Tensor, Tensor, tuple[float, float]] = tables.on[key]
    return found
