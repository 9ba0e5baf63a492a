"""Pieces that figures are made of: panels, ensembles, dots, labels at the ends of curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime.plot_style import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

FEW = range(8)  # members that are told apart by colour
SHOWN = 60  # members drawn as thin lines
LIKE = 12.0  # quantities whose ranges differ by less share a panel
WIDTH, HEIGHT = 4.4, 2.5


def stacked(count: int, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Panels above each other with one time axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    each = height if count == 1 else height * 0.68
    figure = Figure(figsize=(width, each * count + (0.0 if count == 1 else 0.35)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    return figure, list(panels)


def grid(count: int, columns: int, width: float) -> tuple[Figure, list[Axes]]:
    """Panels in rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(width, max(2.1, width / columns * 0.78) * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def finish(figure: Figure, panels: Sequence[Axes], x_label: str | None, title: str) -> None:
    """The label of the shared axis, the title, and y labels that line up."""
    from matplotlib.ticker import AutoLocator, MaxNLocator, ScalarFormatter

    if x_label is not None:
        panels[-1].set_xlabel(x_label)
    if title:
        panels[0].set_title(title)
    for axes in panels:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_locator(), AutoLocator):
                axis.set_major_locator(MaxNLocator(7 if axis is axes.xaxis else 6, steps=[1, 2, 5, 10]))
            formatter = axis.get_major_formatter()
            if isinstance(formatter, ScalarFormatter):
                formatter.set_useOffset(False)
    figure.align_ylabels(list(panels))


def alike(curves: Mapping[str, Array], units: Mapping[str, str]) -> list[list[str]]:
    """Names in groups that can share an axis: one unit, ranges within a factor, and at most eight."""
    groups: list[list[str]] = []
    for name, v in curves.items():
        size = _size(v)
        for group in groups:
            sizes = [_size(curves[n]) for n in group]
            near = max(*sizes, size) <= LIKE * min(*sizes, size)
            if near and units.get(name) == units.get(group[0]) and len(group) < len(FEW):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _size(v: Array) -> float:
    """The largest magnitude, or the range if that is larger; something above 0."""
    kept = v[np.isfinite(v)]
    return max(float(np.max(np.abs(kept))), 1e-300) if len(kept) else 1e-300


def members(axes: Axes, t: Array, v: Array, shade: str, valid: Any) -> None:
    """An ensemble of one quantity, v [members, times]; t [times] or [members, times]."""
    count = len(v)
    own = [t[i] if t.ndim == 2 else t for i in range(count)]
    keep = [valid[i] if valid is not None else np.ones(len(own[i]), dtype=bool) for i in range(count)]
    chosen = range(count) if count <= SHOWN else np.linspace(0, count - 1, SHOWN).astype(int)
    many = count > len(FEW)
    for i in chosen:
        axes.plot(
            own[i][keep[i]],
            v[i][keep[i]],
            color=FAINT if many else shade,
            linewidth=0.5 if many else 0.9,
            alpha=0.55 if many else 0.8,
            zorder=1,
        )
    if not many:
        return
    common = t if t.ndim == 1 else np.unique(np.concatenate([o[k] for o, k in zip(own, keep)]))
    common = common if len(common) <= 400 else np.linspace(common[0], common[-1], 400)
    rows = np.array(
        [
            np.interp(common, own[i][keep[i]], v[i][keep[i]], right=np.nan)
            for i in range(count)
            if keep[i].any()
        ]
    )
    alive = np.isfinite(rows).any(0)
    low, middle, high = np.nanquantile(rows[:, alive], [0.05, 0.5, 0.95], axis=0)
    axes.fill_between(common[alive], low, high, color=shade, alpha=0.2, linewidth=0, zorder=2, label="5–95 %")
    axes.plot(common[alive], middle, color=shade, zorder=3, label="median")
    place = axes.get_subplotspec()
    if place is not None and place.is_first_row():
        axes.legend(loc="best", ncols=2)


def dots(axes: Axes, t: Array, v: Array, shade: str, hollow: bool = False) -> None:
    """Measurements; missing ones are left out."""
    there = np.isfinite(v)
    size = 3.6 if there.sum() <= 80 else 2.0
    face = "white" if hollow else shade
    axes.plot(
        t[there],
        v[there],
        "o",
        color=shade,
        markerfacecolor=face,
        markersize=size,
        markeredgewidth=0.7,
        zorder=3,
    )


def key(axes: Axes, words: Sequence[str]) -> None:
    """What dots and lines mean, in a neutral colour."""
    from matplotlib.lines import Line2D

    made = {
        "data": Line2D([], [], color=INK, marker="o", linestyle="", markersize=3.6),
        "fit": Line2D([], [], color=INK),
        "held out": Line2D(
            [], [], color=INK, marker="o", linestyle="", markersize=3.6, markerfacecolor="white"
        ),
    }
    axes.legend(
        [made[w] for w in words],
        list(words),
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        borderaxespad=0.1,
    )


