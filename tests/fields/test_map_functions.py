"""Functions of maps with varying coefficients and on meshes, inside models: against dense matrices, elements
assembled by hand, and differences of runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from field_problems import order, solved
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.reader import parse_function
from ndl.compiler.ir.text import print_function

import ndl
from ndl.unplaced import on_grid

ROD = """
domain Rod = {domain}(x in 0..1)

model M:
    param k = 0.02
    param s = 0.5
    param a: R on Rod = 1 + 0.3*x^2*(1 - x)
    state u: R on Rod = sin(pi*x) + x
    u' = {rate}
    {conditions}
"""
MIXED = "on left(Rod): u = 1\n    on right(Rod): dn(u) + 2*u = 1"
ROBIN = "on boundary(Rod): dn(u) + 2*u = 1"
EULER: Any = {"span": (0, 1), "method": "euler(h=1.0)", "save": "end"}
CARRIED = "div(a*grad({0})) + dx({0})"


def model(domain: str, conditions: str, *formulas: str, rate: str = "0*u") -> Any:
    text = ROD.format(domain=domain, rate=rate, conditions=conditions)
    return ndl.loads(text + "\n".join(f"    {f}" for f in formulas)).models["M"]


def matrix(domain: str, conditions: str, grid: str, n: int, formula: str, free: slice) -> np.ndarray:
    """The homogeneous map, column by column: what is added by unit vectors to what 0 gives."""
    made = model(domain, conditions, f"v = {formula.format('u')}").on(grid)
    images = [
        ndl.solve(made(u=row), **EULER).final.v.detach()[free]
        for row in [torch.zeros(n), *torch.eye(n)[free]]
    ]
    return torch.stack([v - images[0] for v in images[1:]], 1).numpy()


@pytest.mark.parametrize(
    ("domain", "conditions", "grid", "n", "free"),
    [
        ("interval", ROBIN, "uniform(7)", 7, slice(None)),
        ("interval", MIXED, "uniform(8, order=4)", 8, slice(1, None)),
        ("interval", "on boundary(Rod): u = 1", "chebyshev(8)", 8, slice(1, -1)),
        ("interval", ROBIN, "uniform(6, at=cells)", 6, slice(None)),
        ("periodic", "", "fourier(8)", 8, slice(None)),
    ],
)
def test_functions_are_those_of_the_matrix(
    domain: str, conditions: str, grid: str, n: int, free: slice
) -> None:
    A = matrix(domain, conditions, grid, n, CARRIED, free)
    L = f"(q -> {CARRIED.format('q')})"
    formulas = [f"e = exp(k*{L}) @ u", f"i = (identity - k*{L})^-1 @ u", f"c = exp(k*{L}) @ (u + 1i*u^2)"]
    s = ndl.solve(model(domain, conditions, *formulas), grid=grid, **EULER).final
    u, e, i, c = (s[name].detach().numpy()[free] for name in "ueic")
    near = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(e, scipy.linalg.expm(0.02 * A) @ u, **near)
    np.testing.assert_allclose(i, np.linalg.solve(np.eye(len(A)) - 0.02 * A, u), **near)
    np.testing.assert_allclose(c, scipy.linalg.expm(0.02 * A) @ (u + 1j * u**2), **near)


def test_powers_of_symmetric_maps() -> None:
    conditions = "on boundary(Rod): u = 0"
    A = matrix("interval", conditions, "uniform(8)", 8, "-div(a*grad({}))", slice(1, -1))
    L = "(q -> -div(a*grad(q)))"
    formulas = [
        f"p = {L}^s @ u",
        f"n = norm(u, {L}^0.5)",
        f"b = 2*{L}^-0.3 @ u + exp(-0.001*({L} @ {L})) @ u",
    ]
    s = ndl.solve(model("interval", conditions, *formulas), grid="uniform(8)", **EULER).final
    u = s.u.detach().numpy()[1:-1]
    power = scipy.linalg.fractional_matrix_power
    np.testing.assert_allclose(s.p.detach()[1:-1], power(A, 0.5) @ u, rtol=1e-11)
    wanted = 2 * power(A, -0.3) @ u + scipy.linalg.expm(-0.001 * A @ A) @ u
    np.testing.assert_allclose(s.b.detach()[1:-1], wanted, rtol=1e-11)
    assert float(s.n.detach()) == pytest.approx((u @ power(A, 0.5) @ u / 7) ** 0.5, rel=1e-11)


@pytest.mark.parametrize("conditions", [MIXED, ROBIN])
def test_jacobians_of_rates_are_those_of_differences(conditions: str) -> None:
    """What solvers of stiff equations ask for; the map depends on the state too."""
    L = "(q -> div((a + 0.1*u^2)*grad(q)))"
    made = model("interval", conditions, rate=f"5*((identity - k*{L})^-1 @ u - u) - exp(k*{L}) @ u + x")
    m, t, x = made.on("uniform(6)")(), torch.zeros(()).double(), torch.linspace(1, 2, 6).double()
    with torch.no_grad():
        rows = [
            m.vector_field(t, x + 1e-5 * e) - m.vector_field(t, x - 1e-5 * e) for e in torch.eye(6).double()
        ]
    wanted = torch.stack(rows, 1) / 2e-5
    torch.testing.assert_close(m.state_jacobian(t, x).detach(), wanted, rtol=0, atol=1e-8)
    by_jvp = torch.func.vmap(lambda e: torch.func.jvp(lambda y: m.vector_field(t, y), (x,), (e,))[1])(
        torch.eye(6).double()
    )
    torch.testing.assert_close(by_jvp.T.detach(), wanted, rtol=0, atol=1e-8)


def test_gradients_are_those_of_differences() -> None:
    L = "(q -> -div((a + 0.1*u^2)*grad(q)))"
    S = "(q -> -div(a*grad(q)))"
    rate = f"(identity + k*{L})^-1 @ u - 0.1*{S}^s @ u - exp(-k*(q -> {L} @ q + dx(q))) @ u"
    made = model("interval", "on boundary(Rod): u = 0", rate=rate).on("uniform(6)")
    w = torch.cos(torch.arange(6).double())

    def loss(k: Any, s: Any, a: Any) -> torch.Tensor:
        method = {"span": (0, 0.2), "method": "rk4(h=0.1)", "save": "end"}
        found = ndl.solve(made().bind(k=k, s=s, a=a), **method, gradient="discrete")
        value: torch.Tensor = found.final.u @ w
        return value

    at = [torch.tensor(0.02), torch.tensor(0.5), 1 + torch.linspace(0, 1, 6) ** 2]
    leaves = [x.double().requires_grad_() for x in at]
    slopes = torch.autograd.grad(loss(*leaves), leaves)
    for j, way in enumerate([torch.tensor(1.0), torch.tensor(1.0), torch.sin(torch.arange(6.0))]):
        ends = [
            float(loss(*(x.detach() + e * way if i == j else x.detach() for i, x in enumerate(leaves))))
            for e in (1e-5, -1e-5)
        ]
        assert float((slopes[j] * way).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_the_reference_and_the_text_of_a_graph_agree() -> None:
    L = "(q -> div((a + 0.1*u^2)*grad(q)))"
    rate = f"(identity - k*{L})^-1 @ u - exp(k*{L}) @ u"
    program = ndl.loads(ROD.format(domain="interval", rate=rate, conditions=ROBIN))
    ir = program.host.compilation.model(
        on_grid(program, program._model_values()["M"], "uniform(6)")
    ).optimized
    m, x = program.models["M"].on("uniform(6)")(), torch.linspace(1, 2, 6).double()
    drift = parse_function(print_function(ir.drift))
    weights = {"k": m.k.detach(), "a": m.a.detach()}
    found = interpret(drift, {"t": torch.zeros(()), "u": x}, weights)["u"]
    wanted = m.vector_field(torch.zeros(()).double(), x).detach()
    torch.testing.assert_close(wanted, found, rtol=1e-11, atol=1e-11)


def test_members_of_a_family_have_maps_of_their_own() -> None:
    L = "(q -> div(a*grad(q)))"
    made = model("interval", ROBIN, f"e = exp(k*{L}) @ u").on("uniform(6)")
    family = ndl.solve(made(k=[0.01, 0.05]), **EULER).final.e
    for k, e in zip((0.01, 0.05), family):
        torch.testing.assert_close(e, ndl.solve(made(k=k), **EULER).final.e, rtol=0, atol=1e-13)


def test_derivatives_in_formulas() -> None:
    """Along a vector, of the vector and of what the map depends on; by a parameter."""
    L = "(q -> div((1 + u^2)*grad(q)))"
    formulas = [
        f"e = exp(k*{L}) @ u + (identity - k*{L})^-1 @ u",
        "d = jac(e, u) @ (x*(1 - x))",
        "g = grad(integral(e^2, x in Rod), k)",
        "h = integral(e^2, x in Rod)",
    ]
    made = model("interval", "on boundary(Rod): u = 0", *formulas).on("uniform(7)")
    x = torch.linspace(0, 1, 7).double()
    s = ndl.solve(made(u=x * (1 - x)), **EULER).final

    def at(h: float, name: str, k: float = 0.02) -> torch.Tensor:
        found: torch.Tensor = ndl.solve(made(u=(1 + h) * x * (1 - x), k=k), **EULER).final[name].detach()
        return found

    torch.testing.assert_close(s.d.detach(), (at(1e-5, "e") - at(-1e-5, "e")) / 2e-5, rtol=1e-7, atol=1e-9)
    slope = float(at(0, "h", 0.02 + 1e-5) - at(0, "h", 0.02 - 1e-5)) / 2e-5
    assert float(s.g) == pytest.approx(slope, rel=1e-7)


# ------------------------------------------------------------ meshes

DISC = """
domain Disc = {{ x, y | x^2 + y^2 < 1 }}

