"""Meshes from files with named parts, pictures and files of fields on meshes, and errors that name the
part."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.geometry.mesh import box

import ndl

CHANNEL = """
domain Channel = mesh("channel.msh")

model M:
    state u: R on Channel = 0
    0 = lap(u)
    on part(Channel, "inlet"): u = 0
    on part(Channel, "outlet"): dn(u) = 1
    on part(Channel, "walls"): dn(u) = 0
    length = integral(1, [x, y] in part(Channel, "inlet"))
    slope = grad(u)

solve M as run:
    grid = fem()
    method = direct()
"""


def write_channel(folder: Path, kind: str = "gmsh") -> None:
    """A rectangle 2 long and 1 high whose left, right and other sides are named."""
    mesh = box([(0.0, 2.0), (0.0, 1.0)], 0.25)
    points = np.pad(mesh.points, ((0, 0), (0, 1)))
    edges = np.sort(np.concatenate([mesh.cells[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))]), axis=1)
    sides, count = np.unique(edges, axis=0, return_counts=True)
    sides = sides[count == 1]
    x = mesh.points[sides][:, :, 0]
    tags = np.where((x == 0).all(1), 1, np.where((x == 2).all(1), 2, 3))
    cells = [("line", sides), ("triangle", mesh.cells)]
    flat = np.full(len(mesh.cells), 4)
    if kind == "gmsh":
        data = {"gmsh:physical": [tags, flat], "gmsh:geometrical": [tags, flat]}
        names = {"inlet": (1, 1), "outlet": (2, 1), "walls": (3, 1), "fluid": (4, 2)}
        named = {k: np.array(v) for k, v in names.items()}
        meshio.Mesh(points, cells, cell_data=data, field_data=named).write(
            folder / "channel.msh", file_format="gmsh22", binary=False
        )
    else:
        meshio.Mesh(points, cells).write(folder / "channel.vtu")


def run(folder: Path, text: str) -> Any:
    file = folder / "channel.ndl"
    file.write_text(text, encoding="utf-8")
    (found,) = ndl.load(file).run("run")
    return found


def test_a_mesh_with_named_parts(tmp_path: Path) -> None:
    """u = x: 0 at the inlet, slope 1 at the outlet, none at the walls."""
    write_channel(tmp_path)
    s = run(tmp_path, CHANNEL)
    torch.testing.assert_close(s.final.u, s.grid.x, rtol=0, atol=1e-12)
    assert abs(float(s.final.length) - 1) < 1e-12
    torch.testing.assert_close(s.final.slope[:, 0], torch.ones_like(s.final.u), rtol=0, atol=1e-10)
    torch.testing.assert_close(s.final.slope[:, 1], torch.zeros_like(s.final.u), rtol=0, atol=1e-10)


def test_a_mesh_without_names_takes_conditions_on_coordinates(tmp_path: Path) -> None:
    write_channel(tmp_path, "vtu")
    text = CHANNEL.replace("channel.msh", "channel.vtu")
    for name, where in {
        "inlet": "x < 1e-9",
        "outlet": "x > 2 - 1e-9",
        "walls": "1e-9 < x < 2 - 1e-9",
    }.items():
        text = text.replace(f'part(Channel, "{name}")', f"boundary(Channel) if {where}")
    s = run(tmp_path, text)
    torch.testing.assert_close(s.final.u, s.grid.x, rtol=0, atol=1e-12)
    assert abs(float(s.final.length) - 1) < 1e-12


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ('"walls"', '"wall"', "NDL444", "no part `wall`"),
        (
            '    on part(Channel, "walls"): dn(u) = 0\n',
            "",
            "NDL443",
            "no condition on part of `boundary(Channel)`",
        ),
        ('part(Channel, "walls"): dn', "boundary(Channel): dn", "NDL442", "meet"),
        ("channel.msh", "missing.msh", "NDL448", "no file"),
        ("fem()", "fem(size=0.1)", "NDL441", "`size` says nothing"),
        ("fem()", "uniform(9)", "NDL441", "no box"),
        ("channel.msh", "../../../../outside.msh", "NDL448", "cannot be read"),
    ],
)
def test_errors_of_meshes(tmp_path: Path, old: str, new: str, code: str, words: str) -> None:
    write_channel(tmp_path)
    assert old in CHANNEL
    with pytest.raises(NDLError) as trouble:
        run(tmp_path, CHANNEL.replace(old, new))
    (found,) = trouble.value.diagnostics
    assert found.code == code and words in found.message, found


def test_a_file_that_is_no_mesh(tmp_path: Path) -> None:
    write_channel(tmp_path)
    (tmp_path / "channel.msh").write_text("a letter")
    with pytest.raises(NDLError) as trouble:
        run(tmp_path, CHANNEL)
    (found,) = trouble.value.diagnostics
    assert found.code == "NDL448" and "damaged" in found.message, found


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    write_channel(tmp_path)
    for name, extra in (("meshio", "mesh"), ("skfem", "fem")):
        with monkeypatch.context() as m:
            m.setitem(sys.modules, name, None)
            with pytest.raises(NDLError) as trouble:
                run(tmp_path, CHANNEL)
            (found,) = trouble.value.diagnostics
            assert found.code == "NDL448" and f"ndl-lang[{extra}]" in (found.help or "")


DISC = """
domain Disc = { x, y | x^2 + y^2 < 1 }

