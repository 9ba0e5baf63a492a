"""Complex fields: Schrödinger's equations against closed forms, on several grids, by several methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from ndl.runtime.stored import store

import ndl

PROGRAM = """
domain Line = periodic(x in -20..20)
domain Torus = periodic(x in 0..2*pi, y in 0..2*pi)
domain Rod = interval(x in 0..pi)

model Packet:
    param k = 1.0
    state psi: C on Line = exp(-x^2/2 + 1i*x)/pi^(1/4)
    term kinetic   = 1i*k*lap(psi)/2
    term potential = -1i*0.3*psi
    psi' = kinetic + potential
    mass     = integral(abs(psi)^2)
    momentum = integral(imag(conj(psi)*dx(psi)))
    energy   = integral(norm(grad(psi))^2/2)

model Soliton:
    param g = 1.0
    state psi: C on Line = exp(1i*x)/cosh(x)
    psi' = 1i*(lap(psi)/2 + g*abs(psi)^2*psi)
    mass = integral(abs(psi)^2)

model Waves:
    state psi: C[2] on Torus = [exp(1i*(x - 2*y)), cos(x) + 0*1i]
    psi' = 1i*lap(psi) + [0.5i, 1]*dx(psi)

model Held:
    state psi: C on Rod = sin(x) + 1i*sin(2*x)
    psi' = 1i*lap(psi)/2
    on boundary(Rod): psi = 0

model Open:
    param c = 0.3
    state psi: C on Rod = cos(x) + 2i*cos(2*x)
    psi' = 1i*lap(psi)/2 + c*abs(psi)^2
    on boundary(Rod): dn(psi) = 0
