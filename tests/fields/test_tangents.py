"""`linearize(M, x)` inside of a model: against differences of rates and runs, dense matrices and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from ndl.compiler.diagnostics import NDLError

import ndl

VECTORS = """
model Lorenz:
    param r = 28.0
    param b = 2.6
    state x: R[3] = [1, 2, 20]
    x' = [10*(x[1] - x[0]), x[0]*(r - x[2]) - x[1], x[0]*x[1] - b*x[2]]

model Held:
    state z: R[2] = [1, 2]
    0 = [z[0]^2 + z[1] - 3, z[0]*z[1] - 2]

model Two:
    state a = 2.0
    state c = 3.0
    a' = -a^2*c
    c' = a

model Tangent:
    param s = 0.01
    param C: R[3, 3] = [[1, 2, 0], [0, 1, 0], [0, 3, 1]]
    state x: R[3] = [1, 2, 20]
    state v: R[3] = [1, -1, 0.5]
    whole = Lorenz(x=[1, 2, 20])
    A = linearize(Lorenz(r=whole.r), x)
    x' = [10*(x[1] - x[0]), x[0]*(whole.r - x[2]) - x[1], x[0]*x[1] - whole.b*x[2]]
    v' = A @ v
    back = A.T @ v
    both = (A.T @ A + 2*identity - C) @ v
    flow = exp(s*A) @ v
    inside = (identity - s*A)^-1 @ v
    root = (A.T @ A)^0.5 @ v
    H = linearize(Held, [2, 3])
    alg = H @ [1, 10]
    B = linearize(Two(c=x[0]), a)
    one = B @ 2.0
    two = exp(B) @ 3.0
"""


def lorenz(x: np.ndarray) -> np.ndarray:
    return np.array([[-10, 10, 0], [28 - x[2], -1, -x[0]], [x[1], x[0], -2.6]])


@pytest.fixture(scope="module")
def tangent() -> Any:
    return ndl.loads(VECTORS).Tangent


def test_maps_of_vectors_are_their_matrices(tangent: Any) -> None:
    s = ndl.solve(tangent, span=(0, 0.1), method="tsit5(rtol=1e-10, atol=1e-12)", save="end").final
    found = {n: getattr(s, n).detach().numpy() for n in ("x", "v", "back", "both", "flow", "inside", "root")}
    A, v = lorenz(found["x"]), found["v"]
    C = np.array([[1, 2, 0], [0, 1, 0], [0, 3, 1]])
    near = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(found["back"], A.T @ v, **near)
    np.testing.assert_allclose(found["both"], (A.T @ A + 2 * np.eye(3) - C) @ v, **near)
    np.testing.assert_allclose(found["flow"], scipy.linalg.expm(0.01 * A) @ v, **near)
    np.testing.assert_allclose(found["inside"], np.linalg.solve(np.eye(3) - 0.01 * A, v), **near)
    np.testing.assert_allclose(found["root"], scipy.linalg.sqrtm(A.T @ A) @ v, **near)
    np.testing.assert_allclose(s.alg.detach(), [4 * 1 + 10, 3 * 1 + 2 * 10], **near)
    assert float(s.one) == pytest.approx(-2 * 2 * found["x"][0] * 2)
    assert float(s.two) == pytest.approx(3 * np.exp(-4 * found["x"][0]))


def test_a_tangent_is_the_difference_of_two_runs(tangent: Any) -> None:
    """The flow of v is the derivative of the flow of x by where it starts, and its gradients are right."""
    method: Any = {"span": (0, 0.3), "method": "rk4(h=0.01)", "save": "end"}
    x0, v0 = torch.tensor([1.0, 2.0, 20.0]).double(), torch.tensor([1.0, -1.0, 0.5]).double()

    def run(x: torch.Tensor, r: Any = 28.0, b: Any = 2.6) -> Any:
        r, b = (torch.as_tensor(p, dtype=torch.float64) for p in (r, b))
        made = tangent().bind(**{"whole.r": r, "A.b": b})
        return ndl.solve(made.bind(x=x, v=v0), gradient="discrete", **method).final

    up, down = (run(x0 + e * v0).x for e in (1e-5, -1e-5))
    torch.testing.assert_close(run(x0).v.detach(), ((up - down) / 2e-5).detach(), rtol=1e-8, atol=1e-8)
    w = torch.tensor([1.0, 0.3, -2.0]).double()
    at = (x0, torch.tensor(28.0, dtype=torch.float64), torch.tensor(2.6, dtype=torch.float64))
    leaves = [p.clone().requires_grad_() for p in at]
    s = run(*leaves)
    slopes = torch.autograd.grad((s.v + s.inside + s.flow) @ w, leaves)
    for slope, way in zip(slopes, [(v0, 0.0, 0.0), (0 * v0, 1.0, 0.0), (0 * v0, 0.0, 1.0)]):
        ends = []
        for e in (1e-5, -1e-5):
            s = run(x0 + e * way[0], 28.0 + e * way[1], 2.6 + e * way[2])
            ends.append(float(((s.v + s.inside + s.flow) @ w).detach()))
        along = float((slope * (way[0] if slope.ndim else 1.0)).sum())
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


FIELD = """
domain Rod = {domain}(x in 0..1)

