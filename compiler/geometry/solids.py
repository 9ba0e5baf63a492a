"""Meshes of shapes in space: a body-centred cubic lattice whose points near the boundary are moved onto it
and whose tetrahedra are cut there (isosurface stuffing: Labelle and Shewchuk, 2007, ACM Trans. Graph. 26(3),
article 57). The nodes on the boundary lie on it to rounding; edges of the shape itself are cut off by at most
a cell."""

from __future__ import annotations

import numpy as np
from ndl.compiler.geometry.loops import Points, Shape, ShapeError, bounds
from ndl.compiler.geometry.mesh import Mesh, oriented

NEAR_LONG, NEAR_SHORT = 0.24999, 0.41189
"""The part of an edge along an axis, or of another one, within which a crossing moves the end there: with
these no tetrahedron turns over (Labelle and Shewchuk, section 4)."""

Corners = tuple[int, ...]

MOST = 4_000_000
"""Points of a lattice, at most."""


def solid_mesh(shape: Shape, size: float) -> Mesh:
    """Tetrahedra with edges about `size` long. Raises `ShapeError` where none are found."""
    box = bounds(shape)
    points, cells = lattice(box.lower - 1.5 * size, box.upper + 1.5 * size, size)
    inside = shape.level(points) < 0
    kept = inside[cells].any(1)
    if not kept.any():
        raise ShapeError(f"it is smaller than the size {size:g} of its mesh")
    used, cells = np.unique(cells[kept], return_inverse=True)
    points, cells = points[used], cells.reshape(-1, 4)
    sign = np.where(inside[used], -1, 1)
    edges = _edges(cells)
    points, sign = _snapped(shape, points, sign, edges, size)
    return oriented(_cut(shape, points, sign, cells, edges))


def lattice(lower: Points, upper: Points, size: float) -> tuple[Points, np.ndarray]:
    """The tetrahedra of a body-centred cubic lattice: each has an edge between two corners of cubes, and one
    across between the middles of two cubes that share a face."""
    counts = np.ceil((upper - lower) / size).astype(int) + 1
    if counts.astype(float).prod() > MOST:
        raise ShapeError(f"a mesh of size {size:g} has too many cells")
    corner = np.arange(counts.prod()).reshape(counts)
    middle = corner.size + np.arange((counts - 1).prod()).reshape(counts - 1)
    corners = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3)
    middles = np.stack(np.meshgrid(*map(np.arange, counts - 1), indexing="ij"), -1).reshape(-1, 3) + 0.5
    found = []
    for axis in range(3):
        a, b = np.moveaxis(middle, axis, 0)[:-1], np.moveaxis(middle, axis, 0)[1:]
        # the face between these two cubes has four corners in turn
        face = np.moveaxis(corner, axis, 0)[1:-1]
        around = [face[:, :-1, :-1], face[:, 1:, :-1], face[:, 1:, 1:], face[:, :-1, 1:]]
        for k in range(4):
            found.append(np.stack([a, b, around[k], around[(k + 1) % 4]], -1).reshape(-1, 4))
    places = np.concatenate([corners, middles]) * size + lower
    return places, np.concatenate(found)


def _edges(cells: np.ndarray) -> np.ndarray:
    """Each edge once, `[m, 2]`, the lower number first."""
    pairs = [cells[:, [i, j]] for i in range(4) for j in range(i + 1, 4)]
    found: np.ndarray = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
    return found


def _crossings(shape: Shape, a: Points, b: Points) -> np.ndarray:
    """The part of the way from a, inside, to b at which the boundary is crossed, by halving."""
    low, high = np.zeros(len(a)), np.ones(len(a))
    for _ in range(50):
        middle = (low + high) / 2
        inside = shape.level(a + middle[:, None] * (b - a)) < 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return (low + high) / 2


