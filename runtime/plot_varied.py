"""The picture of varied trainings: a metric against what was varied, bars for the deviation over runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime import plot_parts as parts
from ndl.runtime.plot_style import color, styled
from ndl.runtime.varied import Varied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


def compared(measure: str, blocks: Sequence[Varied]) -> Figure:
    """A curve for each block, and in it for each combination of what is varied besides the first name; bars
    of a standard deviation. The blocks vary the same names over the same values."""
    first = blocks[0].axes[0]
    curves = [c for b in blocks for c in _curves(measure, b)]
    axis = np.array(first.numbers if first.numbers is not None else range(len(first.labels)), dtype=float)
    with styled():
        figure, (axes,) = parts.stacked(1)
        line = "-" if first.numbers is not None else ""
        shift = _shifts(axis, len(curves))
        for k, (name, mean, deviation) in enumerate(curves):
            axes.errorbar(
                axis + shift[k],
                mean,
                yerr=None if np.isnan(deviation).all() else np.nan_to_num(deviation),
                fmt="o" + line,
                color=color(k),
                markersize=3.2,
                linewidth=1.0,
                elinewidth=0.8,
                capsize=2,
                label=name,
            )
        axes.set_ylabel(measure)
        if first.numbers is None or len(axis) <= 8:
            axes.set_xticks(axis, first.labels)
        if len(curves) > 1:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "fontsize": 6.5}
            axes.legend(**({"loc": "best", "ncols": 1 + len(curves) // 5} if len(curves) <= 8 else beside))
        axes.set_xlabel(first.name)
        figure.align_ylabels([axes])
    return figure


def _curves(measure: str, block: Varied) -> list[tuple[str, Array, Array]]:
    """Name, means and deviations (NaN of one run) along the first varied name."""
    mean, deviation = block.mean[measure].numpy(), block.deviation[measure].numpy()
    found = []
    for place in itertools.product(*(range(len(a.labels)) for a in block.axes[1:])):
        words = [f"{a.name} {a.labels[k]}" for a, k in zip(block.axes[1:], place)]
        at: Any = (slice(None), *place)
        found.append((", ".join([block.name.replace("_", " "), *words]), mean[at], deviation[at]))
    return found


def _shifts(axis: Array, count: int) -> Array:
    """Places beside each other, so that bars of several curves do not hide one another."""
    gap = float(np.min(np.diff(np.sort(axis)))) if len(axis) > 1 else 1.0
    return (np.arange(count) - (count - 1) / 2) * min(0.04, 0.2 / count) * gap
