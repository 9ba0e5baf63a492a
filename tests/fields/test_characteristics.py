"""Fluxes of systems wave by wave: the projectors, Sod's tube, smooth waves, what is not served."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.ir.graph import Function, Graph
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.speeds import eigenvalues, few_eigenvalues
from ndl.compiler.lower.waves import many_projectors, projectors
from ndl.compiler.types import Dim
from ndl.compiler.types import Tensor as Type
from test_shocks import PLANE, TUBE, riemann

RING = """
domain Ring = periodic(x in 0..1)

model M:
    state h: R on Ring = 1 + 0.2*sin(2*pi*x)
    state q: R on Ring = 0.3*cos(2*pi*x)
    h' = -dx(q)
    q' = -dx(q^2/h + 0.5*h^2)
"""
HOW = "weno5, fluxes=characteristic"
UPWIND = "scheme=upwind, fluxes=characteristic"


@pytest.mark.parametrize("n", [2, 3])
def test_projectors_are_those_of_numpy(n: int) -> None:
    """Of random matrices with real eigenvalues, some of which nearly meet; their sum is always 1."""
    random = np.random.default_rng(3)
    graph = Graph()
    kind = Type("R", (Dim.of(20),))
    a = [[graph.add("input", type=kind, name=f"a{i}{j}") for j in range(n)] for i in range(n)]
    p = Pointwise(graph)
    made = projectors(p, a, eigenvalues(p, a))
    outputs = tuple((f"p{k}{i}{j}", made[k][i][j]) for k in range(n) for i in range(n) for j in range(n))
    function = Function("f", graph, tuple(x for row in a for x in row), outputs)
    vectors, values = random.normal(size=(20, n, n)), np.sort(random.normal(size=(20, n)), -1)
    values[0, 1] = values[0, 0] + 1e-5
    values[1] = 0.3
    matrices = vectors @ (values[:, :, None] * np.linalg.inv(vectors))
    inputs = {f"a{i}{j}": torch.tensor(matrices[:, i, j]) for i in range(n) for j in range(n)}
    got = interpret(function, inputs, {})
    found = np.array([[[got[f"p{k}{i}{j}"].numpy() for j in range(n)] for i in range(n)] for k in range(n)])
    found = np.moveaxis(found, -1, 0)
    for m in range(2, 20):
        gap = np.diff(values[m]).min()
        for k in range(n):
            wanted = np.outer(vectors[m, :, k], np.linalg.inv(vectors[m])[k])
            assert np.abs(found[m, k] - wanted).max() < 1e-9 / gap * np.abs(wanted).max()
    assert np.abs(found.sum(1) - np.eye(n)).max() < 1e-9


def test_the_shock_tube_is_sharper_and_has_no_overshoots() -> None:
    errors, over = [], []
    for scheme in ("weno5", HOW):
        s = solved(TUBE, f"uniform(80, scheme={scheme}, at=cells)", "0..0.2", "ssprk3(cfl=0.5)")
        errors.append(float((s.final.rho - riemann((s.grid.x - 0.5) / 0.2)).abs().mean()))
        over.append(float(s.final.rho.diff().clamp(min=0).sum()))
    assert errors[1] < 0.93 * errors[0]
    assert over[0] > 5e-3 and over[1] < 1e-3


def test_smooth_waves_converge_with_order_five() -> None:
    """Shallow water before its waves break, against a Fourier grid; sums stay as they are."""
    exact = solved(RING, "fourier(96)", "0..0.1", "rk4(h=0.001)").final.h
    errors = []
    for n in (24, 48):
        s = solved(RING, f"uniform({n}, scheme={HOW})", "0..0.1", "ssprk54(h=0.001)", save="[0, 0.1]")
        errors.append(float((s.final.h - exact[:: 96 // n]).abs().mean()))
        assert float((s.h[-1].sum() - s.h[0].sum()).abs()) < 1e-11 * n
    assert math.log2(errors[0] / errors[1]) > 4.3, errors


def test_sweeps_agree_with_torch() -> None:
    runs = [
        solved(RING, f"uniform(32, {UPWIND})", "0..0.02", "ssprk2(h=0.002)", backend=b).final.h
        for b in ("torch", "cpu")
    ]
    assert float((runs[0] - runs[1]).abs().max()) < 1e-12


def test_a_scalar_is_the_same_either_way() -> None:
    line = "domain Line = interval(x in 0..1)\n\nmodel M:\n"
    text = line + "    state u: R on Line = exp(-50*(x - 0.3)^2)\n    u' = -dx(u^2/2)\n"
    a, b = (
        solved(text, f"uniform(40, scheme={s})", "0..0.1", "ssprk2(cfl=0.4)").final.u for s in ("weno5", HOW)
    )
    assert float((a - b).abs().max()) < 1e-13


@pytest.mark.parametrize("double", [(0, 1, 1, 2), (0, 0, 2, 2, 2), (0, 1, 1, 1, 2), (0, 0, 1, 2, 2, 2)])
def test_few_different_speeds_of_many_unknowns(double: tuple[int, ...]) -> None:
    """Eigenvalues and projectors of matrices some of whose eigenvalues are double or triple."""
    random, n = np.random.default_rng(5), len(double)
    different = sorted(set(double))
    graph = Graph()
    kind = Type("R", (Dim.of(12),))
    a = [[graph.add("input", type=kind, name=f"a{i}{j}") for j in range(n)] for i in range(n)]
    p = Pointwise(graph)
    speeds = few_eigenvalues(p, a, len(different))
    made = projectors(p, a, speeds)
    places = [(k, i, j) for k in range(len(different)) for i in range(n) for j in range(n)]
    outputs = [(f"p{k}{i}{j}", made[k][i][j]) for k, i, j in places]
    outputs += [(f"s{k}", s) for k, s in enumerate(speeds)]
    function = Function("f", graph, tuple(x for row in a for x in row), tuple(outputs))
    vectors = random.normal(size=(12, n, n))
    values = np.cumsum(random.uniform(0.5, 2, size=(12, 3)), -1) - 2
    inverse = np.linalg.inv(vectors)
    matrices = vectors @ (values[:, list(double), None] * inverse)
    got = interpret(
        function, {f"a{i}{j}": torch.tensor(matrices[:, i, j]) for i in range(n) for j in range(n)}, {}
    )
    for k, value in enumerate(different):
        assert np.abs(got[f"s{k}"].numpy() - values[:, value]).max() < 1e-6
        found = np.array([[got[f"p{k}{i}{j}"].numpy() for j in range(n)] for i in range(n)])
        own = np.array(double) == value
        wanted = np.moveaxis(vectors[:, :, own] @ inverse[:, own], 0, -1)
        assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()


def test_gas_in_the_plane_converges_with_order_five() -> None:
    """Four unknowns with three speeds: a wave of density in a flow along the diagonal."""
    errors = []
    for n in (12, 24):
        s = solved(PLANE, f"uniform({n}, {n}, scheme={HOW})", "0..0.05", "ssprk3(cfl=0.25)")
        exact = 1 + 0.2 * torch.sin(2 * math.pi * (s.grid.x + s.grid.y - 0.1))
        errors.append(float((s.final.rho - exact).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > 4.6, errors


def test_a_tube_in_the_plane_is_that_of_the_line() -> None:
    wide = PLANE.replace("periodic(x in 0..1, y in 0..1)", "interval(x in 0..1) * periodic(y in 0..1)")
    step = "if x < 0.5 then {} else {}"
    for old, new in {
        "1 + 0.2*sin(2*pi*(x + y))": step.format(1, 0.125),
        "[1, 1]*(" + step.format(1, 0.125) + ")": "[0, 0]",
        "3.5 + 0.2*sin(2*pi*(x + y))": step.format(2.5, 0.25),
    }.items():
        assert old in wide
        wide = wide.replace(old, new, 1 if old.startswith("3.5") else -1)
    found = [
        solved(text, f"uniform({n}, scheme={HOW}, at=cells)", "0..0.05", "ssprk3(h=0.005)").final
        for text, n in ((TUBE, "30"), (wide, "30, 6"))
    ]
    for name in ("rho", "E"):
        assert float((found[1][name] - found[0][name][:, None]).abs().max()) < 1e-9
    assert float(found[1].m[..., 1].abs().max()) < 1e-9


FOUR = """
domain Ring = periodic(x in 0..1)

