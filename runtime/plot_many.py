"""Figures of very many curves: what is drawn of them, and bundles of the components of one vector.

Eight colours are told apart, and as many names fit beside a panel. The components of a longer vector are thin
curves of one panel, coloured by their index; of more quantities than a page holds, evenly chosen ones are
drawn and the figure says of how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from ndl.runtime.plot_parts import FEW, SHOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]
T = TypeVar("T")

CURVES = 24  # named curves of a figure, in panels of up to eight
PANELS = 8  # panels of an ensemble's figure
COLORMAP = "viridis"


def even(count: int, limit: int) -> list[int]:
    """At most `limit` of `range(count)`, the first and the last among them, evenly apart."""
    if count <= limit:
        return list(range(count))
    return [round(k * (count - 1) / (limit - 1)) for k in range(limit)]


def taken(curves: Mapping[str, T], limit: int) -> tuple[dict[str, T], str]:
    """At most `limit` of the quantities, and what to say of the others."""
    names = list(curves)
    if len(names) <= limit:
        return dict(curves), ""
    return {names[k]: curves[names[k]] for k in even(len(names), limit)}, f"{limit} of {len(names)} shown"


def bundles(values: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Vectors of more components than there are colours, as [times, components], and the other quantities."""
    long = {n: v.reshape(len(v), -1) for n, v in values.items() if v.ndim > 1 and v[0].size > len(FEW)}
    return long, {n: v for n, v in values.items() if n not in long}


def bundle(axes: Axes, t: Array, v: Array, label: str) -> None:
    """The components of a vector, v [times, components]: at most 60 thin curves, coloured by index."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    count = v.shape[1]
    scale = ScalarMappable(Normalize(0, count - 1), colormaps[COLORMAP])
    shades = scale.to_rgba(np.arange(count))
    for k in even(count, SHOWN):
        axes.plot(t, v[:, k], color=shades[k], linewidth=0.7, alpha=0.9)
    figure: Any = axes.get_figure()
    bar = figure.colorbar(scale, ax=axes, pad=0.02, aspect=16, ticks=MaxNLocator(5, integer=True))
    bar.outline.set_linewidth(0.5)
    bar.set_label("component")
    axes.set_ylabel(label)


def note(panels: Sequence[Axes], text: str) -> None:
    """A small remark above the first panel, at its right."""
    if text:
        panels[0].annotate(
            text,
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=6.5,
            annotation_clip=False,
        )
