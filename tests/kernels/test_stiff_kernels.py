"""Stiff solves by kernels against torch's: the same accepted steps, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import check_gradient, off
from ensembles import TWO_STEP

import ndl

SOURCE = """
model Robertson:
    param k1 = 0.04
    param k2 = 3e7
    param k3 = 1e4
    state a = 1.0
    state b = 0.0
    state c = 0.0
    a' = -k1*a + k3*b*c
    b' = k1*a - k3*b*c - k2*b^2
    c' = k2*b^2

model VanDerPol:
    param mu = 100.0
    state x = 2.0
    state v = 0.0
    x' = v
    v' = mu*(1 - x^2)*v - x + 0.1*sin(t)

model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x + sin(t)

solver explicit_pair for ode order 2(1):
    step(f, x, t, h):
        k1 = f(x, t)
        k2 = f(x + h*k1, t + h)
        error = h/2*(k2 - k1)
        return x + h/2*(k1 + k2)
"""

COUNT = 4
STEPPED = ["rosenbrock23(rtol=1e-3)", "rodas5(rtol=1e-6)"]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + TWO_STEP)


def robertson(program: Any, grad: bool = False) -> tuple[Any, list[torch.Tensor]]:
    k1 = torch.linspace(0.03, 0.05, COUNT, dtype=torch.float64).requires_grad_(grad)
    k3 = torch.tensor(1e4, dtype=torch.float64, requires_grad=grad)
    a = torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64).requires_grad_(grad)
    return program.Robertson().bind(k1=k1, k3=k3, a=a), [k1, k3, a]


def van_der_pol(program: Any, grad: bool = False) -> tuple[Any, list[torch.Tensor]]:
    mu = torch.linspace(5, 10, COUNT, dtype=torch.float64).requires_grad_(grad)
    x = torch.linspace(1.5, 2, COUNT, dtype=torch.float64).requires_grad_(grad)
    return program.VanDerPol().bind(mu=mu, x=x), [mu, x]


def solved(made: Any, method: str, backend: str, **settings: Any) -> Any:
    return ndl.solve(made, method=method, backend=backend, **{"span": (0, 10), "save": "end", **settings})


def pair(program: Any, make: Any, method: Any, **settings: Any) -> tuple[Any, Any]:
    """By torch and by a kernel: values, and gradients of a weighted sum of them, over their own size."""
    found = []
    for backend in ("torch", "cpu"):
        made, leaves = make(program, "gradient" in settings)
        s = solved(made, method, backend, **settings)
        values = torch.cat([s[n].values.flatten() for n in s.names()])
        grads = ()
        if leaves[0].requires_grad:
            weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
            grads = torch.autograd.grad((values * weight).sum(), leaves)
        found.append((s, values.detach(), grads))
    return found[0], found[1]


@pytest.mark.parametrize("save", ["end", "every 0.23"])
@pytest.mark.parametrize("make", [robertson, van_der_pol])
@pytest.mark.parametrize("method", STEPPED)
def test_the_same_steps_values_and_gradients(program: Any, method: str, make: Any, save: str) -> None:
    (a, u, ga), (b, v, gb) = pair(program, make, method, save=save, span=(0, 1), gradient="discrete")
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-9
    assert all(off(g, h) < 1e-9 for g, h in zip(ga, gb))


@pytest.mark.parametrize(
    ("method", "save"),
    [("kvaerno5(rtol=1e-6)", "end"), ("kvaerno5(rtol=1e-6)", "every 0.3"), ("sdirk(rtol=1e-5)", "end")],
)
@pytest.mark.parametrize("make", [robertson, van_der_pol])
def test_implicit_stages(program: Any, make: Any, method: str, save: str) -> None:
    """The same steps and values; with a gradient, torch corrects each stage once more than its run did, by
    up to what Newton's iteration left, a thousandth of the tolerance."""
    (a, u, _), (b, v, _) = pair(program, make, method, save=save, span=(0, 2))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert torch.equal(a.stats.evaluations, b.stats.evaluations)
    assert off(u, v) < 1e-11
    (_, _, ga), (_, _, gb) = pair(program, make, method, save=save, span=(0, 0.5), gradient="discrete")
    assert all(off(g, h) < 2e-6 for g, h in zip(ga, gb))


def test_gradients_through_implicit_stages_against_finite_differences(program: Any) -> None:
    def loss(mu: torch.Tensor) -> torch.Tensor:
        made = program.VanDerPol().bind(mu=mu)
        s = solved(
            made, "kvaerno5(rtol=1e-9, atol=1e-11)", "cpu", save="every 0.3", span=(0, 1), gradient="discrete"
        )
        return s.x.values.square().sum()

    check_gradient(loss, torch.linspace(5, 10, COUNT, dtype=torch.float64), 1e-3, 1e-5)


@pytest.mark.parametrize("make", [robertson, van_der_pol])
@pytest.mark.parametrize(
    "method",
    [
        "rosenbrock23(h=2e-4)",
        "rodas5(steps=50)",
        "trapezoidal(h=1e-3)",
        "implicit_euler(h=1e-3)",
        "kvaerno5(h=5e-3)",
    ],
)
def test_fixed_steps(program: Any, method: str, make: Any) -> None:
    (_, u, ga), (_, v, gb) = pair(
        program, make, method, save="every 0.013", span=(0, 0.04), gradient="discrete"
    )
    # torch corrects implicit stages once more where it records a gradient
    assert off(u, v) < (1e-12 if method.startswith("ro") else 1e-10)
    assert all(off(g, h) < (1e-9 if method.startswith("ro") else 1e-7) for g, h in zip(ga, gb))


@pytest.mark.parametrize("text", ["two_step(h=0.05)", "explicit_pair(rtol=1e-4)"])
def test_solvers_of_ones_own(program: Any, text: str) -> None:
    """With what they carry, earlier values, and its derivative."""
    k = torch.linspace(0.5, 2, COUNT, dtype=torch.float64)
    found = []
    for backend in ("torch", "cpu"):
        rate = k.clone().requires_grad_(True)
        s = solved(program.Decay().bind(k=rate), text, backend, span=(0, 1),
                   save="every 0.17", gradient="discrete")  # fmt: skip
        found.append((s.x.values.detach(), torch.autograd.grad(s.x.values.square().sum(), rate)[0]))
    assert off(found[0][0], found[1][0]) < 1e-12 and off(found[0][1], found[1][1]) < 1e-10


@pytest.mark.parametrize("method", ["rodas5(rtol=1e-5)", "rosenbrock23(rtol=1e-3)", "kvaerno5(rtol=1e-4)"])
def test_backwards_in_time_and_single_precision(program: Any, method: str) -> None:
    k = torch.linspace(-2, -0.5, COUNT, dtype=torch.float64)
    made = program.Decay().bind(k=k)
    a, b = (solved(made, method, backend, span=(1, 0), save="every 0.3") for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and off(a.x.values, b.x.values) < 1e-11
    single = solved(made, method, "cpu", span=(1, 0), precision="float32")
    assert single.final.x.dtype == torch.float32
    assert off(a.final.x, single.final.x.double()) < 1e-3