model M:
    state u: R[4] on Ring = [cos(2*pi*x), 0.5*sin(4*pi*x), 0, sin(2*pi*x)]
    u' = -dx([u[1], 2*u[0] + u[2], u[1] + 3*u[3], u[2]])
"""
LAYERS = """
domain Ring = periodic(x in 0..1)

model M:
    state h: R on Ring = 1 + 0.1*sin(2*pi*x)
    state q: R on Ring = 0.2*cos(2*pi*x)
    state g: R on Ring = 0.8 + 0.05*cos(2*pi*x)
    state r: R on Ring = 0.1
    state c: R on Ring = 1 + 0.5*sin(2*pi*x)
    h' = -dx(q)
    q' = -dx(q^2/h + 0.5*h^2 + 0.3*h*g)
    g' = -dx(r)
    r' = -dx(r^2/g + 0.5*g^2 + 0.3*h*g)
    c' = -dx(c*q/h)
"""


def test_four_speeds_carry_their_waves() -> None:
    """Each amplitude, by the left eigenvectors of the matrix, moves with its own speed."""
    A = np.array([[0, 1, 0, 0], [2, 0, 1, 0], [0, 1, 0, 3], [0, 0, 1, 0.0]])
    speeds, vectors = np.linalg.eig(A)
    errors = []
    for n in (24, 48):
        s = solved(FOUR, f"uniform({n}, scheme={HOW})", "0..0.1", "ssprk54(cfl=0.5)")
        y = s.grid.x.numpy()[:, None] - 0.1 * speeds
        z = 2 * np.pi * y
        start = np.stack([np.cos(z), 0.5 * np.sin(2 * z), 0 * z, np.sin(z)], -1)  # [x, wave, component]
        amplitudes = np.einsum("wc,xwc->xw", np.linalg.inv(vectors), start)
        errors.append(np.abs(s.final.u.numpy() - amplitudes @ vectors.T).mean())
    assert math.log2(errors[0] / errors[1]) > 4.3, errors


def test_five_speeds_of_layers_of_water() -> None:
    """Two coupled layers and what the first carries, against a Fourier grid."""
    exact = solved(LAYERS, "fourier(96)", "0..0.1", "rk4(h=0.0025)").final
    errors = []
    for n in (24, 48):
        s = solved(LAYERS, f"uniform({n}, scheme={HOW})", "0..0.1", "ssprk54(h=0.0025)").final
        errors.append(sum(float((s[k] - exact[k][:: 96 // n]).abs().mean()) for k in "hqgrc"))
    assert math.log2(errors[0] / errors[1]) > 4.3, errors


@pytest.mark.parametrize("many", [(1, 1, 1, 1), (1,) * 7, (1, 2, 1, 1), (2, 1, 1, 1, 2)])
def test_many_different_speeds(many: tuple[int, ...]) -> None:
    """Eigenvalues, their derivatives tr(P_k dA) over how many they are, and projectors of random matrices, in
    both precisions."""
    random, n, d = np.random.default_rng(7), sum(many), len(many)
    graph = Graph()
    kind = Type("R", (Dim.of(16),))
    a = [[graph.add("input", type=kind, name=f"a{i}{j}") for j in range(n)] for i in range(n)]
    p = Pointwise(graph)
    speeds = few_eigenvalues(p, a, d)
    outputs = (*((f"s{k}", s) for k, s in enumerate(speeds)), ("P", many_projectors(p, a, speeds, 1)))
    vectors = np.linalg.qr(random.normal(size=(16, n, n)))[0] + 0.1 * random.normal(size=(16, n, n))
    values = np.cumsum(random.uniform(0.5, 2, size=(16, d)), -1) - 3
    inverse = np.linalg.inv(vectors)
    matrices = vectors @ (np.repeat(values, many, 1)[:, :, None] * inverse)
    wave = np.repeat(np.arange(d), many)
    exact = np.stack([vectors[:, :, wave == k] @ inverse[:, wave == k] for k in range(d)], 1)
    for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 2e-2)):
        A = torch.tensor(matrices, dtype=dtype, requires_grad=True)
        given = {f"a{i}{j}": A[:, i, j] for i in range(n) for j in range(n)}
        got = interpret(Function("f", graph, tuple(x for row in a for x in row), outputs), given, {})
        for k in range(d):
            found = got[f"s{k}"]
            assert np.abs(found.detach().numpy() - values[:, k]).max() < tolerance
            (slope,) = torch.autograd.grad(found.sum(), A, retain_graph=True)
            assert np.abs(many[k] * slope.mT.numpy() - exact[:, k]).max() < 10 * tolerance
        onto = got["P"].detach().numpy()
        assert np.abs(onto - exact).max() < 10 * tolerance
        assert np.abs(onto.sum(1) - np.eye(n)).max() < 1e-5


VORTEX = """
domain Omega = periodic(x in 0..10, y in 0..10)