model M:
    param k = 0.02
    param a: R on Disc = 1 + x^2
    state u: R on Disc = (1 - x^2 - y^2)*(1 + x)
    u' = (identity - k*(q -> div(a*grad(q))))^-1 @ (u + x) - u
    {conditions}
    e = exp(k*(q -> div(a*grad(q)))) @ u
    i = (identity - k*(q -> div(a*grad(q))))^-1 @ (u + x)
    p = (identity - (q -> div(a*grad(q))))^0.5 @ u
"""


def elements(
    points: np.ndarray, triangles: np.ndarray, robin: float
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Stiffness of 1 + x^2 as its nodes interpolate it, mass, and the nodes of the boundary."""
    n, sides = len(points), {}
    K, M, a = np.zeros((n, n)), np.zeros((n, n)), 1 + points[:, 0] ** 2
    for t in triangles:
        B = (points[t[1:]] - points[t[0]]).T
        area = abs(np.linalg.det(B)) / 2
        G = np.linalg.inv(B).T @ np.array([[-1, 1, 0], [-1, 0, 1]])
        K[np.ix_(t, t)] -= a[t].mean() * area * G.T @ G
        M[np.ix_(t, t)] += area / 12 * (np.ones((3, 3)) + np.eye(3))
        for i, j in ((0, 1), (1, 2), (2, 0)):
            side = tuple(sorted((t[i], t[j])))
            sides[side] = sides.get(side, 0) + 1
    border = [s for s, count in sides.items() if count == 1]
    x, w = np.polynomial.legendre.leggauss(4)
    f = np.array([(1 - x) / 2, (1 + x) / 2])
    for i, j in border:
        half = np.linalg.norm(points[i] - points[j]) / 2
        own = np.ix_([i, j], [i, j])
        K[own] -= robin * half * np.einsum("q,iq,jq->ij", w * (a[[i, j]] @ f), f, f)
    return K, M, sorted({i for s in border for i in s})


