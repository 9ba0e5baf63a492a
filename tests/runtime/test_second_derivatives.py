"""Second derivatives: central differences of the first ones, or an error that says what has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.eigen import symmetric_power
from ndl.runtime.errors import SettingError
from ndl.runtime.implicit import implicit_root
from ndl.runtime.interpolation import cardinal
from ndl.runtime.laws import _standard_gamma

import ndl

Loss = Callable[[torch.Tensor], torch.Tensor]

MODELS = """
model Oscillator:
    param k = 1.5
    state x = 1.0
    state y = 0.5
    x' = y
    y' = k*(1 - x*x)*y - x

model Tied:
    param k = 1.5
    state x = 1.0
    state z = 0.5
    x' = -k*z*x
    0 = z + 0.3*z^3 - x*k

model Roots:
    param k = 1.5
    state x = 1.0
    state y = 0.4
    0 = x^3 + k*y - 2
    0 = y + sin(x*k) - 1

model Inside:
    param k = 0.7
    state x = 0.5
    x' = -x + root(z -> z^3 + k*z - x*k, 0.3)

model Bouncing:
    param k = 0.8
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -9.81 - 0.1*k*v
    when falling(x): v <- -k*v

model Touching:
    param k = 1.0
    state x = 0.2
    x' = k*(1.3 + sin(3*t) - 0.2*x)
    when rising(x - t*t/9 - 1.0): x <- 0.1*k*x*t

model Kinked:
    param k = 1.0
    state x = 0.2
    x' = if x > 1 then 0.5 - k*x*0.3 else k*(2 - x) + 0.3*t

model Delayed:
    param k = 0.683
    state x = 1.0
    x' = -1.3*x(t - k)*(1 + x)

model Parts:
    param k = 1.2
    state x = 1.0
    state y = 0.3
    term straight = [-k*x + y, -0.5*k*y]
    term bent = [sin(k*y), -x*y*k]
    x', y' = straight + bent

model Kernel:
    param k = 0.7
    state x: R on time
    x(t) = 1 + 0.3*integral(sin(k*t*s)*x(s)^2, s in 0..1)
"""

FIELDS = """
domain Rod = interval(x in 0..1)

model Steady:
    param k = 0.7
    state u: R on Rod = 0
    0 = lap(u) - k*u^3 + 10*exp(k*x)
    on boundary(Rod): u = 0

model Heated:
    param k = 0.7
    state u: R on Rod = x*(1 - x)
    u' = k*lap(u) + 3*exp(k*u)
    on boundary(Rod): u = 0

model Inverse:
    param k = 0.7
    state u: R on Rod = x*(1 - x)
    u' = (identity - k*lap)^-1 @ (u + 1)
    on boundary(Rod): u = 0

model Exponential:
    param k = 0.07
    state u: R on Rod = x*(1 - x)
    u' = exp(k*(q -> div((1 + x)*grad(q)))) @ u
    on boundary(Rod): u = 0
