"""Random fields with mixed conditions, conditions of components, on meshes, and by kernels: their exact
second moments, from the factor by which the compiled model multiplies standard normals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from field_problems import solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.geometry import modes, store
from ndl.compiler.geometry.modes import gram
from ndl.runtime.grids import grid_points
from scipy.special import jn_zeros

import ndl

ROD = """
domain Rod = interval(x in 0..1)

model M:
    const a = 3
    f: R on Rod ~ normal(0, (a^2*identity - lap)^-1)
    state u: R on Rod = 0
    u' = 0*u
    on left(Rod): LEFT
    on right(Rod): RIGHT
    out = f
"""


def root_of(text: str, grid: str, name: str = "f", out: str = "out", **bound: Any) -> torch.Tensor:
    """The field of each standard normal alone, `[normal, *grid, *components]`, of the compiled model."""
    model = ndl.loads(text, grid=grid).M(**bound)
    shape = next(d.shape for d in model.DRAWS if d.name == name)
    normals = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    t, x = torch.tensor(0.0, dtype=torch.float64), model.initial_state()
    made = model.bind(**{name: normals}).derived(out, t, x.expand(len(normals), -1))
    assert isinstance(made, torch.Tensor)
    return made


def moments(root: torch.Tensor) -> torch.Tensor:
    """The covariances of the values at all pairs of points."""
    flat = root.reshape(len(root), -1)
    return flat.mT @ flat


@pytest.mark.parametrize("grid", ["uniform(120)", "uniform(120, at=cells)", "chebyshev(160)"])
@pytest.mark.parametrize(("low", "high"), [(2.0, 0.7), (0.0, 5.0), (math.inf, 1.5)])
def test_greens_function_of_mixed_conditions(grid: str, low: float, high: float) -> None:
    """That of a^2 - d^2/dx^2 with dn(f) + b f = 0 at both ends: from the solutions that fit one end."""
    a = 3.0

    def condition(b: float) -> str:
        return "f = 0" if b == math.inf else f"{2 * b!r}*f + 2*dn(f) = 4"

    found = moments(root_of(ROD.replace("LEFT", condition(low)).replace("RIGHT", condition(high)), grid))
    x = grid_points(
        ndl.loads(ROD.replace("LEFT", "f = 0").replace("RIGHT", "f = 0"), grid=grid).M().GRIDS[0].layouts[0]
    )

    def fitting(b: float, s: torch.Tensor) -> torch.Tensor:
        ends = (0.0, 1.0) if b == math.inf else (a, b)
        return ends[0] * torch.cosh(a * s) + ends[1] * torch.sinh(a * s)

    near, far = torch.minimum(x[:, None], x), torch.maximum(x[:, None], x)
    first, last = fitting(low, near), fitting(high, 1 - far)
    one = torch.tensor([0.0, 1e-6], dtype=torch.float64)
    u, v = fitting(low, one), fitting(high, 1 - one)
    wronskian = float((u[1] - u[0]) * v[0] - (v[1] - v[0]) * u[0]) / 1e-6
    waves = 100
    assert (found - first * last / wronskian).abs().max() < 2.5 / (math.pi**2 * waves)


SHAPE = """
domain S = DOMAIN

model M:
    f: R on S ~ normal(0, (4*identity - 0.5*lap)^-1)
    state u: R on S = 0
    u' = 0*u
CONDITIONS
    out = f

model Equation:
    param g: R on S = 0
    state f: R on S = 0
    0 = 0.5*lap(f) - 4*f + g
