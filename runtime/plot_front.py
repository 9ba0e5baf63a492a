"""The picture of a search for formulas: the best loss of each size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ndl.runtime import plot_parts as parts
from ndl.runtime.evolution import Found
from ndl.runtime.plot_style import color, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def front(fronts: Sequence[Sequence[Found]], chosen: Sequence[Found], least: float = 1e-18) -> Figure:
    """Loss against size, a line for each search, the chosen formula as a dot; losses of 0 are drawn at
    `least`."""
    with styled():
        figure, (axes,) = parts.stacked(1)
        for k, (found, best) in enumerate(zip(fronts, chosen)):
            name = f"result {k}" if len(fronts) > 1 else "front"
            axes.step(
                [f.size for f in found],
                [max(f.loss, least) for f in found],
                where="post",
                color=color(k),
                label=name,
            )
            axes.plot(best.size, max(best.loss, least), "o", color=color(k))
        axes.set_yscale("log")
        axes.set_xlabel("size")
        axes.set_ylabel("loss")
        axes.legend()
    return figure