"""


@cache
def models(text: str) -> Any:
    return ndl.loads(text).models


def run(name: str, method: str, gradient: str, **settings: Any) -> Loss:
    def loss(k: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(
            models(MODELS)[name]().bind(k=k), method=method, gradient=gradient, backend="torch", **settings
        )
        found: torch.Tensor = s.final.x**2 + (s.x**3).mean()
        return found

    return loss


def slope(loss: Loss, at: float, recorded: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    k = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return k, torch.autograd.grad(loss(k), k, create_graph=recorded)[0]


def second(loss: Loss, at: float) -> float:
    k, g = slope(loss, at, recorded=True)
    return float(torch.autograd.grad(g, k)[0])


def quotient(loss: Loss, at: float, h: float = 1e-4) -> float:
    return float(slope(loss, at + h)[1] - slope(loss, at - h)[1]) / (2 * h)


STEPS: dict[str, Any] = {"span": (0, 1), "save": [0.33, 1.0]}
RUNS: dict[str, tuple[str, str, str, float]] = {
    "implicit stages": ("Oscillator", "sdirk(h=0.1)", "discrete", 1.5),
    "a first stage that is explicit": ("Oscillator", "kvaerno5(h=0.2)", "discrete", 1.5),
    "a linear system a step": ("Oscillator", "bdf(h=0.1)", "discrete", 1.5),
    "a Rosenbrock method": ("Oscillator", "rodas5(h=0.2)", "discrete", 1.5),
    "checkpoints": ("Oscillator", "implicit_euler(h=0.1)", "checkpoint(3)", 1.5),
    "Taylor series": ("Oscillator", "taylor(h=0.2, order=8)", "discrete", 1.5),
    "equations 0 =": ("Tied", "sdirk(h=0.1)", "discrete", 1.5),
    "consistent starts": ("Tied", "rodas5(h=0.1)", "discrete", 1.5),
    "roots in rates whose Jacobian is taken": ("Inside", "rosenbrock23(h=0.5)", "discrete", 0.7),
    "roots in rates": ("Inside", "rk4(h=0.1)", "discrete", 0.7),
    "an event": ("Bouncing", "rk4(h=0.05)", "discrete", 0.8),
    "an event at a time": ("Touching", "rk4(h=0.05)", "discrete", 1.0),
    "a break": ("Kinked", "dopri5(rtol=1e-10, atol=1e-12)", "discrete", 1.0),
    "an implicit part": ("Parts", "lie(straight: implicit_euler, bent: rk4, h=0.1)", "discrete", 1.2),
    "an exact part": ("Parts", "strang(straight: exact, bent: rk4, h=0.1)", "discrete", 1.2),
}


@pytest.mark.parametrize("case", RUNS)
def test_runs(case: str) -> None:
    name, method, gradient, at = RUNS[case]
    loss = run(name, method, gradient, **STEPS)
    assert second(loss, at) == pytest.approx(quotient(loss, at), rel=1e-5)


@pytest.mark.parametrize("gradient", ["discrete", "adjoint"])
@pytest.mark.parametrize("method", ["newton(tol=1e-12)", "anderson(tol=1e-12)", "gmres(tol=1e-12)"])
def test_roots(method: str, gradient: str) -> None:
    loss = run("Roots", method, gradient)
    assert second(loss, 1.5) == pytest.approx(quotient(loss, 1.5), rel=1e-5)


def test_a_root_that_is_found_where_it_is_sought() -> None:
    """The derivatives are the equation's, not those of the one iteration."""

    def loss(k: torch.Tensor) -> torch.Tensor:
        start = {"x": 1.1, "y": (2 - 1.1**3) / 1.5}
        for _ in range(2):
            s = ndl.solve(
                models(MODELS)["Roots"](**start).bind(k=k), method="newton(tol=1e-12)", gradient="discrete"
            )
            start = {"x": float(s.final.x.detach()), "y": float(s.final.y.detach())}
        found: torch.Tensor = s.final.x * s.final.y
        return found

    assert second(loss, 1.5) == pytest.approx(quotient(loss, 1.5), rel=1e-5)


@pytest.mark.parametrize("gradient", ["discrete", "adjoint"])
def test_integral_equations(gradient: str) -> None:
    loss = run("Kernel", "nystrom(quadrature=gauss(8), tol=1e-12)", gradient, span=(0, 1))
    assert second(loss, 0.7) == pytest.approx(quotient(loss, 0.7), rel=1e-5)


def field(name: str, method: str, points: int, **settings: Any) -> Loss:
    def loss(k: torch.Tensor) -> torch.Tensor:
        model = models(FIELDS)[name].on(f"uniform({points})")().bind(k=k)
        s = ndl.solve(model, method=method, gradient="discrete", backend="torch", **settings)
        found: torch.Tensor = (s.final.u**2).mean()
        return found

    return loss


@pytest.mark.parametrize("method", ["newton(tol=1e-10)", "multigrid(tol=1e-11)", "gmres(tol=1e-11)"])
def test_steady_fields(method: str) -> None:
    loss = field("Steady", method, 81)
    assert second(loss, 0.7) == pytest.approx(quotient(loss, 0.7), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "method"),
    [("Heated", "sdirk(h=0.02)"), ("Heated", "rosenbrock23(h=0.02)"), ("Inverse", "rk4(h=0.02)")],
)
def test_sparse_systems_of_steps(name: str, method: str) -> None:
    loss = field(name, method, 81, span=(0, 0.04), save="end")
    assert second(loss, 0.7) == pytest.approx(quotient(loss, 0.7), rel=1e-5)


def test_projections_whose_pressure_depends_on_a_parameter() -> None:
    text = """
domain S = periodic(x in 0..1, y in 0..1)

model M:
    param k = 1.3
    state v: R[2] on S = [sin(2*pi*x)*cos(2*pi*y) + 0.3, 0.2*sin(4*pi*x) - cos(2*pi*x)*sin(2*pi*y)]
    state p: R on S = 0
    v' = -v[0]*dx(v) - v[1]*dy(v) - grad(p)/(1 + k*k + k*sin(2*pi*x)) + [cos(k*t), k]
    0 = div(v)
"""

    def loss(k: torch.Tensor) -> torch.Tensor:
        model = models(text)["M"].on("uniform(6, 6)")().bind(k=k)
        s = ndl.solve(model, method="projection(rk4(h=0.01))", span=(0, 0.02), gradient="discrete")
        found: torch.Tensor = (s.final.v**3).sum() + (s.final.p**2).sum()
        return found

    assert second(loss, 1.3) == pytest.approx(quotient(loss, 1.3), rel=1e-4)


# ---------------------------------------------------------------- ops


def entries(v: torch.Tensor) -> torch.Tensor:
    return (v * torch.cos(torch.arange(v.numel(), dtype=v.dtype)).reshape(v.shape)).sum()


