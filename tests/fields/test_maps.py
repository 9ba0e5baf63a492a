"""Linear maps as values: functions of `lap` and of matrices."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

FIELD = """
domain Ring = periodic(x in 0..1)

model Wave:
    param k = 0.01
    state u: R on Ring = sin(2*pi*x) + 2
    u' = 0*u
    {formulas}
"""
MATRIX = """
model Linear:
    param A: R[2, 2] = [[2, 1], [1, 3]]
    state v: R[2] = [1, 0.5]
    v' = 0*v
    {formulas}
"""


def final(text: str, *formulas: str, grid: str | None = "fourier(16)") -> Any:
    (model,) = ndl.loads(text.format(formulas="\n    ".join(formulas))).models.values()
    more = {} if grid is None else {"grid": grid}
    return ndl.solve(model, span=(0, 1), method="euler(h=1.0)", save="end", **more).final


SQUARE = 4 * math.pi**2


@pytest.mark.parametrize(
    ("formula", "wave", "mean"),
    [
        ("exp(k*lap) @ u", math.exp(-0.01 * SQUARE), 2.0),
        ("(identity - k*lap)^-1 @ u", 1 / (1 + 0.01 * SQUARE), 2.0),
        ("(2*identity + lap @ lap)^-1 @ u", 1 / (2 + SQUARE**2), 1.0),
        ("(-lap)^0.5 @ u", 2 * math.pi, 0.0),
        ("(-lap)^-0.5 @ u", 1 / (2 * math.pi), 0.0),
        ("(k*lap) @ u", -0.01 * SQUARE, 0.0),
        ("(lap/2 - (q -> 3*q)) @ u", -SQUARE / 2 - 3, -6.0),
        ("exp(-k*(-lap)^1.5) @ u", math.exp(-0.01 * (2 * math.pi) ** 3), 2.0),
    ],
)
def test_functions_of_the_laplacian(formula: str, wave: float, mean: float) -> None:
    s = final(FIELD, f"w = {formula}")
    x = torch.arange(16, dtype=torch.float64) / 16
    assert float((s.w - wave * torch.sin(2 * math.pi * x) - mean).abs().max()) < 1e-12 * max(1, abs(wave))


def test_the_exponential_of_a_derivative_moves() -> None:
    s = final(FIELD, "w = exp(0.1*(q -> dx(q))) @ u", "b = (identity + (q -> dx(q)))^-1 @ u")
    x = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    assert float((s.w - torch.sin(x + 0.2 * math.pi) - 2).abs().max()) < 1e-13
    wanted = (torch.sin(x) - 2 * math.pi * torch.cos(x)) / (1 + SQUARE) + 2
    assert float((s.b - wanted).abs().max()) < 1e-13


def test_sums_of_maps_act_on_any_grid() -> None:
    s = final(FIELD, "w = (identity + k*lap) @ u", "v = u + k*lap(u)", grid="uniform(16)")
    assert torch.equal(s.w, s.v)


def test_a_rate_by_a_fractional_laplacian_and_its_gradient() -> None:
    text = FIELD.replace("u' = 0*u", "u' = -k*((-lap)^0.5 @ u)").format(formulas="")
    (model,) = ndl.loads(text).models.values()
    made = model.on("fourier(16)")(k=0.3)
    method = "tsit5(rtol=1e-10, atol=1e-12)"
    s = ndl.solve(made, span=(0, 1), method=method, save="end", gradient="discrete").final
    decay = math.exp(-0.3 * 2 * math.pi)
    assert float(s.u[4]) == pytest.approx(2 + decay, abs=1e-9)
    (slope,) = torch.autograd.grad(s.u[4], [made.k])
    assert float(slope) == pytest.approx(-2 * math.pi * decay, rel=1e-8)


def test_matrices_before_a_product() -> None:
    s = final(MATRIX, "e = exp(0.1*A) @ v", "p = A^3 @ v", "q = norm(v, A)", "square = A^2", grid=None)
    A, v = torch.tensor([[2.0, 1], [1, 3]], dtype=torch.float64), torch.tensor([1, 0.5], dtype=torch.float64)
    torch.testing.assert_close(s.e, torch.linalg.matrix_exp(0.1 * A) @ v)
    torch.testing.assert_close(s.p, A @ A @ A @ v)
    torch.testing.assert_close(s.q, (v @ A @ v).sqrt())
    torch.testing.assert_close(s.square, A**2)


def test_norms_of_fields_by_a_map() -> None:
    s = final(FIELD, "h1 = norm(u - 2, identity - lap)", "dual = norm(u - 2, (-lap)^-1)")
    assert float(s.h1) == pytest.approx(math.sqrt((1 + SQUARE) / 2), rel=1e-12)
    assert float(s.dual) == pytest.approx(math.sqrt(1 / SQUARE / 2), rel=1e-12)


@pytest.mark.parametrize(
    ("formula", "grid", "code"),
    [
        ("w = exp(lap) @ u", "uniform(16)", "NDL490"),
        ("w = (q -> q^2)^2 @ u", "fourier(16)", "NDL490"),
        ("w = (lap + 1) @ u", "fourier(16)", "NDL317"),
        ("w = (lap*lap) @ u", "fourier(16)", "NDL317"),
    ],
)
def test_what_has_no_meaning_says_so(formula: str, grid: str, code: str) -> None:
    with pytest.raises(NDLError, match=code):
        final(FIELD, formula, grid=grid)
