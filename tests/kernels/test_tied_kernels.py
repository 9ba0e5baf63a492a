"""Algebraic equations, and steps that solve equations, by kernels: torch's accepted steps, values and
gradients; finite differences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import check_gradient, off
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.failures import SolveFailure

import ndl

SOURCE = """
model Tied:
    param g = 9.81
    state x = 1.0
    state v = 0.0
    state z = 1.0
    x' = v
    v' = -g*z - 0.1*v
    0 = z + 0.3*z^3 - sin(x) - 0.1*t

model Robertson:
    param g = 0.04
    state a = 1.0
    state b = 0.0
    state c = 0.0
    a' = -g*a + 1e4*b*c
    b' = g*a - 1e4*b*c - 3e7*b^2
    0 = a + b + c - 1

model VanDerPol:
    param g = 10.0
    state x = 2.0
    state v = 0.0
    x' = v
    v' = g*(1 - x^2)*v - x + 0.1*sin(t)

model Lost:
    state x = 1.0
    state z = 0.5
    x' = -x
    0 = z^2 + x

model Struck:
    param g = 1.0
    state x = 1.0
    state v = 0.0
    state z = 1.0
    x' = v
    v' = -g*z
    0 = z + 0.3*z^3 - x - 0.1*t - 0.2*v
    when falling(x - 0.6):
        v <- -0.7*v
        x <- 0.65
    when every 0.45:
        x <- x + 0.1*g

model Relay:
    param g = 1.0
    state x = 1.0
    state z = 1.0
    x' = if x > 0.6 then -g*z else -0.2*z
    0 = z + 0.3*z^3 - x - 0.1*t

model Astray:
    param g = 1.0
    state x = 1.0
    state z = 0.5
    x' = -g*z
    0 = z^2 - x
    when falling(x - 0.5):
        x <- -1
