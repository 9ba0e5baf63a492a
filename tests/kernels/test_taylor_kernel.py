"""`taylor` in kernels against torch: values, steps and gradients; and what kernels cannot say."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from ensembles import COUNT, driven, gradient, lorenz, solved
from ndl.compiler.diagnostics import NDLError

import ndl

SOURCE = """
model Lorenz:
    param sigma = 10.0, rho = 28.0, beta = 8/3
    state x = 1.0, y = 0.0, z = 1.0
    x' = sigma*(y - x)
    y' = x*(rho - z) - y
    z' = x*y - beta*z

model Driven:
    param w: R[2] = [1.0, 2.0]
    param k > 0 = 0.3
    state q: R[2] = [1.0, 0.5]
    state p: R[2] = [0.0, -0.2]
    q' = p
    p' = -w*sin(q) - k*tanh(p) + [cos(t), exp(-t)]/(1 + norm(q)^2)^1.5

model Largest:
    param k = 1.0
    state x: R[2] = [1.0, 2.0]
    x' = -k*x/max(x)

model Blow:
    param a = 1.0
    state x = 1.0
    x' = a*x^2
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


@pytest.mark.parametrize("make", [lorenz, driven])
@pytest.mark.parametrize(
    ("method", "fixed"), [("taylor(order=6, h=0.05)", True), ("taylor(rtol=1e-8)", False)]
)
def test_values_and_steps(program: Any, method: str, fixed: bool, make: Any) -> None:
    for save in ("end", "every 0.137"):
        a, b = (solved(make(program)[0], method, backend, save=save) for backend in ("torch", "cpu"))
        assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
        if save == "end":  # torch looks at the slopes at both ends of a step inside which values are saved
            assert torch.equal(a.stats.evaluations, b.stats.evaluations)
        for name in a.names():
            scale = max(float(a[name].values.abs().max()), 1)
            assert float((a[name].values - b[name].values).abs().max()) <= (1e-12 if fixed else 1e-10) * scale


@pytest.mark.parametrize(
    ("make", "method", "save"),
    [
        (lorenz, "taylor(order=5, h=0.05)", "every 0.33"),
        (lorenz, "taylor(rtol=1e-5)", "every 0.33"),
        (driven, "taylor(rtol=1e-5, order=7)", "end"),
    ],
)
def test_gradients(program: Any, make: Any, method: str, save: str) -> None:
    """To 1e-9 of torch's."""
    pair = [gradient(program, make, method, backend, save=save) for backend in ("torch", "cpu")]
    for a, b in zip(*pair):
        assert float((a - b).abs().max()) <= 1e-9 * max(float(a.abs().max()), 1)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_gradients_against_finite_differences(program: Any, backend: str) -> None:
    def loss(w: torch.Tensor) -> torch.Tensor:
        s = solved(
            program.Driven().bind(w=w),
            "taylor(rtol=1e-9, order=9)",
            backend,
            gradient="discrete",
            save="every 0.3",
        )
        return s.q.values.square().sum()

    w = 1 + torch.rand(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w.requires_grad_(True)
    (exact,) = torch.autograd.grad(loss(w), w)
    step = 1e-5
    for place in ((0, 0), (2, 1)):
        moved = torch.zeros_like(w)
        moved[place] = step
        with torch.no_grad():
            rate = (loss(w + moved) - loss(w - moved)) / (2 * step)
        assert float(rate) == pytest.approx(float(exact[place]), rel=2e-6)


def test_single_precision(program: Any) -> None:
    a, b = (
        solved(driven(program)[0], "taylor(rtol=1e-5)", "cpu", precision=p) for p in ("float32", "float64")
    )
    assert a.final.q.dtype == torch.float32
    torch.testing.assert_close(a.final.q.double(), b.final.q, rtol=1e-4, atol=1e-4)


def test_a_tolerance_for_each_state(program: Any) -> None:
    method = "taylor(order=9, rtol=1e-6, atol=[1e-3, 1e-9])"
    a, b = (solved(driven(program)[0], method, k) for k in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps)
    torch.testing.assert_close(a.final.q, b.final.q, rtol=1e-10, atol=1e-10)


def test_what_has_no_recurrence_is_refused(program: Any) -> None:
    k = torch.linspace(0.5, 2, COUNT, dtype=torch.float64)
    for backend in ("cpu", "auto"):
        with pytest.raises(NDLError, match="`amax` has no recurrence"):
            solved(program.Largest().bind(k=k), "taylor", backend)


def test_a_solution_that_ends_is_reported_as_by_torch(program: Any) -> None:
    a = torch.linspace(0.1, 1.0, COUNT, dtype=torch.float64)
    errors = []
    for backend in ("auto", "torch"):
        with pytest.raises(NDLError, match="x") as caught:
            solved(program.Blow().bind(a=a), "taylor(rtol=1e-6)", backend)
        # of the digits of x there, none is good: it magnifies the rounding of t by 1e13
        errors.append(re.sub("`x` = [0-9.e+]+|h = [0-9.e-]+", "", str(caught.value)))
    assert errors[0] == errors[1]