def _snapped(
    shape: Shape, points: Points, sign: np.ndarray, edges: np.ndarray, size: float
) -> tuple[Points, np.ndarray]:
    """Points with a crossing nearby moved to the nearest one; their sign is 0."""
    crossed = edges[sign[edges[:, 0]] != sign[edges[:, 1]]]
    first = np.where(sign[crossed[:, 0]] < 0, crossed[:, 0], crossed[:, 1])
    second = crossed.sum(1) - first
    part = _crossings(shape, points[first], points[second])
    places = points[first] + part[:, None] * (points[second] - points[first])
    length = np.linalg.norm(points[second] - points[first], axis=1)
    near = np.where(length > 0.95 * size, NEAR_LONG, NEAR_SHORT)
    ends = np.concatenate([first, second])
    away = np.concatenate([part, 1 - part])
    close = np.flatnonzero(away < np.tile(near, 2))
    order = close[np.argsort(-(away * np.tile(length, 2))[close], kind="stable")]
    points, sign = points.copy(), sign.copy()
    points[ends[order]] = np.tile(places, (2, 1))[order]  # of several the last one, the nearest
    sign[ends[order]] = 0
    return points, sign


def _cut(shape: Shape, points: Points, sign: np.ndarray, cells: np.ndarray, edges: np.ndarray) -> Mesh:
    """The parts of the cells that lie inside. Faces of two cells are cut alike: a quadrilateral from the
    point inside with the lower number."""
    crossed = edges[sign[edges[:, 0]] * sign[edges[:, 1]] < 0]
    first = np.where(sign[crossed[:, 0]] < 0, crossed[:, 0], crossed[:, 1])
    second = crossed.sum(1) - first
    part = _crossings(shape, points[first], points[second])[:, None]
    new = points[first] + part * (points[second] - points[first])
    number = {(int(a), int(b)): len(points) + k for k, (a, b) in enumerate(zip(first, second))}
    points = np.concatenate([points, new])
    # inside first, each group by number
    order = np.lexsort((cells, sign[cells]), axis=1)
    cells = np.take_along_axis(cells, order, 1)
    signs = sign[cells]
    low, zero, high = ((signs == s).sum(1) for s in (-1, 0, 1))
    whole = (high == 0) & (low > 0)
    flat = np.flatnonzero(zero == 4)
    if len(flat):
        whole[flat] = shape.level(points[cells[flat]].mean(1)) < 0
    found = [cells[whole]]
    parts: list[Corners] = []
    for cell, n, z in zip(*(a[(low > 0) & (high > 0)] for a in (cells, low, zero))):
        parts += _inner(tuple(map(int, cell)), int(n), int(z), number)
    found.append(np.array(parts, dtype=np.int64).reshape(-1, 4))
    return Mesh(points, np.concatenate(found))


def _inner(cell: Corners, low: int, zero: int, cut: dict[tuple[int, int], int]) -> list[Corners]:
    """The tetrahedra of a cell inside, its corners in the order inside, on the boundary, outside."""
    inner, edge, outer = cell[:low], cell[low : low + zero], cell[low + zero :]
    if low == 1:
        return [(inner[0], *edge, *(cut[inner[0], p] for p in outer))]
    if low == 2 and zero == 1:
        (a, b), (z,), (p,) = inner, edge, outer
        return [(a, b, cut[b, p], z), (a, cut[b, p], cut[a, p], z)]
    if low == 2:
        (a, b), (p, q) = inner, outer
        return _prism((a, cut[a, p], cut[a, q]), (b, cut[b, p], cut[b, q]))
    (p,) = outer
    return _prism(inner, tuple(cut[a, p] for a in inner))


def _prism(a: Corners, b: Corners) -> list[Corners]:
    """A prism between two triangles; its sides are cut from the earlier corner of `a`."""
    return [(a[0], a[1], a[2], b[2]), (a[0], a[1], b[1], b[2]), (a[0], b[0], b[1], b[2])]


__all__ = ["lattice", "solid_mesh"]