"""

COUNT = 4
STIFF = ["rosenbrock23(rtol=1e-4)", "rodas5(rtol=1e-6)", "rodas5(h=0.02)", "bdf(rtol=1e-4)", "bdf(h=0.02)"]
STAGES = ["kvaerno5(rtol=1e-6)", "sdirk(rtol=1e-6)", "implicit_euler(h=0.02)", "trapezoidal(h=0.02)"]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def run(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor, Any]:
    model = getattr(program, name)()
    usual = float(model.g.detach()) if hasattr(model, "g") else 1.0
    g = (usual * torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64)).requires_grad_(True)
    s = ndl.solve(
        model.bind(g=g), method=method, backend=backend,
        **{"span": (0, 0.5), "save": "every 0.13", "gradient": "discrete", **settings},
    )  # fmt: skip
    values = torch.cat([s[n].values.flatten() for n in s.names()])
    weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    return s, values.detach(), torch.autograd.grad((values * weight).sum(), g)[0]


@pytest.mark.parametrize(
    ("name", "method"),
    [*(("Tied", m) for m in STIFF), *(("Robertson", m) for m in STIFF if "rtol" in m)],
)
def test_algebraic_equations(program: Any, name: str, method: str) -> None:
    (a, u, g), (b, v, h) = (run(program, name, method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


@pytest.mark.parametrize("method", STAGES)
def test_algebraic_equations_by_implicit_stages(program: Any, method: str) -> None:
    """With a gradient, torch corrects each stage once more than its run did."""
    (a, u, g), (b, v, h) = (run(program, "Tied", method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-7 and off(g, h) < 1e-7
    found = [
        ndl.solve(
            program.Tied(), method=method, backend=backend, span=(0, 0.5), ensemble=COUNT, save="every 0.13"
        )
        for backend in ("torch", "cpu")
    ]
    assert off(*(s.z.values for s in found)) < 1e-11


def test_the_equations_are_kept(program: Any) -> None:
    s = ndl.solve(program.Tied(), method="rodas5(rtol=1e-8)", backend="cpu", span=(0, 1), ensemble=2)
    x, z = s.x.values, s.z.values
    t = torch.as_tensor(s.t, dtype=torch.float64)
    assert float((z + 0.3 * z**3 - torch.sin(x) - 0.1 * t).abs().max()) < 1e-7


@pytest.mark.parametrize("method", ["rodas5(rtol=1e-10)", "bdf(rtol=1e-8)", "kvaerno5(rtol=1e-10)"])
def test_gradients_against_finite_differences(program: Any, method: str) -> None:
    def loss(g: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(program.Tied().bind(g=g), method=method, backend="cpu", span=(0, 0.3),
                      save="every 0.1", gradient="discrete")  # fmt: skip
        return s.z.values.square().sum()

    check_gradient(loss, torch.linspace(9, 10, COUNT, dtype=torch.float64), 1e-3, 1e-6)


@pytest.mark.parametrize("method", ["bdf(rtol=1e-4)", "bdf(h=0.01)"])
def test_backward_differentiation(program: Any, method: str) -> None:
    (a, u, g), (b, v, h) = (run(program, "VanDerPol", method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9
    s, w, c = run(program, "VanDerPol", method, "cpu", gradient="checkpoint(7)", save="every 0.13")
    assert torch.equal(s.stats.steps, b.stats.steps) and off(v, w) < 1e-12 and off(h, c) < 1e-9


def test_a_start_without_solution_is_named(program: Any) -> None:
    with pytest.raises((NDLError, SolveFailure), match="NDL656"):
        ndl.solve(program.Lost(), method="rodas5(rtol=1e-6)", backend="cpu", span=(0, 1), ensemble=2)


EVENTS = ["rodas5(rtol=1e-6)", "rodas5(h=0.07)"]


@pytest.mark.parametrize("method", EVENTS)
def test_events_beside_algebraic_equations(program: Any, method: str) -> None:
    """After an event the algebraic states follow, and gradients with them."""
    (a, u, g), (b, v, h) = (run(program, "Struck", method, be, span=(0, 1.3)) for be in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    times = [s.events.t.detach().nan_to_num() for s in (a, b)]
    assert times[0].shape[1] > 2 and off(*times) < 1e-12
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9
    x, w, z = (b[name].values.detach() for name in "xvz")
    t = torch.as_tensor(b.t, dtype=torch.float64)
    assert float((z + 0.3 * z**3 - x - 0.1 * t - 0.2 * w).abs().max()) < 1e-5


def test_events_beside_algebraic_equations_of_backward_differentiation(program: Any) -> None:
    a, b = (
        ndl.solve(program.Struck(), method="bdf(rtol=1e-4)", backend=backend, span=(0, 1.3), ensemble=COUNT)
        for backend in ("torch", "cpu")
    )
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(a.final.z, b.final.z) < 1e-12


@pytest.mark.parametrize("method", ["rodas5(rtol=1e-6)", "rosenbrock23(rtol=1e-4)"])
def test_a_discontinuity_beside_algebraic_equations(program: Any, method: str) -> None:
    (a, u, g), (b, v, h) = (
        run(program, "Relay", method, backend, span=(0, 1)) for backend in ("torch", "cpu")
    )
    for backend in ("torch", "cpu"):
        model = program.Relay().bind(g=torch.linspace(0.9, 1.1, COUNT, dtype=torch.float64))
        plain = ndl.solve(model, method=method, backend=backend, span=(0, 1), save="end")
        assert torch.equal(plain.stats.steps, a.stats.steps)  # what is saved and recorded changes no step
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(u, v) < 1e-10 and off(g, h) < 1e-9


def test_gradients_past_events_against_finite_differences(program: Any) -> None:
    def loss(g: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(program.Struck().bind(g=g), method="rodas5(rtol=1e-10)", backend="cpu", span=(0, 1.2),
                      save="every 0.31", gradient="discrete")  # fmt: skip
        return s.z.values.square().sum()

    check_gradient(loss, torch.linspace(0.9, 1.3, COUNT, dtype=torch.float64), 1e-4, 1e-6)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_equations_that_an_event_leaves_without_solution_are_named(program: Any, backend: str) -> None:
    g = torch.tensor([0.1, 1.0], dtype=torch.float64)
    with pytest.raises(NDLError, match=r"member 1.*near the values after an event") as found:
        ndl.solve(program.Astray().bind(g=g), method="rodas5(rtol=1e-6)", backend=backend, span=(0, 1))
    if backend == "cpu":
        cause = found.value.__cause__
        assert isinstance(cause, SolveFailure)
        assert [(f.member, f.status) for f in cause.failed] == [(1, "initial")]
        assert cause.failed[0].time == pytest.approx(2 - 2**0.5, rel=1e-6)