CONDITIONS
"""
DISC = "{ x, y | x^2 + y^2 < 1 }"
MESHES = {
    "mixed in parts": (
        DISC,
        ["on boundary(S) if x > 0.2: (1 + y^2)*f + 2*dn(f) = 0", "on boundary(S) if not (x > 0.2): f = 0"],
        "fem(size=0.25)",
    ),
    "slope": (DISC, ["on boundary(S): dn(f) = 0"], "fem(size=0.3)"),
    "order 2": (
        "interval(x in 0..1, y in 0..2)",
        ["on left(S): 3*f + dn(f) = 0", *(f"on {p}(S): dn(f) = 0" for p in ("right", "top", "bottom"))],
        "fem(order=2, size=0.5)",
    ),
}


@pytest.mark.parametrize("case", MESHES)
def test_the_covariance_on_a_mesh_is_the_inverse_of_its_equation(case: str) -> None:
    """Of the equation that finite elements solve, with a unit of mass at one node as its right side."""
    domain, conditions, grid = MESHES[case]
    text = SHAPE.replace("DOMAIN", domain).replace("CONDITIONS", "\n".join("    " + c for c in conditions))
    found = moments(root_of(text, grid))
    equation = ndl.loads(text, grid=grid).Equation
    n = len(found)
    mass = mass_matrix(equation().GRIDS[0].mesh)
    for k in (3, n // 2, n - 1):
        unit = torch.zeros(n, dtype=torch.float64)
        unit[k] = 1.0
        s = ndl.solve(equation(g=unit), method="direct()")
        assert torch.allclose(s.final.f, found @ mass @ unit, atol=1e-10 * float(found.abs().max())), k


def mass_matrix(key: str) -> torch.Tensor:
    e = store.MESHES[key]
    return torch.from_numpy(gram(e.cell, e.cell.values, e.cell.weights, len(e.nodes)).toarray())


def test_the_longest_waves_of_a_large_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those by a sparse factor are the first of all; the lowest is Bessel's on a disc."""
    text = SHAPE.replace("DOMAIN", DISC).replace("CONDITIONS", "    on boundary(S): f = 0")
    e = store.MESHES[ndl.loads(text, grid="fem(order=2, size=0.25)").M().GRIDS[0].mesh]
    given = np.isclose((e.nodes**2).sum(1), 1, atol=1e-9) | np.isin(np.arange(len(e.nodes)), e.facet_dofs)
    robin = np.zeros(e.facet.weights.shape)
    basis, values = modes.modes(e, robin, given)
    monkeypatch.setattr(modes, "DENSE", 10)
    monkeypatch.setattr(modes, "LONGEST", 9)
    few, lowest = modes.modes(e, robin, given)
    assert np.abs(lowest - values[:9]).max() < 1e-8 * values[8]
    mass = modes.gram(e.cell, e.cell.values, e.cell.weights, len(e.nodes))
    assert np.abs(few.T @ (mass @ few) - np.eye(9)).max() < 1e-9
    assert np.abs(np.abs(few[:, 0]) - np.abs(basis[:, 0])).max() < 1e-8
    assert values[0] == pytest.approx(jn_zeros(0, 1)[0] ** 2, rel=0.03)


def test_components_have_the_covariance_of_their_own_conditions() -> None:
    """Each is the field of one number with its conditions, and the numbers behind them are independent."""
    head = (
        "domain Box = interval(x in 0..1, y in 0..1)\n\nmodel M:\n    state u: R on Box = 0\n    u' = 0*u\n"
    )
    law = "normal(0, (identity - 0.1*lap)^-2)\n"
    vector = head + f"    f: R[2] on Box ~ {law}    out = f\n    on left(Box):\n        f[0] = 0\n"
    vector += (
        "        2*f[1] + dn(f[1]) = f[0]\n    on bottom(Box):\n        f[0] = 0\n        dn(f[1]) = 0\n"
    )
    first = head + f"    f: R on Box ~ {law}    out = f\n    on left(Box): f = 0\n    on bottom(Box): f = 0\n"
    second = head + f"    f: R on Box ~ {law}    out = f\n    on left(Box): 2*f + dn(f) = 0\n"
    for grid in ("uniform(5, 4)", "fem(size=0.4)"):
        both = root_of(vector, grid)
        parts = [moments(both[..., j]) for j in (0, 1)]
        for part, alone in zip(parts, (first, second), strict=True):
            assert torch.allclose(part, moments(root_of(alone, grid)), rtol=0, atol=1e-13), grid
            assert float(part.abs().max()) > 0.01
        assert float((both[..., 0].flatten(1).mT @ both[..., 1].flatten(1)).abs().max()) == 0.0


