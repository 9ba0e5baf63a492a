"""Complex states: against SciPy, closed forms and finite differences; kernels and torch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import ndl

PROGRAM = """
model Functions:
    param c = 0.5
    state z: C[2] = [1, 1i]
    root = log(3 + z)^0.5/(1 + tan(z)^2)
    z' = exp(1i*z) - c*sqrt(z) + sin(z)*[1i, 2] + z^3/(2 + z) - conj(z)*cosh(z)/4 + root

model Turning:
    param w = 2.0, a = 0.1
    state z: C = 1 + 0.5i
    z' = 1i*w*z - a*z*abs(z)^2
    size  = abs(z)
    angle = imag(log(z))
    square = z^2

model Struck:
    state z: C = 1, n = 0
    z' = 1i*z
    n' = 0
    when rising(imag(z)):
        z <- conj(z)*2i
        n <- n + 1

model Twice:
    state x: C = 1
    state x' = 0
    x'' = (-1 + 0.2i)*x

model Second:
    noise W: wiener[2]
    state z: C = 1
    dz = (-1 + 2i)*z*dt + 0.5*dW[0] + 0.5i*dW[1]

model Geometric:
    noise W: wiener[2]
    state z: C[2] = [1, 1 + 1i]
    dz = -0.045*z*dt + 0.3i*z*dW
"""
EXACT = "tsit5(rtol=1e-11, atol=1e-13)"


@pytest.fixture(scope="module")
def models() -> Any:
    return ndl.loads(PROGRAM).models


def functions(t: float, z: np.ndarray, c: float = 0.5) -> np.ndarray:
    root = np.log(3 + z) ** 0.5 / (1 + np.tan(z) ** 2)
    return np.asarray(
        np.exp(1j * z) - c * np.sqrt(z) + np.sin(z) * np.array([1j, 2]) + z**3 / (2 + z)
        - np.conj(z) * np.cosh(z) / 4 + root
    )  # fmt: skip


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_functions_are_those_of_numpy(models: Any, backend: str) -> None:
    start = np.array([0.4 + 0.2j, -0.3j])
    wanted = solve_ivp(functions, (0, 1), start, rtol=1e-11, atol=1e-13).y[:, -1]
    s = ndl.solve(models["Functions"](z=start), span=(0, 1), method=EXACT, save="end", backend=backend)
    np.testing.assert_allclose(s.final.z.numpy(), wanted, rtol=0, atol=1e-9)
    assert s.final.z.dtype == torch.complex128


@pytest.mark.parametrize(
    "method", ["rodas5(rtol=1e-9, atol=1e-11)", "kvaerno5(rtol=1e-9, atol=1e-11)", "taylor()"]
)
def test_methods_for_stiff_systems_and_series(models: Any, method: str) -> None:
    s = ndl.solve(models["Turning"](), span=(0, 1), method=method, save="end")
    size = 1 / np.sqrt(1 / 1.25 + 0.2)
    turned = size * np.exp(2j) * (1 + 0.5j) / np.sqrt(1.25)
    assert abs(complex(s.final.z) - turned) < 1e-7
    assert float(s.final.size) == pytest.approx(size, abs=1e-7)
    assert complex(s.final.square) == pytest.approx(complex(s.final.z) ** 2, abs=1e-14)


def loss(model: Any, w: Any, z: Any, **settings: Any) -> torch.Tensor:
    s = ndl.solve(model.bind(w=w, z=z), span=(0, 1), method="rk4(h=0.05)", save="end", **settings)
    made = (s.final.z - 1j).abs() ** 2 + s.final.z.real * s.final.angle
    assert isinstance(made, torch.Tensor)
    return made


@pytest.mark.parametrize("settings", [
    {"gradient": "discrete", "backend": "torch"}, {"gradient": "discrete", "backend": "cpu"},
    {"gradient": "checkpoint(3)"}, {"gradient": "adjoint"},
])  # fmt: skip
def test_gradients_are_those_of_differences(models: Any, settings: dict[str, Any]) -> None:
    model, eps = models["Turning"](), 1e-6
    w = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    z = torch.tensor(1 + 0.5j, dtype=torch.complex128, requires_grad=True)
    dw, dz = torch.autograd.grad(loss(model, w, z, **settings), [w, z])
    apart = 1e-5 if settings["gradient"] == "adjoint" else 1e-8  # that of the equation, not of its steps

    def slope(dw: float, dz: complex) -> float:
        up, down = (
            loss(model, 2.0 + s * dw, torch.tensor(1 + 0.5j + s * dz, dtype=torch.complex128))
            for s in (1, -1)
        )
        return float(up - down) / (2 * eps)

    assert float(dw) == pytest.approx(slope(eps, 0), abs=apart)
    assert complex(dz) == pytest.approx(complex(slope(0, eps), slope(0, 1j * eps)), abs=apart)


def test_the_size_has_slope_0_at_0() -> None:
    text = (
        "model M:\n    param a = 0.0\n    state z: C = a + 0i\n"
        "    z' = 1i*z*abs(z)^2 + 0*abs(z)\n    s = abs(z)^2 + abs(z)\n"
    )
    a = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    s = ndl.solve(
        ndl.loads(text).models["M"]().bind(a=a), span=(0, 1), method="rk4(h=0.1)", gradient="discrete"
    )
    (g,) = torch.autograd.grad(s.final.s, [a])
    assert float(g) == 0.0


def test_events_read_and_set_complex_states(models: Any) -> None:
    s = ndl.solve(models["Struck"](z=1j), span=(0, 7), method=EXACT, save="end")
    # from i it turns to -1, through -i, and at 1 its imaginary part rises: then it is 2i, and so on
    fired = [3 * np.pi / 2]
    np.testing.assert_allclose(s.events.t.numpy(), fired, atol=1e-8)
    assert complex(s.final.z) == pytest.approx(2j * np.exp(1j * (7 - fired[0])), abs=1e-8)
    assert float(s.final.n) == 1


def test_second_order(models: Any) -> None:
    s = ndl.solve(models["Twice"](), span=(0, 2), method=EXACT, save="end")
    assert complex(s.final.x) == pytest.approx(np.cos(2 * np.sqrt(1 - 0.2j)), abs=1e-9)


def test_noise_moves_both_parts(models: Any) -> None:
    s = ndl.solve(models["Second"](), span=(0, 1), method="euler_maruyama(h=0.01)", ensemble=4000, save="end")
    mean = s.final.z.mean()
    assert abs(complex(mean) - np.exp(-1 + 2j)) < 0.03
    assert float(((s.final.z - mean).abs() ** 2).mean()) == pytest.approx((1 - np.exp(-2)) / 4, abs=0.02)
    s = ndl.solve(models["Geometric"](), span=(0, 1), method="euler_heun(h=0.002)", ensemble=50, save="end")
    wanted = np.array([1, 1 + 1j]) * np.exp(0.3j * s.final.W.numpy())
    np.testing.assert_allclose(s.final.z.numpy(), wanted, atol=0.02)


def test_a_table_has_both_parts(models: Any, tmp_path: Path) -> None:
    s = ndl.solve(models["Turning"](), span=(0, 1), method="rk4(h=0.5)")
    s.save(tmp_path / "z.csv")
    rows = list(csv.DictReader((tmp_path / "z.csv").open()))
    found = [complex(float(r["z.real"]), float(r["z.imag"])) for r in rows]
    np.testing.assert_array_equal(found, s.z.numpy())
    s.save(tmp_path / "z.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "z.npz")["z"], s.z.numpy())
