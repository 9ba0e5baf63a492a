"""Implicit methods on large grids: sparse Jacobians against explicit runs, dense systems and differences."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch
from field_problems import solved
from ndl.runtime import colouring

ALLEN_CAHN = """
domain Square = interval(x in 0..1, y in 0..1)

model M:
    param k = 0.01
    state u: R on Square = cos(pi*x)*cos(2*pi*y)
    u' = k*lap(u) + u - u^3
    on boundary(Square): dn(u) = 0
"""

GRAY_SCOTT = """
domain Torus = periodic(x in 0..1, y in 0..1)

model M:
    param D = 2e-4
    state u: R on Torus = 1 - 0.5*exp(-50*((x - 0.5)^2 + (y - 0.5)^2))
    state v: R on Torus = 0.25*exp(-50*((x - 0.5)^2 + (y - 0.5)^2))
    u' = D*lap(u) - u*v^2 + 0.04*(1 - u)
    v' = 0.5*D*lap(v) + u*v^2 - 0.1*v
"""

METHODS = [
    "implicit_euler(h=0.05)",
    "trapezoidal(h=0.05)",
    "sdirk(rtol=1e-5, atol=1e-7)",
    "kvaerno5(rtol=1e-5, atol=1e-7)",
    "rosenbrock23(rtol=1e-4, atol=1e-6)",
    "rodas5(rtol=1e-5, atol=1e-7)",
    "bdf(rtol=1e-4, atol=1e-6)",
]


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every Jacobian dense."""
    return lambda: monkeypatch.setattr(colouring, "LEAST", {"cpu": 10**9, "cuda": 10**9})


@pytest.mark.parametrize("method", METHODS)
def test_sparse_and_dense_systems_give_the_same_run(method: str, dense: Any) -> None:
    sparse = solved(ALLEN_CAHN, "uniform(18, 17)", method=method, save="[0, 0.13, 0.2]", span="0..0.2")
    assert sparse.problem.field().sparse is not None
    dense()
    whole = solved(ALLEN_CAHN, "uniform(18, 17)", method=method, save="[0, 0.13, 0.2]", span="0..0.2")
    assert whole.problem.field().sparse is None
    torch.testing.assert_close(sparse.u, whole.u, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", ["rodas5(rtol=1e-5, atol=1e-7)", "kvaerno5(rtol=1e-5, atol=1e-7)"])
@pytest.mark.parametrize("text", [ALLEN_CAHN, GRAY_SCOTT], ids=["Allen-Cahn", "Gray-Scott"])
def test_large_grids_agree_with_explicit_runs(text: str, method: str) -> None:
    found = solved(text, "uniform(128, 128)", method=method, span="0..0.1")
    exact = solved(text, "uniform(128, 128)", method="tsit5(rtol=1e-9, atol=1e-11)", span="0..0.1")
    assert float((found.final.u - exact.final.u).abs().max()) < 2e-6


def test_memory_grows_like_the_grid() -> None:
    """A dense Jacobian of 64 x 64 points has 134 MB; those of one system are far below."""

    def peak(n: int) -> int:
        tracemalloc.start()
        solved(ALLEN_CAHN, f"uniform({n}, {n})", method="implicit_euler(h=0.05)", span="0..0.05")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(24)
    assert peak(64) < 8 * peak(32)


PAIRS = [(m, g) for m in ("kvaerno5", "rodas5") for g in ("discrete", "adjoint")] + [("bdf", "discrete")]


@pytest.mark.parametrize(("method", "gradient"), PAIRS)
def test_gradients_against_difference_quotients(method: str, gradient: str) -> None:
    """With fixed steps, whose quotients are of what was computed; the adjoint of the exact solution with
    tolerances."""
    options = "h=0.1" if gradient == "discrete" else "rtol=1e-9, atol=1e-11"

    def loss(k: float, gradient: str = "none") -> tuple[torch.Tensor, Any]:
        text = ALLEN_CAHN.replace("k = 0.01", f"k = {k}")
        chosen = {"method": f"{method}({options})", "span": "0..0.2", "save": "[0, 0.13, 0.2]"}
        s = solved(text, "uniform(18, 17)", gradient=gradient, **chosen)
        u = s.u
        return (u[-1] ** 3).sum() + (u[1] ** 2)[3:9].sum(), s.model

    value, model = loss(0.01, gradient)
    (found,) = torch.autograd.grad(value, [dict(model.named_parameters())["k"]])
    e = 1e-5
    quotient = float(loss(0.01 + e)[0] - loss(0.01 - e)[0]) / (2 * e)
    assert float(found) == pytest.approx(quotient, rel=2e-6)
