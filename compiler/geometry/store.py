"""The meshes, boundaries, sets and arrays that lowered models name, by keys that tell their contents.

A graph has numbers and names as attributes, no arrays. What a key means never changes, so the tables are kept
for the process."""

from __future__ import annotations

import hashlib

import numpy as np
from ndl.compiler.geometry.elements import Elements
from ndl.compiler.geometry.surfaces import Region, Surface

MESHES: dict[str, Elements] = {}
ARRAYS: dict[str, np.ndarray] = {}
SURFACES: dict[str, Surface] = {}
REGIONS: dict[str, Region] = {}


def keep(elements: Elements) -> str:
    """The key of the tables of a mesh."""
    return MESHES.setdefault(elements.key, elements).key


POINTS: dict[str, np.ndarray] = {}


def cloud(label: str, points: np.ndarray) -> str:
    """The key of a set of points `[n, d]`."""
    key = f"points {label} {hashlib.sha256(points.tobytes()).hexdigest()[:12]}"
    POINTS.setdefault(key, points)
    return key


def named(label: str, values: np.ndarray) -> str:
    """The key of a constant vector; the label is for readers."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    key = f"{label} {hashlib.sha256(values.tobytes()).hexdigest()[:12]}"
    ARRAYS.setdefault(key, values)
    return key