model M:
    r2  = (x - 5)^2 + (y - 5)^2
    dT  = 0.4*25/(8*1.4*pi^2)*exp(1 - r2)
    s   = 5/(2*pi)*exp(0.5*(1 - r2))
    d   = (1 - dT)^2.5
    w   = [1 - s*(y - 5), 0.5 + s*(x - 5)]
    state rho: R on Omega = d
    state m: R[2] on Omega = d*w
    state E: R on Omega = d*(1 - dT)/0.4 + 0.5*d*(w[0]^2 + w[1]^2)
    v = m/rho
    p = 0.4*(E - 0.5*(m[0]*v[0] + m[1]*v[1]))
    rho' = -div(m)
    m' = -[div(m[0]*v + [p, 0]), div(m[1]*v + [0, p])]
    E' = -div((E + p)*v)
"""


def test_the_isentropic_vortex_is_translated() -> None:
    """Shu 1998, section 5.2: the vortex moves with the mean flow and stays what it is."""
    errors = []
    for n in (16, 32):
        s = solved(VORTEX, f"uniform({n}, {n}, scheme={HOW})", "0..0.3", "ssprk3(cfl=0.5)")
        r2 = (s.grid.x - 5.3) ** 2 + (s.grid.y - 5.15) ** 2
        exact = (1 - 0.4 * 25 / (8 * 1.4 * math.pi**2) * torch.exp(1 - r2)) ** 2.5
        errors.append(float((s.final.rho - exact).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > 2.5, errors


def test_what_is_not_served() -> None:
    ring = "domain Ring = periodic(x in 0..1)\n\nmodel M:\n"
    text = ring + "    state u: R[9] on Ring = 0*x\n"
    text += "    u' = -dx([u[1], u[2] + u[0], " + ", ".join(
        f"u[{k - 1}] + {k}*u[{k + 1}]" for k in range(2, 8)
    )
    text += ", u[7]])\n"
    with pytest.raises(NDLError, match="NDL454") as found:
        solved(text, f"uniform(8, scheme={HOW})", "0..0.1", "ssprk2(cfl=0.4)")
    assert "9 different speeds" in str(found.value)
    with pytest.raises(NDLError, match="goes with"):
        solved(RING, "uniform(8, scheme=mc, fluxes=characteristic)")
    with pytest.raises(NDLError, match="`components` or `characteristic`"):
        solved(RING, "uniform(8, scheme=weno5, fluxes=upwind)")
