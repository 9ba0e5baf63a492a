"""The entries of the op table, a file per family; importing this package fills the table."""

from ndl.compiler.ops.families import (
    batch,
    calls,
    contraction,
    elementwise,
    fields,
    interpolation,
    linalg,
    logic,
    meshes,
    modes,
    reduction,
    shape,
    sources,
    unary,
    waves,
    windows,
)

__all__ = [
    "batch",
    "calls",
    "contraction",
    "elementwise",
    "fields",
    "interpolation",
    "linalg",
    "logic",
    "meshes",
    "modes",
    "reduction",
    "shape",
    "sources",
    "unary",
    "waves",
    "windows",
]
