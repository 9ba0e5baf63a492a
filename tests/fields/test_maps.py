"""Linear maps as values: functions of `lap` and of matrices."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.eigen import symmetric_power

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
        ("w = (q -> q^2)^2 @ u", "fourier(16)", "NDL475"),
        ("w = (q -> q*dx(q)) @ u", "fourier(16)", "NDL475"),
        ("w = (q -> q + 1).T @ u", "fourier(16)", "NDL475"),
        ("w = (lap + 1) @ u", "fourier(16)", "NDL317"),
        ("w = (lap*lap) @ u", "fourier(16)", "NDL317"),
    ],
)
def test_what_has_no_meaning_says_so(formula: str, grid: str, code: str) -> None:
    with pytest.raises(NDLError, match=code):
        final(FIELD, formula, grid=grid)


# ------------------------------------------------------------ other grids

ROD = """
domain Rod = interval(x in 0..2)

model Wave:
    param k = 0.03
    state u: R on Rod = {start}
    u' = 0*u
    {conditions}
    {formulas}
"""
VALUES, SLOPES = "on boundary(Rod): u = 0", "on boundary(Rod): dn(u) = 0"


def rod(conditions: str, start: str, grid: str, *formulas: str) -> Any:
    made = ROD.format(start=start, conditions=conditions, formulas="\n    ".join(formulas))
    (model,) = ndl.loads(made).models.values()
    return ndl.solve(model, span=(0, 1), method="euler(h=1.0)", save="end", grid=grid).final


@pytest.mark.parametrize(
    ("conditions", "start", "grid"),
    [
        (VALUES, "sin(3*pi*x/2)", "uniform(25)"),
        (SLOPES, "cos(3*pi*x/2)", "uniform(25)"),
        (SLOPES, "cos(3*pi*x/2)", "uniform(24, at=cells)"),
        ("on left(Rod): u = 0\n    on right(Rod): dn(u) = 0", "sin(5*pi*x/4)", "uniform(21)"),
    ],
)
def test_modes_of_the_difference_of_order_2(conditions: str, start: str, grid: str) -> None:
    """What is a mode of the grid is multiplied by a function of -4 sin^2(k h/2)/h^2, to rounding."""
    h = 2 / (24 if "24" in grid or "25" in grid else 20)
    wave = 3 * math.pi / 2 if "3*pi" in start else 5 * math.pi / 4
    mode = -4 * math.sin(wave * h / 2) ** 2 / h**2
    formulas = {
        "a = exp(k*lap) @ u": math.exp(0.03 * mode), "b = (identity - k*lap)^-1 @ u": 1 / (1 - 0.03 * mode),
        "c = (-lap)^0.7 @ u": (-mode) ** 0.7, "d = lap^-1 @ u": 1 / mode, "e = (lap @ lap)^0.5 @ u": -mode,
        "f = (q -> 2*q - k*dxx(q)/3)^-1 @ (2*u)": 2 / (2 - 0.01 * mode),
        "g = exp(k*lap) @ (identity - lap)^-1 @ u": math.exp(0.03 * mode) / (1 - mode),
    }  # fmt: skip
    s = rod(conditions, start, grid, *formulas)
    for formula, factor in formulas.items():
        torch.testing.assert_close(s[formula[0]], factor * s.u, rtol=0, atol=1e-11)


@pytest.mark.parametrize("grid", ["uniform(15, order=4)", "chebyshev(15)", "uniform(15, at=cells)"])
@pytest.mark.parametrize("conditions", [VALUES, SLOPES])
def test_functions_of_other_matrices_by_scipy(grid: str, conditions: str) -> None:
    """The matrix of the map is made column by column; any field, which is no eigenvector."""
    values = conditions == VALUES
    pinned = values and "cells" not in grid
    formulas = [
        "a = exp(k*lap) @ u",
        "b = (identity - k*lap)^-1 @ u",
        "c = (-lap)^0.5 @ lap^-1 @ u",
        "v = lap(u)",
    ]
    found = rod(conditions, "x*(2 - x)*(1 + x^2)", grid, *formulas)
    (model,) = ndl.loads(ROD.format(start="0", conditions=conditions, formulas="v = lap(u)")).models.values()
    inside = slice(1, -1) if pinned else slice(None)
    columns = []
    for row in torch.eye(15, dtype=torch.float64)[inside]:
        s = ndl.solve(model.on(grid)(u=row), span=(0, 1), method="euler(h=1.0)", save="end").final
        columns.append(s.v[inside].detach())
    A, u = torch.stack(columns, 1).numpy(), found.u[inside].detach().numpy()
    eye = np.eye(len(A))
    v, a, b, c = (found[name][inside].detach().numpy() for name in "vabc")
    np.testing.assert_allclose(v, A @ u, atol=1e-9)
    np.testing.assert_allclose(a, scipy.linalg.expm(0.03 * A) @ u, atol=1e-9)
    np.testing.assert_allclose(b, np.linalg.solve(eye - 0.03 * A, u), atol=1e-9)
    if values:
        root = scipy.linalg.fractional_matrix_power(-A, 0.5)
        np.testing.assert_allclose(c, -np.linalg.solve(-A, root @ u).real, atol=1e-9)


def test_boxes_with_periodic_and_other_axes() -> None:
    text = """