def name_curves(axes: Axes, names: Sequence[str], labels: Any) -> None:
    """One curve is named on the axis; several at their right ends, moved apart where they would touch."""
    if len(names) == 1:
        axes.set_ylabel(labels.axis(names[0]))
        return
    unit = labels.units.get(names[0])
    if unit:
        axes.set_ylabel(unit)
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    low, high = axes.get_ylim()
    figure: Any = axes.get_figure()
    height = figure.get_figheight() / max(1, len(figure.axes))
    gap = 0.16 / height
    ends = []
    for line in lines:
        y = np.asarray(line.get_ydata(), dtype=float)
        kept = y[np.isfinite(y)]
        ends.append((float(kept[-1]) - low) / (high - low) if len(kept) else 0.5)
    for line, place in zip(lines, spread(ends, gap)):
        axes.annotate(
            str(line.get_label()),
            (1.0, place),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            annotation_clip=False,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places moved as little as is simple so that neighbours are `gap` apart, inside 0..1 if they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    clusters: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        clusters.append([i])
        centres.append(places[i])
        while len(clusters) > 1:
            reach = gap * (len(clusters[-1]) + len(clusters[-2])) / 2
            if centres[-1] - centres[-2] >= reach - 1e-12:
                break
            last = clusters.pop()
            centres.pop()
            clusters[-1] += last
            centres[-1] = sum(places[j] for j in clusters[-1]) / len(clusters[-1])
            half = gap * (len(clusters[-1]) - 1) / 2
            centres[-1] = min(max(centres[-1], half), max(half, 1 - half))
    found = [0.0] * len(places)
    for cluster, centre in zip(clusters, centres):
        for k, i in enumerate(cluster):
            found[i] = centre + gap * (k - (len(cluster) - 1) / 2)
    return found


def arrow(axes: Axes, x: Array, y: Array, shade: str) -> None:
    """A head on the curve a third of its drawn length from the start."""
    scale_x, scale_y = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / scale_x, np.diff(y) / scale_y))])
    if not np.isfinite(length[-1]) or length[-1] == 0 or len(x) < 3:
        return
    k = int(np.clip(np.searchsorted(length, min(length[-1] / 3, 0.6)), 1, len(x) - 2))
    axes.annotate(
        "",
        (x[k + 1], y[k + 1]),
        (x[k - 1], y[k - 1]),
        arrowprops={
            "arrowstyle": "-|>",
            "color": shade,
            "lw": 0.8,
            "mutation_scale": 11,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def fade(count: int) -> float:
    """The opacity of one of many curves."""
    return 1.0 if count <= len(FEW) else max(0.08, min(0.5, 12 / count))


def noisy(axes: Axes, x: Array, y: Array, shade: str, label: str) -> None:
    """A curve; if it is long and rough, faint under its running mean over a fiftieth of it."""
    kept = np.isfinite(y)
    x, y = x[kept], y[kept]
    window = len(y) // 50
    smooth = running_mean(y, window) if window >= 4 else y
    rough = (
        window >= 4
        and float(np.mean(np.abs(np.diff(y)))) > 3 * float(np.mean(np.abs(np.diff(smooth)))) + 1e-300
    )
    if rough:
        axes.plot(x, y, color=shade, linewidth=0.5, alpha=0.3, zorder=1)
    axes.plot(x, smooth if rough else y, color=shade, label=label, zorder=2)


def running_mean(y: Array, window: int) -> Array:
    """Centred means over `window` values, over fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    k = np.arange(len(y))
    first, last = np.maximum(k - window // 2, 0), np.minimum(k + window // 2 + 1, len(y))
    mean: Array = (total[last] - total[first]) / (last - first)
    return mean


def decades(series: Sequence[Array]) -> float:
    """How many decades positive values span; 0 when something is not positive."""
    kept = np.concatenate([v[np.isfinite(v)] for v in series])
    if not len(kept) or kept.min() <= 0:
        return 0.0
    return float(np.log10(kept.max() / kept.min()))


def histogram(axes: Axes, v: Array, shade: str) -> None:
    """Bars by the Freedman–Diaconis rule (8 to 60), the median, and the 5–95 % range below."""
    if not len(v):
        return
    edges = np.histogram_bin_edges(v, "fd") if np.ptp(v) > 0 else np.array([0.0, 1.0])
    bins = int(np.clip(len(edges) - 1, 8, 60))
    axes.hist(v, bins=bins, color=shade, alpha=0.75, edgecolor="white", linewidth=0.4)
    low, middle, high = np.quantile(v, [0.05, 0.5, 0.95])
    top = axes.get_ylim()[1]
    axes.plot([low, high], [1.05 * top] * 2, color=INK, linewidth=0.9, solid_capstyle="butt")
    axes.plot([middle], [1.05 * top], "o", color=INK, markersize=3.2)
    axes.annotate(
        "median, 5–95 %",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 1),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=6.5,
        annotation_clip=False,
    )
    axes.set_ylim(0, 1.12 * top)
