"""Figures for papers: trajectories, phase portraits, fits, losses, histograms; as PNG (300 dpi) and SVG.

Every function takes arrays by name and returns a matplotlib `Figure` that is not registered anywhere; `save`
writes it. An array is [times], [times, components] or, with `ensemble=True`, [members, times, …].
matplotlib is imported when the first figure is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.runtime import plot_fields as fields
from ndl.runtime import plot_many as many
from ndl.runtime import plot_parts as parts
from ndl.runtime.atomic import replacing
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.grids import grid_of
from ndl.runtime.plot_style import COLUMN, INK, PAGE, color, styled, typeset
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from ndl.runtime.solution import Solution

Values = Mapping[str, Any]
KINDS = ("trajectories", "phase", "histograms", "animation", "spectrum")
WORDS = {"phase_portrait": "phase", "histogram": "histograms"}
DENSE = 600


@dataclass(frozen=True)
class Labels:
    """Words of a figure: a title, the time's name, and units by name (the time's under its own)."""

    title: str = ""
    time: str = "t"
    units: Mapping[str, str] = field(default_factory=dict)

    def axis(self, name: str) -> str:
        unit = self.units.get(name)
        return typeset(name) + (f" ({unit})" if unit else "")


NO_LABELS = Labels()


def trajectories(
    t: Any, values: Values, *, ensemble: bool = False, valid: Any = None, labels: Labels = NO_LABELS
) -> Figure:
    """Curves over time. Quantities of one unit and a like size share a panel and are named at their ends, the
    components of a long vector are coloured by index; an ensemble has a panel for each quantity: thin lines,
    and the median and 5–95 % band when many."""
    t = array(t)
    long, others = ({}, values) if ensemble else many.bundles({n: array(v) for n, v in values.items()})
    limit = many.PANELS if ensemble else many.CURVES
    curves, rest = many.taken(_components(others, 2 if ensemble else 1), limit)
    with styled():
        if ensemble:
            figure, panels = parts.stacked(len(curves))
            for k, (axes, (name, v)) in enumerate(zip(panels, curves.items())):
                parts.members(axes, t, v, color(k), valid)
                axes.set_ylabel(labels.axis(name))
        else:
            groups = parts.alike(curves, labels.units)
            figure, panels = parts.stacked(len(groups) + len(long))
            k = 0
            for axes, group in zip(panels, groups):
                for name in group:
                    axes.plot(t, curves[name], color=color(k), label=typeset(name))
                    k += 1
                parts.name_curves(axes, group, labels)
            for axes, (name, v) in zip(panels[len(groups) :], long.items()):
                many.bundle(axes, t, v, labels.axis(name))
        many.note(panels, rest)
        parts.finish(figure, panels, labels.axis(labels.time), labels.title)
    return figure


def phase(
    x: Any, y: Any, names: tuple[str, str], *, ensemble: bool = False, labels: Labels = NO_LABELS
) -> Figure:
    """One quantity against another: an arrow shows the direction, a dot the start."""
    x, y = array(x), array(y)
    rows = zip(x, y) if ensemble else [(x, y)]
    count = len(x) if ensemble else 1
    with styled():
        figure, (axes,) = parts.stacked(1, width=COLUMN, height=COLUMN * 0.86)
        for k, (a, b) in enumerate(rows):
            shade = color(0) if count > len(parts.FEW) else color(k)
            axes.plot(a, b, color=shade, linewidth=1.1 if count == 1 else 0.8, alpha=parts.fade(count))
            if count <= len(parts.FEW):
                axes.plot(a[:1], b[:1], "o", color=shade, markersize=3.2)
                parts.arrow(axes, a, b, shade)
        axes.set_ylabel(labels.axis(names[1]))
        parts.finish(figure, [axes], labels.axis(names[0]), labels.title)
    return figure


def fit(
    data_t: Any,
    data: Values,
    t: Any,
    values: Values,
    *,
    held_out: Values | None = None,
    labels: Labels = NO_LABELS,
) -> Figure:
    """Measurements as dots and the fitted curve through them, dense in time. Missing values are left out;
    `held_out` (same times) are hollow."""
    data_t, t = array(data_t), array(t)
    dots, rest = many.taken(_components(data, 1), many.CURVES)
    curves = _components(values, 1)
    hollow = _components(held_out or {}, 1)
    curves = {name: curves[name] for name in dots if name in curves}
    with styled():
        groups = parts.alike({n: np.concatenate([curves[n], dots[n]]) for n in curves}, labels.units)
        figure, panels = parts.stacked(len(groups))
        k = 0
        for axes, group in zip(panels, groups):
            for name in group:
                axes.plot(t, curves[name], color=color(k), label=typeset(name), zorder=2)
                parts.dots(axes, data_t, dots[name], color(k))
                if name in hollow:
                    parts.dots(axes, data_t, hollow[name], color(k), hollow=True)
                k += 1
            parts.name_curves(axes, group, labels)
        parts.key(panels[0], ("data", "fit", *(["held out"] if hollow else [])))
        if rest:
            figure.suptitle(rest, fontsize=6.5, x=0.0, ha="left")
        parts.finish(figure, panels, labels.axis(labels.time), labels.title)
    return figure


def losses(
    loss: Any,
    *,
    validation: Any = None,
    validation_steps: Any = None,
    terms: Values | None = None,
    best_step: int | None = None,
    labels: Labels = NO_LABELS,
) -> Figure:
    """The loss over the steps, on a logarithmic axis when it spans more than a factor of 30; a long noisy
    one is drawn faint under its running mean."""
    total = array(loss)
    shown = {"loss": total}
    if terms and len(terms) > 1:
        shown.update({name: array(v) for name, v in terms.items()})
    with styled():
        figure, (axes,) = parts.stacked(1)
        step = np.arange(1, len(total) + 1)
        for k, (name, v) in enumerate(shown.items()):
            parts.noisy(axes, step, v, INK if k == 0 and len(shown) > 1 else color(k), name)
        if validation is not None and len(array(validation)):
            at = (
                array(validation_steps)
                if validation_steps is not None
                else np.linspace(1, len(total), len(validation))
            )
            shade = color(len(shown) if len(shown) > 1 else 1)
            axes.plot(at, array(validation), color=shade, label="validation", linewidth=1.1)
            shown["validation"] = array(validation)
            if best_step is not None:
                best = int(np.argmin(np.abs(at - best_step)))
                axes.plot(at[best], array(validation)[best], "o", color=shade, markersize=4, label="best")
        if parts.decades(list(shown.values())) > np.log10(30):
            axes.set_yscale("log")
        axes.set_ylabel("loss")
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(loc="upper right")
        parts.finish(figure, [axes], "step", labels.title)
    return figure


def histograms(values: Values, *, labels: Labels = NO_LABELS) -> Figure:
    """How the members of an ensemble are spread, [members] or [members, components] each; the median and
    the 5–95 % range are marked."""
    spread, rest = many.taken(_components(values, 1), many.CURVES)
    count = len(spread)
    columns = min(count, 3)
    with styled():
        figure, panels = parts.grid(count, columns, COLUMN if columns == 1 else PAGE)
        for k, (axes, (name, v)) in enumerate(zip(panels, spread.items())):
            parts.histogram(axes, v[np.isfinite(v)], color(k))
            axes.set_xlabel(labels.axis(name))
            if k % columns == 0:
                axes.set_ylabel("members")
        if rest:
            figure.suptitle(rest, fontsize=6.5, x=1.0, ha="right")
        parts.finish(figure, panels, None, labels.title)
    return figure


def plot(
    solution: Solution, *names: str, kind: str = "auto", labels: Labels | None = None, title: str = ""
) -> Figure | fields.Animation:
    """A figure of a solution: trajectories of the named quantities (all states), a phase portrait of two,
    or histograms of the ends; `auto` takes histograms when an ensemble kept only its ends, and images where
    all are fields. Fields also have an `animation` and a `spectrum`."""
    s = solution
    shown = list(names) or [state.name for state in s.model.STATES if not state.source]
    for name in shown:
        if name not in s.names() and _base(name) not in s.names():
            raise SettingError(
                f"the solution has nothing called `{name}` to plot", help=did_you_mean(name, s.names())
            )
    words = labels or Labels(title)
    ensemble = bool(s.problem.ensemble)
    times = int(s.saved.t.shape[1])
    kind = WORDS.get(kind, kind)
    if s.model.GRIDS:
        made = _fields(s, shown, kind, words.title)
        if made is not None:
            return made
    if kind == "auto":
        kind = "histograms" if ensemble and times == 1 else "trajectories"
    if kind == "histograms":
        return histograms(_picked(shown, lambda n: array(s.final[n]), 1), labels=words)
    t, values, valid = _dense(s, shown) if not ensemble else _saved(s, shown)
    if kind == "phase":
        flat = list(_components(values, 2 if ensemble else 1).items())
        if len(flat) != 2:
            raise SettingError(
                f"a phase portrait shows two quantities, not {len(flat)}",
                help="name two, `plot = phase_portrait(x, y)`",
            )
        (a, x), (b, y) = flat
        return phase(x, y, (a, b), ensemble=ensemble, labels=words)
    if kind != "trajectories":
        raise SettingError(f"there is no plot `{kind}`", help=did_you_mean(kind, KINDS))
    return trajectories(t, values, ensemble=ensemble, valid=valid, labels=words)


def is_field(s: Solution, name: str) -> bool:
    """Whether a quantity of a solution is a field."""
    return (
        bool(s.model.GRIDS)
        and grid_of(s.final[_base(name)].shape[s.problem.ensemble :], s.model.GRIDS) is not None
    )


def _fields(s: Solution, names: Sequence[str], kind: str, title: str) -> Figure | fields.Animation | None:
    """The figure where all that is shown are fields; None where none is. Raises `SettingError` for both."""
    chosen = [n for n in names if is_field(s, n)]
    if kind not in ("auto", "trajectories", "animation", "spectrum") or not chosen:
        if kind in ("animation", "spectrum"):
            raise SettingError(f"`{kind}` is of a field, and `{names[0]}` is none")
        return None
    if len(chosen) < len(names):
        other = next(n for n in names if n not in chosen)
        raise SettingError(f"`{chosen[0]}` is a field and `{other}` is none: they share no picture")
    kept = s.problem.save.kind != "end"
    t = array(s.t) if kept else np.array([s.problem.t1])
    t = t if t.ndim == 1 else t[0]
    values = {}
    for base in dict.fromkeys(map(_base, names)):
        v = array(s.get(base).values) if kept else array(s.final[base])
        v = v[0] if s.problem.ensemble else v
        values[base] = v if kept else v[None]
    whole = [f for f in fields.fields_of(values, s.model.GRIDS) if f.name in names or _base(f.name) in names]
    if kind == "spectrum":
        return fields.spectrum(whole, t, title)
    found = [
        replace(f, name=n, values=v) for f in whole for n, v in _seen(f.name, f.values, field=True).items()
    ]
    return fields.Animation(found[0], t, title) if kind == "animation" else fields.shown(found, t, title)


def save(
    figure: Figure | fields.Animation, stem: str | os.PathLike[str], formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write `<stem>.png` at 300 dpi and `<stem>.svg`, each whole or not at all, the same bytes every time."""
    if isinstance(figure, fields.Animation):
        return figure.save(stem)
    written = []
    with styled():
        for kind in formats:
            target = Path(f"{os.fspath(stem)}.{kind}")
            plain = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
            with replacing(target) as temporary:
                figure.savefig(temporary, format=kind, dpi=300, metadata=plain)
            written.append(target)
    return written