@pytest.mark.parametrize("mass", ["lumped", "consistent"])
@pytest.mark.parametrize(
    "conditions", ["on boundary(Disc): u = 0", "on boundary(Disc): dn(u) + 2*u = 3"], ids=["value", "robin"]
)
def test_functions_on_meshes_are_those_of_elements(conditions: str, mass: str) -> None:
    made = ndl.loads(DISC.format(conditions=conditions)).models["M"]
    run = ndl.solve(made, grid=f"fem(size=0.5, mass={mass})", **EULER)
    s, points = run.final, run.grid.points.numpy()
    value = "dn" not in conditions
    K, M, border = elements(points, run.grid.triangles.numpy(), 0.0 if value else 2.0)
    whole, M = M, np.diag(M.sum(1)) if mass == "lumped" else M
    free = np.array([i for i in range(len(M)) if not (value and i in border)])
    inside = np.ix_(free, free)
    A, eye = np.linalg.solve(M[inside], K[inside]), np.eye(len(free))
    start = made.on(f"fem(size=0.5, mass={mass})")().initial_values()["u"].detach().numpy()[free]
    x = points[free, 0]
    inverse = np.linalg.inv(eye - 0.02 * A)
    u = start + np.linalg.solve(M[inside], whole[inside]) @ (inverse @ (start + x) - start)
    wanted = {
        "u": u,
        "e": scipy.linalg.expm(0.02 * A) @ u,
        "i": inverse @ (u + x),
        "p": scipy.linalg.fractional_matrix_power(eye - A, 0.5) @ u,
    }
    for name, exact in wanted.items():
        np.testing.assert_allclose(s[name].detach().numpy()[free], exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("domain", "conditions", "formula", "code"),
    [
        ("interval", "", "exp(q -> div(a*grad(q))) @ u", "NDL590"),
        ("interval", ROBIN, "(q -> q^2 + div(a*grad(q)))^-1 @ u", "NDL475"),
        ("interval", ROBIN, "(q -> 1 + div(a*grad(q)))^-1 @ u", "NDL475"),
        ("interval", ROBIN, "(q -> div(a*grad(q)) + dx(q))^0.5 @ u", "NDL472"),
        ("interval", "on boundary(Rod): dn(u) = 0", "(q -> div(a*grad(q)))^-1 @ u", "NDL473"),
    ],
)
def test_what_has_no_meaning_says_so(domain: str, conditions: str, formula: str, code: str) -> None:
    with pytest.raises(Exception, match=code) as caught:
        ndl.solve(model(domain, conditions, f"w = {formula}"), grid="uniform(7)", **EULER).final.w.sum()
    assert isinstance(caught.value, NDLError) or code in str(caught.value)


def test_norms_on_a_mesh_of_many_points() -> None:
    """lap multiplies sin(pi x) sin(pi y) by -2 pi^2."""
    text = """
domain Square = interval(x in 0..1, y in 0..1)
model M:
    state u: R on Square = sin(pi*x)*sin(pi*y)
    u' = 0*u
    on boundary(Square): u = 0
    dual = norm(u, (-lap)^-1)
    first = norm(u, identity - lap)
    param a: R on Square = 1 + x
    varied = norm(u, q -> q - div(a*grad(q)))
    energy = integral(u^2 + a*dot(grad(u), grad(u)), [x, y] in Square)
"""
    grids = [f"fem(size={h})" for h in (0.2, 0.1, 0.05)]
    finals = [solved(text, g, span="0..1", method="euler(h=1)").final for g in grids]
    for name, square in (("dual", 1 / (2 * math.pi**2)), ("first", 1 + 2 * math.pi**2)):
        gaps = [abs(float(s[name]) - 0.5 * math.sqrt(square)) for s in finals]
        assert 1.8 < order(gaps) < 2.2 and gaps[-1] < 1e-2, (name, gaps)
    for s in finals:
        torch.testing.assert_close(s.varied**2, s.energy, rtol=1e-12, atol=0)