domain Channel = periodic(x in 0..2*pi) * interval(y in 0..pi, z in 0..1)
model Wave:
    param k = 0.1
    state u: R on Channel = sin(2*x)*sin(y)*cos(pi*z)
    u' = -k*((-lap)^0.5 @ u)
    on bottom(Channel): u = 0
    on top(Channel): u = 0
    on front(Channel): dn(u) = 0
    on back(Channel): dn(u) = 0
"""
    (model,) = ndl.loads(text).models.values()
    made = model.on("[fourier(6), chebyshev(15), chebyshev(15)]")(k=0.3)
    s = ndl.solve(made, span=(0, 1), method="rk4(h=0.02)", save="end", gradient="discrete")
    root = math.sqrt(4 + 1 + math.pi**2)
    start = made.initial_values()["u"]
    torch.testing.assert_close(s.final.u.detach(), math.exp(-0.3 * root) * start, rtol=0, atol=1e-7)
    (slope,) = torch.autograd.grad((s.final.u * start).sum(), [made.k])
    wanted = -root * math.exp(-0.3 * root) * float((start**2).sum())
    assert float(slope) == pytest.approx(wanted, rel=1e-6)


def test_complex_fields_under_maps() -> None:
    text = FIELD.replace("R on Ring = sin(2*pi*x) + 2", "C on Ring = exp(2i*pi*x)")
    s = final(text, "a = exp(1i*k*lap) @ u", "b = exp(0.1*(q -> 1i*dx(q))) @ u", "c = norm(u, -lap)")
    torch.testing.assert_close(s.a, cmath.exp(-0.01j * SQUARE) * s.u, rtol=0, atol=1e-12)
    torch.testing.assert_close(s.b, math.exp(-0.2 * math.pi) * s.u, rtol=0, atol=1e-12)
    assert float(s.c) == pytest.approx(2 * math.pi, rel=1e-12)
    made = ROD.format(start="sin(pi*x)*(1 + 2i)", conditions=VALUES, formulas="a = exp(1i*k*lap) @ u")
    (model,) = ndl.loads(made.replace("u: R", "u: C")).models.values()
    s = ndl.solve(model, span=(0, 1), method="euler(h=1.0)", save="end", grid="chebyshev(20)").final
    torch.testing.assert_close(s.a, cmath.exp(-0.03j * math.pi**2) * s.u, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("conditions", "formula", "code"),
    [
        ("", "exp(lap) @ u", "NDL590"),
        ("on left(Rod): u = 0", "exp(lap) @ u", "NDL590"),
        (VALUES, "(q -> q^2)^-1 @ u", "NDL475"),
    ],
)
def test_other_grids_say_what_they_lack(conditions: str, formula: str, code: str) -> None:
    with pytest.raises(NDLError, match=code):
        rod(conditions, "sin(pi*x)", "uniform(17)", f"w = {formula}")


# ------------------------------------------------------------ transposes and derivatives

TURNED = """
domain Box = interval(x in 0..1, y in 0..2)
model P:
    state u: R on Box = sin(x)*y
    state v: R on Box = x + y^2
    u' = 0*u
    v' = 0*v
    on boundary(Box): u = 0
    f = lap(u) + u^3
    a = jac(f, u) @ v
    b = lap(v) + 3*u^2*v
    c = integral((q -> x*dx(q) + 2*q) @ u*v, [x, y] in Box)
    d = integral(u*((q -> x*dx(q) + 2*q).T @ v), [x, y] in Box)
    h = integral(((lap @ (q -> dy(q))) @ v)*u, [x, y] in Box)
    k = integral(((lap @ (q -> dy(q))).T @ u)*v, [x, y] in Box)
model V:
    state x: R[3] = [1, 2, 0.5]
    x' = 0*x
    g = [x[0]*x[1], sin(x[2])]
    a = jac(g, x) @ [1, 2, 3]
    b = jac(g, x).T @ [1, 2]
    M = jac(g, x)
    c = M @ [1, 2, 3]
    d = M.T @ [1, 2]
    e = (w -> 2*w - x*dot(w, x)).T @ x
