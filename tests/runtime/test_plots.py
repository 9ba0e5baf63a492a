"""Figures: what is drawn where, what is written, and that nothing global changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from ndl.runtime import plots
from ndl.runtime.plot_parts import alike, running_mean, spread
from ndl.runtime.plot_style import typeset
from ndl.runtime.plots import Labels

T = np.linspace(0, 4, 50)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("theta", r"$\theta$"),
        ("theta'", r"$\theta'$"),
        ("lambda", r"$\lambda$"),
        ("σ", r"$\sigma$"),
        ("ρ̂", r"$\hat{\rho}$"),
        ("x_max", r"$x_{\mathrm{max}}$"),
        ("sigma_x", r"$\sigma_{x}$"),
        ("x12", "$x_{12}$"),
        ("z[0, 1]", "$z_{0,1}$"),
        ("prey", "prey"),
        ("heat_flux", "heat flux"),
        ("rate[2]", "rate [2]"),
    ],
)
def test_names_are_typeset(name: str, label: str) -> None:
    assert typeset(name) == label


@pytest.mark.parametrize(
    "name", ["__", "a__b", "$x", "x_%", "名前", "x_", "ρ_ρ̂", "θ''", "E_{x}", "\\frac", "'"]
)
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    figure = plots.trajectories(T, {name: T, "y": 100 * T})
    with pytest.warns(UserWarning) if name == "名前" else _nothing():
        plots.save(figure, tmp_path / "f", ("svg",))


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_files_are_whole_sharp_and_the_same_each_time(tmp_path: Path) -> None:
    files = []
    for k in range(2):
        figure = plots.trajectories(T, {"x": np.sin(T), "y": np.cos(T)}, labels=Labels(units={"t": "s"}))
        files.append(plots.save(figure, tmp_path / str(k)))
    assert [p.name for p in files[0]] == ["0.png", "0.svg"]
    for a, b in zip(*files):
        assert a.read_bytes() == b.read_bytes()
    png = files[0][0].read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(png[16:20], "big") == round(300 * 4.4)
    assert "<svg" in files[0][1].read_text() and not list(tmp_path.glob(".*"))


def test_global_settings_and_pyplot_are_untouched() -> None:
    names = [k for k in matplotlib.rcParams if "backend" not in k]  # reading that one imports pyplot
    before = {k: matplotlib.rcParams[k] for k in names}
    plots.losses([1.0, 0.1, 0.01])
    assert {k: matplotlib.rcParams[k] for k in names} == before
    code = "import sys; from ndl.runtime import plots; plots.losses([1])"
    code += "; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_matplotlib_is_imported_only_when_a_figure_is_made() -> None:
    code = "import sys, ndl.runtime.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def lines(axes: Any) -> list[Any]:
    return list(axes.get_lines())


def test_like_quantities_share_a_panel_and_are_named_at_their_ends() -> None:
    figure = plots.trajectories(T, {"x": np.sin(T), "y": 2 * np.cos(T), "big": 1e4 * T})
    shared, other = figure.axes
    assert len(lines(shared)) == 2 and [a.get_text() for a in shared.texts] == ["$x$", "$y$"]
    assert lines(shared)[0].get_color() != lines(shared)[1].get_color()
    assert other.get_ylabel() == "big" and other.get_xlabel() == "$t$" and shared.get_xlabel() == ""
    apart = alike({"a": T, "b": T}, {"a": "m", "b": "s"})
    assert apart == [["a"], ["b"]]


def test_a_fit_shows_every_measurement_and_a_dense_curve() -> None:
    years = torch.arange(5.0) + 1900
    data = {"prey": torch.tensor([1.0, 2.0, float("nan"), 4.0, 5.0])}
    fine = torch.linspace(1900, 1904, 300)
    figure = plots.fit(
        years, data, fine, {"prey": fine - 1899}, labels=Labels("Pelts", "year", {"prey": "thousands"})
    )
    (axes,) = figure.axes
    curve, dots = lines(axes)
    assert len(curve.get_xdata()) == 300 and curve.get_marker() == "None"
    assert dots.get_linestyle() == "None" and dots.get_xdata().tolist() == [1900, 1901, 1903, 1904]
    assert axes.get_ylabel() == "prey (thousands)" and axes.get_xlabel() == "year"
    assert axes.get_title("left") == "Pelts"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["data", "fit"]


def test_a_large_ensemble_has_a_band_and_a_median() -> None:
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(200, 50)), 1)
    (axes,) = plots.trajectories(T, {"x": x}, ensemble=True).axes
    median = next(line for line in lines(axes) if line.get_label() == "median")
    np.testing.assert_allclose(median.get_ydata(), np.median(x, 0))
    (band,) = axes.collections
    edge = band.get_paths()[0].vertices
    low = edge[:, 1][np.isclose(edge[:, 0], T[-1])].min()
    assert abs(low - np.quantile(x[:, -1], 0.05)) < 1e-12
    assert len(lines(axes)) == 61


def test_members_that_stop_early_are_not_drawn_beyond_their_end() -> None:
    t = np.stack([T, np.minimum(T, 2.0)])
    valid = np.stack([np.ones(50, dtype=bool), T <= 2.0])
    (axes,) = plots.trajectories(t, {"x": t}, ensemble=True, valid=valid).axes
    assert [line.get_xdata().max() <= end for line, end in zip(lines(axes), (4.0, 2.0))] == [True, True]


def test_the_loss_axis_is_logarithmic_when_it_spans_decades() -> None:
    assert plots.losses(np.geomspace(1, 1e-3, 40)).axes[0].get_yscale() == "log"
    assert plots.losses(np.linspace(2, 1, 40)).axes[0].get_yscale() == "linear"
    assert plots.losses(np.linspace(1e3, -1, 40)).axes[0].get_yscale() == "linear"
    figure = plots.losses([3.0, 2, 1], validation=[2.5, 1.5], validation_steps=[1, 3], best_step=3)
    assert {line.get_label() for line in lines(figure.axes[0])} == {"loss", "validation", "best"}


def test_histograms_count_every_member() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    figure = plots.histograms({"x": x, "one": np.ones(500)})
    assert [a.get_xlabel() for a in figure.axes] == ["$x_{0}$", "$x_{1}$", "one"]
    for axes in figure.axes:
        assert sum(patch.get_height() for patch in axes.patches) == 500


def test_phase_portraits_start_at_a_dot_and_show_their_direction() -> None:
    (axes,) = plots.phase(np.cos(T), np.sin(T), ("x", "theta")).axes
    curve, dot = lines(axes)
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1.0, 0.0) and len(curve.get_xdata()) == 50
    (head,) = axes.texts
    (x1, y1), (x0, y0) = head.xy, head.xyann
    assert x0 * y1 - y0 * x1 > 0  # anticlockwise, as the motion
    assert axes.get_ylabel() == r"$\theta$"


def test_labels_are_moved_apart_and_stay_inside() -> None:
    places = spread([0.5, 0.5, 0.51, 0.0, 1.0], 0.1)
    ordered = sorted(places)
    assert np.diff(ordered).min() > 0.1 - 1e-9
    assert ordered[0] >= 0 and ordered[-1] <= 1 and places[3] == 0.0
    assert spread([0.2, 0.8], 0.1) == [0.2, 0.8]


def test_a_running_mean_of_a_constant_is_it() -> None:
    np.testing.assert_allclose(running_mean(np.full(30, 2.0), 7), 2.0)
    np.testing.assert_allclose(running_mean(np.arange(30.0), 6)[3:-3], np.arange(3.0, 27))


def test_the_components_of_a_long_vector_are_one_panel_coloured_by_index(tmp_path: Path) -> None:
    v = np.sin(T[:, None] + np.arange(40) / 10)
    figure = plots.trajectories(T, {"z": v, "y": T})
    panel, long, bar = figure.axes
    assert len(panel.lines) == 1 and len(long.lines) == 40 and bar.get_ylabel() == "component"
    assert not long.texts and long.get_ylabel() == "$z$"
    assert len({tuple(line.get_color()) for line in long.lines}) == 40
    assert np.allclose(long.lines[-1].get_ydata(), v[:, -1])
    plots.save(figure, tmp_path / "f")


def test_a_bundle_draws_sixty_of_a_thousand() -> None:
    (axes, _) = plots.trajectories(T, {"z": np.tile(T[:, None], 1000)}).axes
    assert len(axes.lines) == 60


def test_of_very_many_quantities_a_page_is_drawn_and_the_number_said() -> None:
    values = {f"x{k}": (k + 1) * T for k in range(50)}
    figure = plots.trajectories(T, values)
    assert sum(len(a.lines) for a in figure.axes) == 24 and figure.get_figheight() < 12
    assert any(t.get_text() == "24 of 50 shown" for t in figure.axes[0].texts)
    ensemble = plots.trajectories(T, {"z": np.zeros((3, 50, 40))}, ensemble=True)
    assert len(ensemble.axes) == 8
    assert any(t.get_text() == "8 of 40 shown" for t in ensemble.axes[0].texts)
    assert len(plots.histograms({"z": np.zeros((9, 40))}).axes) == 24
    fit = plots.fit(T, {"z": np.zeros((50, 40))}, T, {"z": np.zeros((50, 40))})
    assert fit.get_suptitle() == "24 of 40 shown"