model Heat:
    param k = 0.3
    state u: R on Rod = sin(pi*x)
    u' = k*div((1 + u^2)*grad(u)) - u^3 + dx(u)
    {conditions}

model Tangent:
    param c = 0.01
    param u: R on Rod = 1 + 0.3*x^2*(1 - x)
    state v: R on Rod = sin(pi*x) + x
    A = linearize(Heat, u)
    v' = A @ v
    flow = exp(c*A) @ v
    inside = (identity - c*A)^-1 @ v
    param w: R on Rod = cos(3*x) + x^2
    sums = [integral(w*(A @ v), x in Rod), integral(w*inside, x in Rod), integral(w*flow, x in Rod)]
    turned = [(A.T @ w), (identity - c*A.T)^-1 @ w, exp(c*A.T) @ w]
    back = [integral(turned[i]*v, x in Rod) for i in 0..2]
"""
GRIDS = [
    ("interval", "on left(Rod): u = 1\n    on right(Rod): dn(u) + 2*u = 1", "uniform(8)", 8, slice(1, None)),
    ("interval", "on boundary(Rod): u = 1", "chebyshev(8)", 8, slice(1, -1)),
    ("interval", "on boundary(Rod): dn(u) = 2", "uniform(6, at=cells)", 6, slice(None)),
    ("periodic", "", "fourier(9)", 9, slice(None)),
]


@pytest.mark.parametrize(("domain", "conditions", "grid", "n", "free"), GRIDS)
def test_maps_of_fields_are_jacobians_of_rates(
    domain: str, conditions: str, grid: str, n: int, free: slice
) -> None:
    program = ndl.loads(FIELD.format(domain=domain, conditions=conditions))
    s = ndl.solve(program.Tangent, grid=grid, span=(0, 1), method="euler(h=1.0)", save=[0]).final
    heat, t = program.Heat.on(grid)(), torch.zeros(()).double()
    made = program.Tangent.on(grid)()
    u = made.u.detach()
    with torch.no_grad():
        rows = [
            heat.vector_field(t, u + 1e-5 * e) - heat.vector_field(t, u - 1e-5 * e)
            for e in torch.eye(n).double()
        ]
    A = (torch.stack(rows, 1) / 2e-5).numpy()[free, free]
    v = s.v.detach().numpy()[free]
    rate = made.vector_field(t, s.v.detach())
    np.testing.assert_allclose(rate.detach().numpy()[free], A @ v, rtol=1e-8, atol=1e-8)
    near = {"rtol": 1e-7, "atol": 1e-7}
    np.testing.assert_allclose(s.flow.detach()[free], scipy.linalg.expm(0.01 * A) @ v, **near)
    np.testing.assert_allclose(s.inside.detach()[free], np.linalg.solve(np.eye(len(A)) - 0.01 * A, v), **near)
    np.testing.assert_allclose(s.back.detach(), s.sums.detach(), rtol=1e-10)


SECOND = """
domain Rod = interval(x in 0..1)

model Wave:
    state u: R on Rod = 1 + x
    state u' = 0.5
    u'' = lap(u) - u'*u^3
    on left(Rod): u = 1
    on right(Rod): dn(u) = 1