"""


@pytest.mark.parametrize("grid", ["uniform(9, 8)", "uniform(9, 8, order=4)", "chebyshev(9, 8)"])
def test_transposes_and_derivatives_of_fields(grid: str) -> None:
    """<A v, w> and <v, A.T w> by the grid's integral; the derivative of lap(u) + u^3 along v."""
    program = ndl.loads(TURNED)
    s = ndl.solve(program.models["P"], span=(0, 1), method="euler(h=1.0)", save="end", grid=grid).final
    torch.testing.assert_close(s.a, s.b, rtol=0, atol=1e-9)
    assert float(s.c) == pytest.approx(float(s.d), rel=1e-11)
    assert float(s.h) == pytest.approx(float(s.k), rel=1e-9)


def test_products_with_jacobians_are_those_of_the_matrix() -> None:
    (v,) = (ndl.loads(TURNED).models["V"],)
    s = ndl.solve(v, span=(0, 1), method="euler(h=1.0)", save="end").final
    torch.testing.assert_close(s.a, s.c)
    torch.testing.assert_close(s.b, s.d)
    torch.testing.assert_close(s.e, 2 * s.x - s.x * (s.x @ s.x))


# ------------------------------------------------------------ symmetric matrices

MATRICES = """
model V:
    param A: R[3, 3] = [[2, 1, 0], [1, 3, 0.5], [0, 0.5, 1]]
    param B: R[3, 3] = [[1, 2, 0], [0, 1, 0.5], [3, 0.5, 1]]
    param s = 0.5
    state x: R[3] = [1, 2, 0.5]
    S = (B + B.T)/2 + 4*eye(3)
    r = (B.T @ B)^0.5 @ x
    rr = (B.T @ B)^0.5 @ r
    q = (S^s) @ x
    w, v = eig(S)
    h = A^-2 @ x
    z = [[4, 0], [0, 9]]^0.5 @ [1, 1]
    total = dot(q, [1, 2, 3]) + dot(w, [1, -1, 2]) + v[0, 1]
    x' = 0*x
"""


def test_powers_and_eigenvalues_of_symmetric_matrices() -> None:
    s = ndl.solve(
        ndl.loads(MATRICES).models["V"], span=(0, 1), method="euler(h=1.0)", save="end", gradient="discrete"
    )
    model, s = s.problem.model, s.final
    A, B, x = model.A, model.B, s.x
    torch.testing.assert_close(s.rr, B.mT @ B @ x)
    torch.testing.assert_close(s.q, torch.from_numpy(scipy.linalg.sqrtm(s.S.detach().numpy())) @ x)
    torch.testing.assert_close(s.S @ s.v.mT, s.v.mT * s.w)
    torch.testing.assert_close(s.h, torch.linalg.solve(A @ A, x))
    torch.testing.assert_close(s.z, torch.tensor([2.0, 3.0], dtype=torch.float64))
    slopes = torch.autograd.grad(s.total, [B, model.s])
    for k, (name, slope) in enumerate(zip(("B", "s"), slopes)):
        way = torch.cos(torch.arange(9.0).double()).reshape(3, 3) if k == 0 else torch.tensor(1.0)
        ends = []
        for e in (1e-5, -1e-5):
            moved = model.bind(**{name: getattr(model, name).detach() + e * way})
            ends.append(ndl.solve(moved, span=(0, 1), method="euler(h=1.0)", save="end").final.total.detach())
        assert float((slope * way).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-7)


def test_the_derivative_of_a_power_where_eigenvalues_are_equal() -> None:
    """(I + e E)^s = I + s e E + …; by a pullback and along a direction."""
    eye, E = torch.eye(3, dtype=torch.float64), torch.tensor([[0.0, 1, 2], [1, 3, 0], [2, 0, 1]]).double()
    found = torch.func.jvp(lambda A: symmetric_power(A, 0.3), (eye,), (E,))[1]
    torch.testing.assert_close(found, 0.3 * E)
    A = eye.clone().requires_grad_()
    (back,) = torch.autograd.grad(symmetric_power(A, 0.3), A, E)
    torch.testing.assert_close(back, 0.3 * E)


@pytest.mark.parametrize("formula", ["B^0.5 @ x", "B^s @ x", "eig(B @ A)[0]", "(B.T @ A)^0.5 @ x"])
def test_what_is_not_known_to_be_symmetric_is_refused(formula: str) -> None:
    with pytest.raises(NDLError, match="NDL472"):
        _ = ndl.loads(f"{MATRICES}    no = {formula}\n").models["V"]