def array(value: Any) -> np.ndarray[Any, Any]:
    """A tensor or list as an array of floats, or of complex numbers."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    found = np.asarray(value)
    return found if np.iscomplexobj(found) else found.astype(float)


def _seen(name: str, values: np.ndarray[Any, Any], field: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """What is drawn of a quantity: of complex numbers the parts, of a field its size and real part."""
    if not np.iscomplexobj(values):
        return {name: values}
    if field:
        return {f"abs({name})": np.abs(values), f"real({name})": values.real}
    return {f"real({name})": values.real, f"imag({name})": values.imag}


def _components(values: Values, rank: int) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of `rank` axes; further axes are taken apart, `z` into `z[0]`, `z[1]`, …"""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in values.items():
        v = array(value)
        if v.ndim <= rank:
            found |= _seen(name, v)
            continue
        for index in np.ndindex(v.shape[rank:]):
            found |= _seen(f"{name}[{', '.join(map(str, index))}]", v[(..., *index)])
    return found


def _base(name: str) -> str:
    """The quantity of which `z[0]` names a component."""
    return name.partition("[")[0]


def _picked(names: Sequence[str], get: Callable[[str], Any], rank: int) -> dict[str, Any]:
    """Values by name, of `z[0]` that component alone. Raises `SettingError` for one that is not there."""
    found: dict[str, Any] = {}
    for name in names:
        base = _base(name)
        if base == name:
            found[name] = get(name)
            continue
        whole = array(get(base))
        indices = {f"{base}[{', '.join(map(str, i))}]": i for i in np.ndindex(whole.shape[rank:])}
        if name not in indices:
            raise SettingError(f"`{base}` has no component `{name}`", help=did_you_mean(name, list(indices)))
        found[name] = whole[(..., *indices[name])]
    return found


def _saved(s: Solution, names: Sequence[str]) -> tuple[Any, dict[str, Any], Any]:
    rank = 2 if s.problem.ensemble else 1
    return array(s.t), _picked(names, lambda n: array(s.get(n).values), rank), s.saved.valid


def _dense(s: Solution, names: Sequence[str]) -> tuple[Any, dict[str, Any], Any]:
    """A run at many times if it can be interpolated and was saved at few; breaks at its events."""
    t = array(s.t)
    if s.interpolant is None or len(t) >= DENSE or len(t) < 2:
        return _saved(s, names)
    fine = np.union1d(np.linspace(t[0], t[-1], DENSE), t)
    at = s(fine)
    return fine, _picked(names, lambda n: array(at[n]), 1), None