KERNEL = """
domain S = DOMAIN

model M:
    f: R on S ~ normal(0, KERNEL)
    state u: R on S = 0
    u' = 0*u
    out = f
"""
LINE, PLANE = "interval(x in 0..1)", "interval(x in 0..1, y in 0..2)"


@pytest.mark.parametrize(
    ("domain", "grid", "kernel", "exact"),
    [
        (LINE, "uniform(30)", "(p, q) -> exp(-3*distance(p, q))", lambda p, q: torch.exp(-3 * (p - q).abs())),
        (LINE, "chebyshev(12)", "(x, y) -> min(x, y)", torch.minimum),
        (LINE, "uniform(40)", "(p, q) -> 2*exp(-(p - q)^2)", lambda p, q: 2 * torch.exp(-((p - q) ** 2))),
    ],
)
def test_a_kernel_is_the_covariance(domain: str, grid: str, kernel: str, exact: Any) -> None:
    """That of Ornstein and Uhlenbeck, of Brownian motion, of a smooth process, at the points of the grid."""
    text = KERNEL.replace("DOMAIN", domain).replace("KERNEL", kernel)
    root = root_of(text, grid)
    x = grid_points(ndl.loads(text, grid=grid).M().GRIDS[0].layouts[0])
    assert torch.allclose(moments(root), exact(x[:, None], x), rtol=0, atol=1e-8)
    assert len(root) == len(x) or len(root) < 15  # a smooth one has few columns


@pytest.mark.parametrize(("domain", "grid"), [(PLANE, "uniform(5, 4)"), (DISC, "fem(size=0.6)")])
def test_a_kernel_in_the_plane(domain: str, grid: str) -> None:
    kernel = "(p, q) -> (1 + p[0]*q[0])*exp(-distance(p, q))"
    text = KERNEL.replace("DOMAIN", domain).replace("KERNEL", kernel)
    text += "    at = [x, y]\n"
    model = ndl.loads(text, grid=grid).M()
    t = torch.tensor(0.0, dtype=torch.float64)
    points = model.derived("at", t, model.initial_state()).reshape(-1, 2)
    gap = (points[:, None] - points).norm(dim=-1)
    exact = (1 + points[:, None, 0] * points[:, 0]) * torch.exp(-gap)
    assert torch.allclose(moments(root_of(text, grid)), exact, rtol=0, atol=1e-8)


def test_gradients_by_a_kernel() -> None:
    """The length is a parameter: against difference quotients at fixed random numbers."""
    text = KERNEL.replace("DOMAIN", LINE).replace("KERNEL", "(p, q) -> s*exp(-abs(p - q)/l)")
    text = text.replace("model M:\n", "model M:\n    param l = 0.4\n    param s = 2.0\n")

    def loss(text: str) -> tuple[torch.Tensor, Any]:
        model = ndl.loads(text, grid="uniform(7)").M()
        normals = torch.linspace(-1, 2, 7, dtype=torch.float64)
        t, x = torch.tensor(0.0, dtype=torch.float64), model.initial_state()
        return (model.bind(f=normals).derived("out", t, x) ** 3).sum(), dict(model.named_parameters())

    exact = torch.linspace(0, 1, 7, dtype=torch.float64)
    exact = 2 * torch.exp(-(exact[:, None] - exact).abs() / 0.4)
    assert torch.allclose(moments(root_of(text, "uniform(7)")), exact, rtol=1e-9)
    for name, at in (("l", 0.4), ("s", 2.0)):
        total, weights = loss(text)
        (slope,) = torch.autograd.grad(total, weights[name])
        ends = [loss(text.replace(f"{name} = {at}", f"{name} = {at + h}"))[0].item() for h in (1e-5, -1e-5)]
        assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6), name