def matrix(k: torch.Tensor) -> torch.Tensor:
    return torch.stack([2 + k, 0.3 * k, 0.3 * k, 1 + k * k]).reshape(2, 2)


OPS: dict[str, tuple[Loss, float]] = {
    "gamma quantiles": (lambda a: _standard_gamma(a, torch.tensor(0.3, dtype=torch.float64)), 1.7),
    "powers of matrices": (lambda k: entries(symmetric_power(matrix(k), 0.5 + 0.1 * k)), 0.6),
    "waves at any place": (lambda p: entries(cardinal(p, ("ring", 8, 0.0, 1.0), "fourier", 0, 0)), 0.23),
    "polynomials at any place": (
        lambda p: entries(cardinal(p, ("chebyshev", 8, 0.0, 1.0), "chebyshev", 0, 0)),
        0.23,
    ),
    "pieces at any place": (lambda p: entries(cardinal(p, ("nodes", 8, 0.0, 1.0), "pieces", 4, 0)), 0.23),
}


@pytest.mark.parametrize("case", OPS)
def test_ops(case: str) -> None:
    loss, at = OPS[case]
    assert second(loss, at) == pytest.approx(quotient(loss, at), rel=1e-5)


# ---------------------------------------------------------------- refused

ADAPTIVE: dict[str, Any] = {"span": (0, 1), "save": "end"}
REFUSED: dict[str, tuple[Loss, float, str]] = {
    "the adjoint equation": (
        run("Oscillator", "tsit5(rtol=1e-6)", "adjoint", **ADAPTIVE),
        1.5,
        "`gradient = adjoint` has no gradient itself",
    ),
    "steps that are undone": (
        run("Oscillator", "reversible_heun(h=0.1)", "reversible", **ADAPTIVE),
        1.5,
        "`gradient = reversible` has no gradient itself",
    ),
    "a delay": (
        run("Delayed", "rk4(h=0.05)", "discrete", **STEPS),
        0.683,
        "a run by its delays has no gradient itself",
    ),
    "exponentials of maps": (
        field("Exponential", "euler(h=0.5)", 9, span=(0, 1), save="end"),
        0.07,
        "an exponential or a power of a map has no gradient itself",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_none_says_so(case: str) -> None:
    loss, at, why = REFUSED[case]
    with pytest.raises((SettingError, NDLError), match=why):
        second(loss, at)
    assert bool(torch.isfinite(slope(loss, at)[1]))


# ---------------------------------------------------------------- third ones

EXPLICIT = ("a Rosenbrock method", "Taylor series", "an exact part")
"""Runs that solve no equation by iteration."""


def third(loss: Loss, at: float) -> float:
    k, g = slope(loss, at, recorded=True)
    (g,) = torch.autograd.grad(g, k, create_graph=True)
    return float(torch.autograd.grad(g, k)[0])


@pytest.mark.parametrize("case", EXPLICIT)
def test_third_derivatives(case: str) -> None:
    name, method, gradient, at = RUNS[case]
    loss, h = run(name, method, gradient, **STEPS), 1e-3
    assert third(loss, at) == pytest.approx((second(loss, at + h) - second(loss, at - h)) / (2 * h), rel=1e-5)


THIRD: dict[str, tuple[Loss, float]] = {
    **{
        case: (run(name, method, gradient, **STEPS), at)
        for case, (name, method, gradient, at) in RUNS.items()
        if case not in EXPLICIT
    },
    "roots": (run("Roots", "newton(tol=1e-12)", "discrete"), 1.5),
    "steady fields": (field("Steady", "newton(tol=1e-10)", 21), 0.7),
    "sparse stages": (field("Heated", "sdirk(h=0.02)", 21, span=(0, 0.04), save="end"), 0.7),
    "gamma quantiles": OPS["gamma quantiles"],
}


@pytest.mark.parametrize("case", THIRD)
def test_third_derivatives_that_are_none_say_so(case: str) -> None:
    with pytest.raises((SettingError, NDLError), match=r"of a gradient .* has no gradient itself"):
        third(*THIRD[case])


def cube_root(c: torch.Tensor) -> torch.Tensor:
    return implicit_root(lambda z, c: z**3 - c, torch.tensor(1.3, dtype=torch.float64), (c,), 0)


def test_a_root_that_is_the_loss_has_no_third_derivative() -> None:
    with pytest.raises(SettingError, match="has no gradient itself"):
        third(cube_root, 2.0)
    assert second(cube_root, 2.0) == pytest.approx(-2 / 9 * 2 ** (-5 / 3), rel=1e-12)


def test_transforms_say_how_often_is_derived() -> None:
    found, wanted = cube_root, 1.0
    c = torch.tensor(2.0, dtype=torch.float64)
    for k in range(3):
        found, wanted = torch.func.grad(found), wanted * (1 / 3 - k)
        assert float(found(c)) == pytest.approx(wanted * 2 ** (1 / 3 - k - 1), rel=1e-12)
