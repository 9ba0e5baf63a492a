"""Figures of fields: curves and space–time images of one coordinate, images of two, animations, spectra.

Values are [times, n1, …] with an axis for each coordinate, of the first member of an ensemble; a field of
three coordinates is shown in the middle of its last one. matplotlib is imported with the first figure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime import plot_parts as parts
from ndl.runtime.atomic import replacing
from ndl.runtime.errors import SettingError
from ndl.runtime.grids import grid_of, grid_points
from ndl.runtime.info import GridInfo
from ndl.runtime.meshes import tables
from ndl.runtime.plot_style import COLUMN, PAGE, styled, typeset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

FEW_TIMES, SNAPSHOTS = 5, 4
"""Times up to which a field of one coordinate is drawn as curves; images of a field of two coordinates."""

FRAMES, RATE = 120, 15
"""The most frames of an animation, and how many a second has."""

SIGNED, PLAIN = "RdBu_r", "viridis"
"""Colours of fields that take both signs, and of others."""


@dataclass(frozen=True)
class Field:
    """A field's values [times, n1, …] and its coordinates; on a mesh values [times, nodes] and triangles
    `[m, 3]` between the nodes."""

    name: str
    values: Array
    coordinates: tuple[str, ...]
    points: tuple[Array, ...]
    triangles: Array | None = None
    ended: str | None = None
    """A coordinate that is not periodic."""

    @staticmethod
    def of(name: str, values: Array, grid: GridInfo) -> list[Field]:
        """A field component by component; of three coordinates, the middle of the last one."""
        if grid.mesh:
            return _on_mesh(name, values, grid)
        rank = len(grid.coordinates)
        points = [grid_points(layout).numpy() for layout in grid.layouts]
        names = list(grid.coordinates)
        ended = next(
            (c for c, layout in zip(names, grid.layouts) if layout[0] in ("nodes", "chebyshev")), None
        )
        if rank == 3:
            middle = len(points[2]) // 2
            values, points, names, rank = values[:, :, :, middle], points[:2], names[:2], 2
        found = []
        for index in np.ndindex(values.shape[1 + rank :]):
            label = f"{name}[{', '.join(map(str, index))}]" if index else name
            made = Field(label, values[(..., *index)], tuple(names), tuple(points), ended=ended)
            found.append(made)
        return found


def _on_mesh(name: str, values: Array, grid: GridInfo) -> list[Field]:
    """On a line in the order of its nodes, in the plane on triangles."""
    mesh = tables(grid.mesh)
    if len(grid.coordinates) > 2:
        raise SettingError(
            f"`{name}` is a field on a mesh in space, of which there is no picture",
            help='write it to a file for other programs: `write = "field.vtu"`',
        )
    points, triangles = mesh.nodes, None
    if len(grid.coordinates) == 1:
        order = np.argsort(points[:, 0])
        points, values = points[order], values[:, order]
    else:
        triangles = mesh.corners
    found = []
    for index in np.ndindex(values.shape[2:]):
        label = f"{name}[{', '.join(map(str, index))}]" if index else name
        found.append(Field(label, values[(..., *index)], grid.coordinates, tuple(points.T), triangles))
    return found


def shown(fields: Sequence[Field], t: Array, title: str = "") -> Figure:
    """Curves at few times, a space–time image at many; of two coordinates, snapshots."""
    flat = [f for f in fields if len(f.points) == 2]
    return _snapshots(flat, t, title) if flat else _lines(fields, t, title)


def _lines(fields: Sequence[Field], t: Array, title: str) -> Figure:
    with styled():
        figure, panels = parts.grid(len(fields), min(len(fields), 2), COLUMN if len(fields) == 1 else PAGE)
        for axes, f in zip(panels, fields):
            (x,) = f.points
            axes.set_xlabel(typeset(f.coordinates[0]))
            if len(t) <= FEW_TIMES:
                for time, row, shade in zip(t, f.values, _shades(len(t))):
                    axes.plot(x, row, color=shade, label=f"t = {time:.4g}")
                axes.set_ylabel(typeset(f.name))
                if len(t) > 1:
                    axes.legend()
                continue
            image = axes.pcolormesh(x, t, f.values, shading="nearest", rasterized=True, **_range(f.values))
            figure.colorbar(image, ax=axes, label=typeset(f.name))
            axes.set_ylabel("t")
        parts.finish(figure, panels, None, title)
    return figure


def _snapshots(fields: Sequence[Field], t: Array, title: str) -> Figure:
    at = np.unique(np.linspace(0, len(t) - 1, SNAPSHOTS).round().astype(int))
    with styled():
        figure, panels = parts.grid(len(fields) * len(at), len(at), PAGE if len(at) > 1 else COLUMN)
        for row, f in enumerate(fields):
            line = panels[row * len(at) : (row + 1) * len(at)]
            for axes, k in zip(line, at):
                image = _image(axes, f, f.values[k], f.values[at])
                if len(t) > 1:
                    axes.set_title(f"t = {t[k]:.4g}")
                if axes is not line[0]:
                    axes.set_yticklabels([])
            line[0].set_ylabel(typeset(f.coordinates[1]))
            for axes in line:
                axes.set_xlabel(typeset(f.coordinates[0]))
            figure.colorbar(image, ax=line, label=typeset(f.name))
        if title:
            figure.suptitle(title, x=0.0, ha="left")
    return figure


def _image(axes: Axes, f: Field, values: Array, scale: Array) -> Any:
    x, y = f.points
    look: dict[str, Any] = {"rasterized": True, **_range(scale)}
    if f.triangles is not None:
        image: Any = axes.tripcolor(x, y, values, triangles=f.triangles, shading="gouraud", **look)
    else:
        image = axes.pcolormesh(x, y, values.T, shading="nearest", **look)
    axes.set_aspect("equal" if 0.3 < np.ptp(x) / np.ptp(y) < 3.3 else "auto")
    return image


def _range(values: Array) -> dict[str, Any]:
    """Colours and their ends: symmetric where a field takes both signs."""
    kept = values[np.isfinite(values)]
    low, high = (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
    if low < 0 < high and min(-low, high) > 0.1 * max(-low, high):
        end = max(-low, high)
        return {"cmap": SIGNED, "vmin": -end, "vmax": end}
    return {"cmap": PLAIN, "vmin": low, "vmax": high if high > low else low + 1.0}


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps[PLAIN](0.85 * k / max(count - 1, 1)) for k in range(count)]


# ---------------------------------------------------------------- fits


def fit(data: Sequence[Field], fitted: Sequence[Field], t: Array, title: str = "") -> Figure:
    """Measured fields and the model's, at the same times: dots and curves at a few, or images at the end with
    their difference."""
    if any(len(f.points) == 2 for f in data):
        return _compared(data, fitted, t, title)
    at = np.unique(np.linspace(0, len(t) - 1, FEW_TIMES).round().astype(int))
    with styled():
        figure, panels = parts.grid(len(data), min(len(data), 2), COLUMN if len(data) == 1 else PAGE)
        for axes, d, f in zip(panels, data, fitted):
            for k, shade in zip(at, _shades(len(at))):
                axes.plot(d.points[0], d.values[k], ".", color=shade, markersize=3, alpha=0.6)
                axes.plot(f.points[0], f.values[k], color=shade, label=f"t = {t[k]:.4g}")
            axes.set_xlabel(typeset(f.coordinates[0]))
            axes.set_ylabel(typeset(f.name))
            axes.legend()
        parts.finish(figure, panels, None, title)
    return figure


def _compared(data: Sequence[Field], fitted: Sequence[Field], t: Array, title: str) -> Figure:
    with styled():
        figure, panels = parts.grid(3 * len(data), 3, PAGE)
        for row, (d, f) in enumerate(zip(data, fitted)):
            both = np.stack([d.values[-1], f.values[-1]])
            shown = (("data", d.values[-1], both), ("fit", f.values[-1], both))
            gap = f.values[-1] - d.values[-1]
            for axes, (what, v, scale) in zip(panels[3 * row :], (*shown, ("fit − data", gap, gap))):
                image = _image(axes, f, v, scale)
                axes.set_title(f"{typeset(f.name)}, {what}, t = {t[-1]:.4g}")
                axes.set_xlabel(typeset(f.coordinates[0]))
                figure.colorbar(image, ax=axes)
        parts.finish(figure, panels, None, title)
    return figure


def profiles(fields: Sequence[Field], title: str = "") -> Figure:
    """Fields that do not change in time: curves, or images."""
    with styled():
        figure, panels = parts.grid(len(fields), min(len(fields), 2), COLUMN if len(fields) == 1 else PAGE)
        for axes, f in zip(panels, fields):
            axes.set_xlabel(typeset(f.coordinates[0]))
            if len(f.points) == 2:
                figure.colorbar(_image(axes, f, f.values[0], f.values), ax=axes, label=typeset(f.name))
                axes.set_ylabel(typeset(f.coordinates[1]))
                continue
            axes.plot(f.points[0], f.values[0])
            axes.set_ylabel(typeset(f.name))
        parts.finish(figure, panels, None, title)
    return figure


# ---------------------------------------------------------------- spectra


def spectrum(fields: Sequence[Field], t: Array, title: str = "") -> Figure:
    """The power of the Fourier modes by wavenumber, summed over the directions, at a few times."""
    at = np.unique(np.linspace(0, len(t) - 1, FEW_TIMES).round().astype(int))
    if any(f.triangles is not None for f in fields):
        raise SettingError("`spectrum` is of a field on evenly spaced points, not on a mesh")
    for f in fields:
        if f.ended is not None:
            what = f"`spectrum` is of periodic fields, and `{f.ended}` of `{f.name}` has ends"
            raise SettingError(what, help="declare it `periodic`, or plot the field itself")
    with styled():
        figure, panels = parts.grid(len(fields), min(len(fields), 2), COLUMN if len(fields) == 1 else PAGE)
        for axes, f in zip(panels, fields):
            for k, shade in zip(at, _shades(len(at))):
                wave, power = power_of(f.values[k], f.points)
                kept = power > 1e-32 * power.max(initial=1e-300)
                axes.loglog(wave[kept], power[kept], color=shade, label=f"t = {t[k]:.4g}")
            axes.set_xlabel("wavenumber")
            axes.set_ylabel(f"power of {typeset(f.name)}")
            if len(at) > 1:
                axes.legend()
        parts.finish(figure, panels, None, title)
    return figure


def power_of(values: Array, points: Sequence[Array]) -> tuple[Array, Array]:
    """Wavenumbers (2 pi over the wavelength) and the mean square that the modes of each ring carry: together
    that of the field without its mean. Points are evenly spaced and periodic."""
    steps = [x[1] - x[0] for x in points]
    modes = np.abs(np.fft.fftn(values) / values.size) ** 2
    waves = np.meshgrid(
        *(2 * np.pi * np.fft.fftfreq(n, h) for n, h in zip(values.shape, steps)), indexing="ij"
    )
    size = np.sqrt(sum(w**2 for w in waves))
    unit = min(2 * np.pi / (n * h) for n, h in zip(values.shape, steps))
    ring = np.rint(size / unit).astype(int)
    power = np.bincount(ring.ravel(), modes.ravel())
    return unit * np.arange(len(power))[1:], power[1:]


# ---------------------------------------------------------------- animations


@dataclass(frozen=True)
class Animation:
    """A field in motion: `save` writes `<stem>.gif`, and `<stem>.mp4` where `ffmpeg` is there."""

    field: Field
    t: Array
    title: str = ""

    def save(self, stem: str | os.PathLike[str]) -> list[Path]:
        """Write the files, each whole or not at all."""
        from matplotlib.animation import FFMpegWriter, PillowWriter

        kinds: dict[str, Any] = {"gif": PillowWriter}
        if shutil.which("ffmpeg"):
            kinds["mp4"] = FFMpegWriter
        written = []
        for kind, writer in kinds.items():
            target = Path(f"{os.fspath(stem)}.{kind}")
            with replacing(target) as temporary:
                whole = Path(f"{temporary}.{kind}")
                self._write(writer(fps=RATE), whole)
                whole.replace(temporary)
            written.append(target)
        return written

    def _write(self, writer: Any, path: Path) -> None:
        at = np.unique(np.linspace(0, len(self.t) - 1, FRAMES).round().astype(int))
        with styled():
            figure, (axes,) = parts.grid(1, 1, COLUMN)
            f, values = self.field, self.field.values
            if len(f.points) == 2:
                drawn = _image(axes, f, values[0], values)
                figure.colorbar(drawn, ax=axes, label=typeset(f.name))
                axes.set_ylabel(typeset(f.coordinates[1]))
            else:
                (drawn,) = axes.plot(f.points[0], values[0])
                ends = _range(values)
                axes.set_ylim(ends["vmin"], ends["vmax"])
                axes.set_ylabel(typeset(f.name))
            axes.set_xlabel(typeset(f.coordinates[0]))
            heading = axes.set_title("")
            with writer.saving(figure, str(path), dpi=150):
                for k in at:
                    if len(f.points) == 2:
                        drawn.set_array(values[k] if f.triangles is not None else values[k].T)
                    else:
                        drawn.set_ydata(values[k])
                    heading.set_text(f"{self.title + ', ' if self.title else ''}t = {self.t[k]:.4g}")
                    writer.grab_frame()


def fields_of(values: Mapping[str, Array], grids: Sequence[GridInfo]) -> list[Field]:
    """The fields among values [times, …] by name."""
    found: list[Field] = []
    for name, v in values.items():
        grid = grid_of(v.shape[1:], grids)
        if grid is not None:
            found += Field.of(name, v, grid)
    return found
