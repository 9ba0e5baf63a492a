"""Boundaries as facets, from which the nearest point of one is looked for, and domains from which points are
drawn: what `distance`, `closest` and `uniform(S)` know of a set."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ndl.compiler.geometry.implicit import Implicit
from ndl.compiler.geometry.loops import bounds, loops
from ndl.compiler.geometry.mesh import Mesh, sizes
from ndl.compiler.geometry.solids import solid_mesh

PARTS = {1: 1, 2: 100, 3: 12}
"""Into how many facets the longest side of a box around a shape would be cut, by the number of coordinates:
the nearest facet is where Newton's method for the nearest point begins."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Facets of a boundary: `corners` `[F, d, d]`, unit `normals` `[F, d]`, `leaf` `[F]` the smooth piece
    on which a facet lies; `sharp` `[F, d]` the corners, and `edges` `[F, 3]` in space the edges between one
    corner and the next, at which pieces meet."""

    corners: np.ndarray
    normals: np.ndarray
    leaf: np.ndarray
    sharp: np.ndarray
    edges: np.ndarray
    size: float
    """The length of a facet, or 0 where facets are the boundary itself."""

    structure: Any = None
    """How the pieces of a shape by a condition bound it (`implicit.py`)."""

    curves: Any = None
    """Of these f, its first and second derivatives, one piece after the other, as a function of a graph."""

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        for a in (self.corners, self.leaf, self.sharp, self.edges):
            digest.update(np.ascontiguousarray(a, np.float64).tobytes())
        digest.update(repr(self.structure).encode())
        return f"boundary {digest.hexdigest()[:16]}"


@dataclass(frozen=True, eq=False)
class Region:
    """A set to draw points from: a box `[d]` from `lower` to `upper`, there where `holds` (points `[n, d]` to
    truth values `[n]`; None: everywhere), or the simplices `corners` `[m, d + 1, d]`."""

    key: str
    lower: np.ndarray
    upper: np.ndarray
    holds: Callable[[np.ndarray], np.ndarray] | None = None
    corners: np.ndarray | None = None


def surface(points: np.ndarray, facets: np.ndarray, leaf: np.ndarray, size: float) -> Surface:
    """Facets `[F, d]` of numbers of points. Where two of one leaf meet they are one smooth piece."""
    d = points.shape[1]
    corners = points[facets]
    if d == 1:
        normals, none = np.ones((len(facets), 1)), np.zeros((len(facets), 0), dtype=bool)
        return Surface(corners, normals, leaf, np.zeros((len(facets), 1), dtype=bool), none, size)
    turned = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) if d == 3 else (
        (corners[:, 1] - corners[:, 0]) @ np.array([[0.0, -1.0], [1.0, 0.0]])
    )  # fmt: skip
    normals = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    pairs = [(i, (i + 1) % 3) for i in range(3)] if d == 3 else [(0,), (1,)]
    ridges = np.stack([np.sort(facets[:, list(p)], axis=1) for p in pairs], 1)
    met: dict[tuple[int, ...], list[int]] = {}
    for f, several in enumerate(ridges.tolist()):
        for r in several:
            met.setdefault(tuple(r), []).append(int(leaf[f]))
    bent = {r for r, own in met.items() if len(own) != 2 or own[0] != own[1]}
    marks = np.array([[tuple(r) in bent for r in several] for several in ridges.tolist()])
    if d == 2:
        return Surface(corners, normals, leaf, marks, np.zeros((len(facets), 0), dtype=bool), size)
    ends = {v for r in bent for v in r}
    sharp = np.array([[v in ends for v in f] for f in facets.tolist()])
    return Surface(corners, normals, leaf, sharp, marks, size)


def of_shape(shape: Implicit) -> Surface:
    """The boundary of a shape by a condition. Raises `ShapeError`."""
    box = bounds(shape)
    size = float((box.upper - box.lower).max()) / PARTS[shape.dimension]
    if shape.dimension == 1:
        from ndl.compiler.geometry.mesher import mesh_of

        mesh = mesh_of(shape, size)
        points, facets = mesh.points, outer(mesh)
    elif shape.dimension == 2:
        edges = loops(shape, size)
        start = np.cumsum([0, *map(len, edges)])
        rings = [np.arange(a, b) for a, b in itertools.pairwise(start)]
        points = np.concatenate(edges)
        facets = np.concatenate([np.stack([r, np.roll(r, -1)], -1) for r in rings])
    else:
        mesh = solid_mesh(shape, size)
        points, facets = mesh.points, outer(mesh)
    found = surface(points, facets, shape.leaf(points[facets].mean(1)), size)
    return replace(found, structure=shape.structure)


def of_box(lower: np.ndarray, upper: np.ndarray) -> Surface:
    """The sides of a box; side 2k is where coordinate k is least, 2k + 1 where it is greatest."""
    d = len(lower)
    points = np.array(list(itertools.product(*zip(lower, upper))))
    number = np.arange(2**d).reshape([2] * d)
    facets, leaf = [], []
    for k in range(d):
        for end in range(2):
            side = np.moveaxis(number, k, 0)[end].reshape(-1)
            parts = {1: [[0]], 2: [[0, 1]], 3: [[0, 1, 3], [0, 3, 2]]}[d]
            facets += [side[p] for p in parts]
            leaf += [2 * k + end] * len(parts)
    return surface(points, np.array(facets), np.array(leaf), 0.0)


def of_mesh(mesh: Mesh) -> Surface:
    """The boundary of a mesh, each facet a piece of its own."""
    facets = outer(mesh)
    return surface(mesh.points, facets, np.arange(len(facets)), 0.0)


def outer(mesh: Mesh) -> np.ndarray:
    """The facets of only one cell `[F, d]`."""
    d = mesh.dimension
    sides = [mesh.cells[:, [i for i in range(d + 1) if i != k]] for k in range(d + 1)]
    facets, count = np.unique(np.sort(np.concatenate(sides), axis=1), axis=0, return_counts=True)
    found: np.ndarray = facets[count == 1]
    return found


def part_of(whole: Surface, kept: np.ndarray) -> Surface:
    """Some of the facets. Their new ends are sharp."""
    chosen = np.flatnonzero(kept)
    flat = whole.corners[chosen].reshape(-1, whole.corners.shape[2])
    points, facets = np.unique(flat, axis=0, return_inverse=True)
    shape = whole.corners[chosen].shape[:2]
    made = surface(points, facets.reshape(shape), whole.leaf[chosen], whole.size)
    return replace(made, structure=whole.structure, curves=whole.curves)


def region_of_mesh(mesh: Mesh) -> Region:
    return Region(
        f"cells {mesh.key}", mesh.points.min(0), mesh.points.max(0), corners=mesh.points[mesh.cells]
    )


def volumes(corners: np.ndarray) -> np.ndarray:
    """The sizes of simplices `[m, d + 1, d]`."""
    m, k, d = corners.shape
    found: np.ndarray = np.abs(sizes(Mesh(corners.reshape(m * k, d), np.arange(m * k).reshape(m, k))))
    return found
