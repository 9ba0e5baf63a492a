"""Meshes from files, by meshio (extra `mesh`): the simplices of the highest dimension, and what the file
calls parts of their boundary."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ndl.compiler.geometry.elements import MissingPackage
from ndl.compiler.geometry.loops import ShapeError
from ndl.compiler.geometry.mesh import Mesh, oriented

KINDS = ("line", "triangle", "tetra")
"""Names of simplices in meshio, by dimension less one."""


def read(path: Path, dimension: int) -> Mesh:
    """The mesh of a file in so many coordinates. Raises `ShapeError` for what it cannot use,
    `MissingPackage`."""
    try:
        import meshio
    except ImportError:
        raise MissingPackage("meshio") from None
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            found = meshio.read(path)
    except SystemExit:  # what it does with a file that none of its readers takes
        raise ShapeError(f"`{path.name}` is in no format that its ending stands for, or damaged") from None
    except meshio.ReadError as trouble:
        raise ShapeError(f"meshio cannot read `{path.name}`: {trouble}") from None
    points, cells = np.asarray(found.points, np.float64), found.cells_dict
    kind = KINDS[dimension - 1]
    if kind not in cells:
        has = ", ".join(sorted(cells)) or "no cells"
        raise ShapeError(
            f"`{path.name}` has no cells of kind `{kind}` for {dimension} coordinates: it has {has}"
        )
    if np.abs(points[:, dimension:]).max(initial=0.0) > 1e-12 * np.abs(points).max():
        count = points.shape[1]
        raise ShapeError(
            f"the points of `{path.name}` do not lie in the first {dimension} of {count} coordinates"
        )
    facets = "vertex" if dimension == 1 else KINDS[dimension - 2]
    mesh = Mesh(points[:, :dimension], np.asarray(cells[kind], np.int64), _parts(found, facets))
    return oriented(mesh)


def _parts(found: Any, kind: str) -> dict[str, np.ndarray]:
    """The named sets of facets: physical groups of Gmsh, sets of other formats."""
    parts: dict[str, list[np.ndarray]] = {}
    for block, cells in enumerate(found.cells):
        if cells.type != kind:
            continue
        data = np.asarray(cells.data, np.int64)
        if "gmsh:physical" in found.cell_data:
            tags = np.asarray(found.cell_data["gmsh:physical"][block])
            for name, (tag, _) in found.field_data.items():
                if (tags == tag).any():
                    parts.setdefault(name, []).append(data[tags == tag])
        for name, blocks in found.cell_sets.items():
            chosen = blocks[block]
            if chosen is not None and len(chosen) and not name.startswith("gmsh:"):
                parts.setdefault(name, []).append(data[np.asarray(chosen, np.int64)])
    return {name: np.concatenate(several) for name, several in parts.items()}
