"""Arrays seen along axes, and what such views give back.

    view x                -> array      the elements of x in the places of a view, one after the other
    collect x, y, …       -> array      zeros, to which each array is added in the places of its view

The derivative of either is the other one. Together they repeat, permute, cut out, join and sum along axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ndl.compiler.kernels import arrays
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value, array_type
from numpy.typing import NDArray


@dataclass(frozen=True)
class View:
    """Entry (i, j, …), numbered row by row, is the element `offset` + i strides[0] + j strides[1] + …"""

    extents: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @staticmethod
    def of(places: NDArray[Any]) -> View:
        """The view whose places along each axis are apart as the first two are."""
        steps = [
            int(np.take(places, 1, k).flat[0]) - int(np.take(places, 0, k).flat[0]) if n > 1 else 0
            for k, n in enumerate(places.shape)
        ]
        return View(places.shape, tuple(steps), int(places.flat[0]))

    @staticmethod
    def matching(places: NDArray[Any]) -> View | None:
        """The view of these places; None where no view has them."""
        seen = View.of(places) if places.size else None
        return seen if seen is not None and bool((seen.places == places.reshape(-1)).all()) else None

    @property
    def size(self) -> int:
        return math.prod(self.extents)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The element of each entry, in a row."""
        found = np.full(1, self.offset)
        for n, step in zip(self.extents, self.strides):
            found = (found[:, None] + step * np.arange(n)).reshape(-1)
        return found

    @property
    def plain(self) -> View:
        """The same with as few axes as may be."""
        axes: list[tuple[int, int]] = []
        for n, step in zip(self.extents, self.strides):
            if axes and n > 1 and axes[-1][1] == n * step:
                axes[-1] = (axes[-1][0] * n, step)
            elif n > 1:
                axes.append((n, step))
        return View(tuple(n for n, _ in axes), tuple(s for _, s in axes), self.offset)

    def whole(self, extent: int) -> bool:
        """Whether it shows an array of that extent as it is."""
        return self.size == extent and bool((self.places == np.arange(extent)).all())

    def __str__(self) -> str:
        axes = " x ".join(f"{n} by {s}" for n, s in zip(self.extents, self.strides))
        return f"[{self.offset}: {axes}]" if axes else f"[{self.offset}]"


def view(code: Code, x: Value, seen: View) -> Value:
    """The elements of `x` in the places of a view."""
    if seen.whole(arrays.extent(x)):
        return x
    if x in code.packs and seen.size <= len(code.packs[x]):
        return arrays.pack(code, [code.packs[x][i] for i in seen.places])
    return code.pure("view", (x,), array_type(seen.size), (("view", seen.plain),))


def collect(code: Code, parts: Sequence[Value], views: Sequence[View], extent: int) -> Value:
    """Zeros, to which each part is added in the places of its view; one sum of a whole part is a `total`."""
    (first, *more), seen = parts, views[0]
    if not more and seen.whole(extent) and arrays.extent(first) == extent:
        return first
    if not more and extent == 1:
        return arrays.pack(code, [arrays.total(code, first)])
    plain = tuple(v.plain for v in views)
    return code.pure("collect", tuple(parts), array_type(extent), (("views", plain),))


def disjoint(views: Sequence[View]) -> bool:
    """Whether no two places of different entries agree, sums within an entry apart."""
    found = np.concatenate([_apart(v).places for v in views])
    return len(np.unique(found)) == len(found)


def _apart(seen: View) -> View:
    """Without the axes along which all entries have one place."""
    axes = [(n, s) for n, s in zip(seen.extents, seen.strides) if s]
    return View(tuple(n for n, _ in axes), tuple(s for _, s in axes), seen.offset)