model Tangent:
    state v: R on Rod = sin(2*x)
    A = linearize(Wave, u)
    v' = A @ v

test "the derivative of a second derivative":
    n = 6
    v = [sin(2*i/n) for i in 0..n]
    second = [n^2*(v[i] - 2*v[i + 1] + v[i + 2]) for i in 0..4]
    wanted = [second[i] - 1.5*(1 + (i + 1)/n)^2*v[i + 1] for i in 0..4]
    A = linearize(Wave, u, grid=uniform(7))
    assert max(abs((A @ v)[1:6] - wanted)) < 1e-10
    s = solve(Tangent, span=0..1, method=euler(h=1), save=end, grid=uniform(7)).final
    assert max(abs((s.v - v)[1:6] - wanted)) < 1e-10
"""


def test_equations_of_second_order_inside_and_outside() -> None:
    (found,) = ndl.loads(SECOND).test()
    assert found.passed, found.message


MOVING = """
domain Rod = interval(x in 0..1)

model Heat:
    param k = 0.3
    state u: R on Rod = 1 + x^2
    u' = k*lap(u) - u^3
    on left(Rod): u = 1
    on right(Rod): dn(u) = 2

model Tangent:
    param c = 0.01
    h = Heat(u=1 + x^2)
    state v: R on Rod = sin(2*x)
    A = linearize(Heat(k=h.k), h.u)
    v' = A @ v
    z = exp(c*A) @ v + A.T @ v + lap(exp(c*lap) @ v)
    on left(Rod): v = 0
    on right(Rod): dn(v) = 0
"""


def test_the_tangent_of_a_moving_field_is_the_difference_of_two_runs() -> None:
    made = ndl.loads(MOVING).Tangent.on("uniform(7)")
    v0 = torch.sin(2 * torch.linspace(0, 1, 7)).double()
    u0 = 1 + torch.linspace(0, 1, 7).double() ** 2
    w = torch.cos(torch.arange(7).double())
    method: Any = {"span": (0, 0.05), "method": "rk4(h=0.01)", "save": "end", "gradient": "discrete"}

    def run(e: float, k: torch.Tensor | float = 0.3) -> Any:
        values = {"h.u": u0 + e * v0, "h.k": torch.as_tensor(k, dtype=torch.float64)}
        return ndl.solve(made().bind(**values), **method).final

    with torch.no_grad():
        wanted = (getattr(run(1e-5), "h.u") - getattr(run(-1e-5), "h.u")) / 2e-5
    torch.testing.assert_close(run(0).v.detach(), wanted, rtol=1e-8, atol=1e-8)
    k = torch.tensor(0.3).double().requires_grad_()
    (slope,) = torch.autograd.grad(run(0, k).z @ w, k)
    ends = [float((run(0, 0.3 + e).z @ w).detach()) for e in (1e-5, -1e-5)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "formula", "code", "said"),
    [
        ("x' = -x", "y = linearize(M, [1.0, 2]) @ x", "NDL569", "define it in the model"),
        ("x' = -x", "A = linearize(M, x)\n    y = A @ [1.0, 2, 3]", "NDL471", "is applied to R[3]"),
        ("x' = -x", "A = linearize(M, [1.0])\n    y = A @ x", "NDL471", "is about R[1]"),
        (
            "state y: R[2] = 0\n    y' = 1\n    p = P()\n    x' = -p.z*x",
            "A = linearize(M, x)\n    q = A @ x",
            "NDL569",
            "parts",
        ),
        ("input f\n    x' = -f*x", "A = linearize(M, x)\n    y = A @ x", "NDL569", "M(f=…)"),
        ("x' = -x(t - 1)", "A = linearize(M, x)\n    y = A @ x", "NDL490", "another time"),
    ],
)
def test_what_is_no_map_is_refused(model: str, formula: str, code: str, said: str) -> None:
    text = "model P:\n    state z = 1.0\n    z' = -z\n"
    text += f"model M:\n    state x: R[2] = [1, 2]\n    {model}\n"
    text += f"model T:\n    state x: R[2] = [1, 2]\n    x' = -x\n    {formula}\n"
    with pytest.raises(NDLError) as e:
        ndl.loads(text).T()
    assert e.value.diagnostics[0].code == code
    assert said in str(e.value)
