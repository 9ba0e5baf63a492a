"""Files and pictures of fields: coordinates and attributes, images, animations, spectra."""

import importlib.util
import json

import numpy as np
import pytest
from ndl.runtime import plots
from ndl.runtime.errors import DataError, SettingError
from ndl.runtime.plot_fields import power_of
from PIL import Image

import ndl
from ndl.runfolder import RunFolder

TEXT = """
domain Torus = periodic(x in 0..1, y in 0..2)
domain Rod = interval(z in 0..1)

model Mixed:
    param k = 0.5
    state u: R on Torus = sin(2*pi*x)*cos(pi*y)
    state v: R[2] on Torus = [x, y]
    state w: R on Rod = z
    u' = 0.01*lap(u)
    v' = -k*v
    w' = -w
    mass = integral(u^2, [x, y] in Torus)
"""
GRID = "{Torus: uniform(8, 12), Rod: chebyshev(9)}"


@pytest.fixture(scope="module")
def solution():
    model = ndl.loads(TEXT).models["Mixed"]
    return ndl.solve(model, grid=GRID, span=(0, 1), method="rk4(h=0.1)", save=0.1)


@pytest.mark.parametrize("suffix", ["nc", "h5", "zarr"])
def test_data_sets_have_coordinates_and_attributes(solution, tmp_path, suffix) -> None:
    import xarray

    path = tmp_path / f"out.{suffix}"
    for _ in range(2):  # the second replaces the first
        solution.save(path)
    with xarray.open_dataset(path, engine="zarr" if suffix == "zarr" else "h5netcdf") as found:
        assert found["u"].dims == ("time", "x", "y")
        assert found["v"].dims == ("time", "x", "y", "v_0")
        assert found["w"].dims == ("time", "z")
        np.testing.assert_array_equal(found["u"].values, solution["u"].values.numpy())
        np.testing.assert_allclose(found["y"].values, np.arange(12) / 6)
        assert found.attrs["model"] == "Mixed"
        assert found.attrs["k"] == "0.5"
        assert "u' = " in found.attrs["equations"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_archive_has_the_coordinates(solution, tmp_path) -> None:
    solution.save(tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert found["u"].shape == (11, 8, 12)
        assert found["z"].shape == (9,)


def test_without_the_package_the_extra_is_named(solution, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError) as caught:
        solution.save(tmp_path / "out.zarr")
    assert "ndl-lang[store]" in str(caught.value.help)


def test_a_run_leaves_arrays_and_a_picture_of_fields(tmp_path, ndl_run=None) -> None:
    (tmp_path / "m.ndl").write_text(
        f"{TEXT}\nsolve Mixed as a:\n    span = 0..1\n    grid = {GRID}\n    method = rk4(h=0.1)\n"
        "    save = every 0.5\n    plot = [u, mass, spectrum(u), animation(u)]\n"
    )
    from ndl.runfolder import RunFolder

    folder = RunFolder(tmp_path / "out", "a", fixed=True)
    ndl.load(tmp_path / "m.ndl").run("a", out=folder)
    names = {p.name for p in folder.path.iterdir()}
    assert {"results.npz", "plot.png", "plot_u.png", "spectrum.png", "animation.gif"} <= names
    assert json.loads((folder.path / "results.json").read_text())["final"]["mass"] > 0
    with Image.open(folder.path / "animation.gif") as image:
        assert image.n_frames == 3


def test_fields_of_one_coordinate_are_curves_or_an_image(solution) -> None:
    (axes, bar) = plots.plot(solution, "w").axes
    assert len(axes.lines) == 0 and bar.get_ylabel()
    few = ndl.solve(ndl.loads(TEXT).models["Mixed"], grid=GRID, span=(0, 1), method="rk4(h=0.1)", save=0.5)
    (axes,) = plots.plot(few, "w").axes
    assert len(axes.lines) == 3


def test_components_have_rows_of_their_own(solution) -> None:
    assert len(plots.plot(solution, "v").axes) == 2 * (4 + 1)
    assert len(plots.plot(solution, "v[1]").axes) == 4 + 1


def test_a_field_and_a_number_share_no_picture(solution) -> None:
    with pytest.raises(SettingError, match="share no picture"):
        plots.plot(solution, "u", "mass")
    with pytest.raises(SettingError, match="is of a field"):
        plots.plot(solution, "mass", kind="animation")


def test_a_spectrum_adds_up_to_the_mean_square() -> None:
    x, y = np.arange(32) / 16 * np.pi, np.arange(24) / 24
    values = 2 * np.cos(3 * x)[:, None] * np.ones(24) + np.sin(2 * np.pi * 5 * y)[None, :]
    wave, power = power_of(values, (x, y))
    assert power.sum() == pytest.approx(np.mean(values**2))
    assert power[np.isclose(wave, 3)] == pytest.approx(2.0)


def test_a_spectrum_is_of_periodic_fields(solution) -> None:
    with pytest.raises(SettingError, match="`z` of `w` has ends"):
        solution.plot("w", kind="spectrum")


def test_a_spectrum_of_a_field_with_ends_is_told_where_it_is_asked_for(tmp_path):
    (tmp_path / "heat.ndl").write_text(
        """
domain Rod = interval(x in 0..1)

model Heat:
    state u: R on Rod = sin(pi*x)
    u' = lap(u)
    on boundary(Rod): u = 0

solve Heat:
    span   = 0..0.1
    grid   = uniform(9)
    method = rodas5()
    save   = every 0.05
    plot   = [u, spectrum(u)]
"""
    )
    with pytest.raises(ndl.NDLError) as caught:
        ndl.load(tmp_path / "heat.ndl").run(out=RunFolder(tmp_path, "Heat", fixed=True))
    (told,) = caught.value.diagnostics
    assert told.code == "NDL546" and told.span.text == "spectrum(u)" and "has ends" in told.message