model Heat:
    state u: R on Disc = 1 - x^2 - y^2
    u' = lap(u)
    on boundary(Disc) if x > 0: dn(u) = 0
    on boundary(Disc) if x <= 0: u = 0

solve Heat as run:
    span = 0..0.1
    grid = fem(size=0.3)
    method = rodas5(rtol=1e-4, atol=1e-6)
    save = every 0.05
"""


def test_pictures_and_files(tmp_path: Path) -> None:
    """Each format holds the coordinates, the cells and the values."""
    s = run(tmp_path, DISC)
    n, m = len(s.grid.points), len(s.grid.triangles)
    data = s.to_xarray()
    assert data.u.dims == ("time", "Disc_node") and data.Disc_cells.shape == (m, 3)
    np.testing.assert_array_equal(data.x.values, s.grid.x.numpy())
    s.save(tmp_path / "u.npz")
    with np.load(tmp_path / "u.npz") as arrays:
        assert (
            arrays["u"].shape == (3, n) and arrays["Disc_cells"].shape == (m, 3) and arrays["y"].shape == (n,)
        )
    s.save(tmp_path / "u.vtu")
    back = meshio.read(tmp_path / "u.vtu")
    np.testing.assert_allclose(back.point_data["u"], s.final.u.numpy(), rtol=1e-12)
    np.testing.assert_array_equal(back.cells_dict["triangle"], s.grid.triangles.numpy())
    figure = s.plot("u")
    panels = [a for a in figure.axes if a.collections]
    assert len(panels) >= 3
    shown = panels[0].collections[0].get_array()
    np.testing.assert_allclose(np.asarray(shown), s.u[0].numpy())


def test_conditions_that_part_a_boundary() -> None:
    """Two that overlap, and two that leave a gap, are errors that name them."""
    for old, new, code in (("x <= 0", "x <= 0.5", "NDL442"), ("x <= 0", "x <= -0.5", "NDL443")):
        with pytest.raises(NDLError) as trouble:
            ndl.loads(DISC.replace(old, new)).run("run")
        (found,) = trouble.value.diagnostics
        assert found.code == code and "Disc" in found.message, found


def test_the_mesh_has_a_node_where_a_condition_changes() -> None:
    (s,) = ndl.loads(DISC.replace("x > 0:", "x > 0.123:").replace("x <= 0:", "x <= 0.123:")).run("run")
    x, y = s.grid.x, s.grid.y
    found = (x - 0.123).abs() < 1e-9
    assert int((found & ((x**2 + y**2 - 1).abs() < 1e-9)).sum()) == 2
    assert math.isfinite(float(s.final.u.sum()))