def test_noise_on_a_mesh_and_by_a_kernel() -> None:
    """The diffusion is a root of the covariance; the noise on record drives the field."""
    text = "domain S = DOMAIN\n\nmodel M:\n    noise W: wiener(cov=COV) on S\n    state u: R on S = 0\n"
    text += "    du = (1 + x)*dW\n    on left(S): 2*u + dn(u) = 0\n"
    kernel = "(p, q) -> exp(-distance(p, q))"
    field = "domain S = DOMAIN\n\nmodel M:\n    f: R on S ~ normal(0, COV)\n    state u: R on S = 0\n"
    field += "    u' = 0*u\n    out = f\n    on left(S): 2*f + dn(f) = 0\n"
    cases = [(PLANE, "fem(size=0.5)", "(identity - 0.1*lap)^-2"), (LINE, "uniform(7)", kernel)]
    for domain, grid, K in cases:
        model = ndl.loads(text.replace("DOMAIN", domain).replace("COV", K), grid=grid).M()
        x, t = model.initial_state(), torch.tensor(0.0, dtype=torch.float64)
        root = model.diffusion(t, x)
        wanted = moments(root_of(field.replace("DOMAIN", domain).replace("COV", K), grid))
        run = solved(
            text.replace("DOMAIN", domain).replace("COV", K),
            grid,
            span="0..0.1",
            method="euler_maruyama(h=0.05)",
            save="every 0.05",
        )
        factor = 1 + run.grid.x
        assert torch.allclose(root @ root.mT, factor[:, None] * wanted * factor, rtol=0, atol=1e-12)
        assert torch.allclose(run.u[1:], run.u[:-1] + factor * run.W.diff(dim=0), atol=1e-13)
        assert float(run.u.abs().max()) > 1e-3


def test_families_weights_and_states_of_such_fields() -> None:
    """One seed and stream give one field, however it is said."""
    text = "domain S = { x, y | x^2 + y^2 < 1 }\n\nmodel M:\n    param k: R on S = 1\n"
    text += (
        "    const c: R[2] on S ~ normal(1, (identity - lap)^-2)\n    state u: R on S ~ normal(x, KERNEL)\n"
    )
    text += "    u' = 0*u\n    on boundary(S):\n        c[0] = 0\n        dn(c[1]) + c[1] = 0\n"
    text += "    on boundary(S): k = 0\n"
    text = text.replace("KERNEL", "(p, q) -> exp(-distance(p, q))")
    block = (
        "\nsolve M(k ~ LAW) as sweep:\n    span = 0..1\n    grid = fem(size=0.5)\n    method = euler(h=1)\n"
    )
    block += "    save = end\n    ensemble = 3\n"
    for law in (
        "normal((x, y) -> y, (identity - lap)^-2)",
        "normal((x, y) -> y, (p, q) -> exp(-distance(p, q)))",
    ):
        s = ndl.loads(text + block.replace("LAW", law)).run("sweep")[0]
        again = ndl.loads(text + block.replace("LAW", law).replace("= 3", "= 2")).run("sweep")[0]
        assert torch.equal(s.model.k[:2], again.model.k) and torch.equal(s.final.u[:2], again.final.u)
        assert float((s.model.k[0] - s.model.k[1]).abs().max()) > 0.01
        edge = (s.grid.x**2 + s.grid.y**2) > 1 - 1e-6
        c = s.model.c
        assert float(c[edge, 0].sub(1).abs().max()) < 1e-12 and float(c[edge, 1].sub(1).abs().min()) > 1e-6


@pytest.mark.parametrize(
    ("law", "condition", "code", "says"),
    [
        ("(p, q) -> cos(9*p) - cos(9*q)", "", "NDL587", "not symmetric"),
        ("(p, q) -> abs(p - q)", "", "NDL587", "eigenvalue -"),
        ("(p, q) -> [p, q]", "", "NDL572", "a number for two points"),
        ("(identity - lap)^-1", "dn(f) = 2*f", "NDL571", "feeds"),
        ("(identity - lap)^-1", "c*f + dn(f) = 0", "NDL571", "known when compiling"),
        ("(identity - lap)^-1", "f^4 + dn(f) = 0", "NDL571", "linear"),
    ],
)
def test_what_has_no_waves(law: str, condition: str, code: str, says: str) -> None:
    text = KERNEL.replace("DOMAIN", LINE).replace("KERNEL", law)
    text = text.replace("model M:\n", "model M:\n    param c = 1\n")
    text += f"    on boundary(S): {condition}\n" if condition else ""
    with pytest.raises(NDLError, match=code) as found:
        solved(text, "uniform(8)", method="euler(h=0.5)")
    assert says in str(found.value) and "<text>:" in str(found.value)