"""


@pytest.fixture(scope="module")
def models() -> Any:
    domains, *texts = PROGRAM.split("\nmodel ")

    def load(name: str, grid: str) -> Any:
        (text,) = (t for t in texts if t.startswith(name))
        return ndl.loads(f"{domains}\nmodel {text}", grid=grid).models[name]

    return load


def packet(x: np.ndarray, t: float) -> np.ndarray:
    """A Gaussian packet with the wave number 1 in the potential 0.3."""
    width = 1 + 1j * t
    return np.asarray(
        np.exp((-(x**2) / 2 + 1j * x - 0.5j * t) / width - 0.3j * t) / np.pi**0.25 / np.sqrt(width)
    )


@pytest.mark.parametrize(
    "method", ["etdrk4(h=0.5)", "etdrk2(h=1)", "strang(kinetic: exact, potential: exact, h=0.5)"]
)
def test_what_is_diagonal_is_followed_exactly(models: Any, method: str) -> None:
    """Both terms are: the whole step is exact, whatever its size."""
    s = ndl.solve(models("Packet", "fourier(128)")(), span=(0, 2), method=method, save=[0, 2])
    np.testing.assert_allclose(s.final.psi.numpy(), packet(s.grid.x.numpy(), 2.0), atol=1e-11)
    for name, wanted in {"mass": 1.0, "momentum": 1.0, "energy": 0.75}.items():
        np.testing.assert_allclose(s[name].numpy(), wanted, atol=1e-11)


def test_the_symbol_is_of_both_directions(models: Any) -> None:
    packet = models("Packet", "fourier(8)")()
    (info,) = [f for f in type(packet).FOURIER if f.term == "kinetic"]
    k = 2 * np.pi * np.fft.fftfreq(8, 5)
    np.testing.assert_allclose(getattr(packet, info.method)().detach().numpy(), -0.5j * k**2, atol=1e-14)
    waves = models("Waves", "fourier(8, 6)")()  # its components differ in their first derivatives
    (info,) = type(waves).FOURIER
    k, l = np.meshgrid(np.fft.fftfreq(8, 1 / 8), np.fft.fftfreq(6, 1 / 6), indexing="ij")
    found = getattr(waves, info.method)().detach().numpy()
    np.testing.assert_allclose(found, -1j * (k**2 + l**2), atol=1e-12)


def test_a_soliton_travels(models: Any) -> None:
    def ends(h: float) -> Any:
        return ndl.solve(
            models("Soliton", "fourier(192)")(), span=(0, 2), method=f"etdrk4(h={h})", save=[0, 2]
        )

    coarse, fine = ends(0.04), ends(0.02)
    x = fine.grid.x.numpy()
    wanted = np.exp(1j * x) / np.cosh(x - 2)
    errors = [np.abs(s.final.psi.numpy() - wanted).max() for s in (coarse, fine)]
    assert errors[1] < 1e-6
    assert 3.6 < np.log2(errors[0] / errors[1]) < 4.4
    assert abs(float(fine.mass[1]) - 2) < 1e-7


def test_components_in_the_plane(models: Any) -> None:
    s = ndl.solve(models("Waves", "fourier(12, 12)")(), span=(0, 0.5), method="rk4(h=0.002)", save="end")
    x, y = (s.grid[c].numpy() for c in "xy")
    np.testing.assert_allclose(
        s.final.psi[..., 0].numpy(), np.exp(1j * (x - 2 * y) - 5j * 0.5 - 0.25), atol=1e-9
    )
    np.testing.assert_allclose(
        s.final.psi[..., 1].numpy(), np.cos(x + 0.5) * np.exp(-0.5j) + 0 * y, atol=1e-9
    )


@pytest.mark.parametrize(("grid", "method", "within"), [
    ("chebyshev(20)", "rodas5(rtol=1e-9, atol=1e-11)", 1e-7),
    ("uniform(33, order=4)", "trapezoidal(h=0.005)", 2e-3),
    ("uniform(33, order=4)", "rk4(h=0.002)", 2e-3),
])  # fmt: skip
def test_conditions_at_ends(models: Any, grid: str, method: str, within: float) -> None:
    s = ndl.solve(models("Held", grid)(), span=(0, 1), method=method, save="end")
    x = s.grid.x.numpy()
    wanted = np.exp(-0.5j) * np.sin(x) + 1j * np.exp(-2j) * np.sin(2 * x)
    np.testing.assert_allclose(s.final.psi.numpy(), wanted, atol=within)


def test_the_trapezoidal_rule_turns_the_modes_of_the_grid(models: Any) -> None:
    """Closed forms of the difference of order 2, and the mass to rounding."""
    s = ndl.solve(models("Held", "uniform(33)")(), span=(0, 1), method="trapezoidal(h=0.01)", save=[0, 1])
    x = s.grid.x.numpy()
    wanted = 0
    for share, k in ((1, 1), (1j, 2)):
        rate = -2j * np.sin(k * np.pi / 64) ** 2 / (np.pi / 32) ** 2
        wanted = wanted + share * np.sin(k * x) * ((1 + 0.005 * rate) / (1 - 0.005 * rate)) ** 100
    np.testing.assert_allclose(s.final.psi.numpy(), wanted, atol=1e-9)
    mass = (s.psi.abs() ** 2).sum(1)
    assert float(mass[1]) == pytest.approx(float(mass[0]), rel=1e-9)


def test_sweeps_find_what_torch_finds(models: Any) -> None:
    model = models("Open", "uniform(65)")()
    settings: dict[str, Any] = {"span": (0, 0.05), "method": "rk4(h=0.0005)", "save": "end"}
    found, wanted = (ndl.solve(model, backend=b, **settings).final.psi for b in ("cpu", "torch"))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "grid", "method", "of"), [
    ("Soliton", "fourier(24)", "etdrk4(h=0.05)", "g"), ("Packet", "fourier(24)", "etdrk4(h=0.05)", "k"),
    ("Open", "uniform(17)", "rk4(h=0.005)", "c"),
])  # fmt: skip
def test_gradients_are_those_of_differences(models: Any, name: str, grid: str, method: str, of: str) -> None:
    """By a number in the equation and by the initial field."""
    model, eps = models(name, grid)(), 1e-6
    start = torch.complex(*(model.initial_values()["psi"].unbind(-1)))
    value = getattr(model, of).detach().clone()
    other = torch.randn(start.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))

    def loss(a: torch.Tensor, psi: torch.Tensor) -> torch.Tensor:
        bound = model.bind(**{of: a, "psi": psi})
        s = ndl.solve(bound, span=(0, 0.2), method=method, save="end", gradient="discrete")
        return ((s.final.psi - other).abs() ** 2).sum() + s.final.psi.real.pow(3).sum()

    a, psi = value.requires_grad_(), start.clone().requires_grad_()
    da, dpsi = torch.autograd.grad(loss(a, psi), [a, psi])
    with torch.no_grad():
        by_number = (loss(value + eps, start) - loss(value - eps, start)) / (2 * eps)
        along = (loss(value, start + eps * other) - loss(value, start - eps * other)) / (2 * eps)
    assert abs(float(da)) > 1e-3
    assert float(da) == pytest.approx(float(by_number), rel=1e-6, abs=1e-8)
    assert float((dpsi.conj() * other).sum().real) == pytest.approx(float(along), rel=1e-6)


def test_files_keep_complex_numbers(models: Any, tmp_path: Path) -> None:
    s = ndl.solve(models("Soliton", "fourier(32)")(), span=(0, 1), method="etdrk4(h=0.1)", save=[0, 1])
    for name in ("u.h5", "u.zarr", "u.npz"):
        s.save(tmp_path / name)
    wanted = s.psi.numpy()
    with h5py.File(tmp_path / "u.h5") as file:
        np.testing.assert_array_equal(file["psi"][...], wanted)
    np.testing.assert_array_equal(np.asarray(zarr.open_group(str(tmp_path / "u.zarr"))["psi"]), wanted)
    np.testing.assert_array_equal(np.load(tmp_path / "u.npz")["psi"], wanted)


def test_data_sets_of_complex_fields(tmp_path: Path) -> None:
    run = (
        "solve Soliton(g ~ uniform(0.9, 1.1)) as sweep:\n    span = 0..0.2\n    grid = fourier(16)\n"
        "    method = etdrk4(h=0.1)\n"
        '    save = [0.1, 0.2]\n    ensemble = 4\n    portion = 2\n    write = "sweep.h5"\n'
    )
    domains, _, soliton, *_ = PROGRAM.split("\nmodel ")
    (tmp_path / "m.ndl").write_text(f"{domains}\nmodel {soliton}\n{run}")
    ndl.load(str(tmp_path / "m.ndl")).run("sweep")
    table = store(tmp_path / "sweep.h5", "sweep.h5")
    psi = table.take(torch.tensor([1, 3])).columns["psi"]
    assert psi.dtype == torch.complex128
    assert psi.shape == (2, 2, 16)
    start = table.take(torch.tensor([0])).columns["initial_psi"][0]
    x = np.linspace(-20, 20, 16, endpoint=False)
    np.testing.assert_allclose(start.numpy(), np.exp(1j * x) / np.cosh(x), atol=1e-14)


def test_pictures(models: Any) -> None:
    s = ndl.solve(models("Soliton", "fourier(32)")(), span=(0, 1), method="etdrk4(h=0.1)", save="every 0.1")
    labels = [a.get_ylabel() for a in s.plot().axes]
    assert "abs(psi)" in labels
    assert "real(psi)" in labels
    spectrum = s.plot("psi", kind="spectrum")
    assert len(spectrum.axes) == 1
