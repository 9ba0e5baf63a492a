"""Events at data in kernels: torch's firings, values and gradients, also of data at the start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import off
from interpreted import interpret_runs
from ndl.compiler.diagnostics import NDLError
from ndl.runtime.paths_in_time import linear

import ndl

SOURCE = """
model Count:
    input X: R[2] on time
    param k = 0.5
    state n = 0.0
    state h: R[2] = 0
    h' = -k*h
    when sample(X):
        n <- n + 1
        h <- k*h + X
    when falling(h[0] - 0.6):
        h <- 1.5*h

model Recurrent:
    input X: R[2] on time
    net f: R[3] -> R[3] = MLP(width=5, depth=1)
    net cell: (R[2], R[3]) -> R[3] = GRUCell()
    state h: R[3] = 0
    h' = f(h)
    when sample(X): h <- cell(X, h)

model Ended:
    input X: R[2] on time
    state h = 0.0
    h' = 1
    when sample(X): stop "it is there"
"""

COUNT = 4


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def data(family: bool) -> Any:
    """Of a family, with gaps: times of each member's own, and one without a datum at the start."""
    ts = torch.tensor([0, 0.5, 1.2, 2.0, 3.0], dtype=torch.float64)
    xs = 0.5 + torch.rand(COUNT, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    xs[1, 2] = xs[2, 0] = xs[3, 1:3] = torch.nan
    return linear(ts, xs, family=True) if family else linear(ts, xs[0])


def run(program: Any, name: str, method: str, backend: str, family: bool = True, **settings: Any) -> Any:
    model = getattr(program, name)()
    leaves = [p for p in model.parameters() if p.requires_grad]
    if name == "Count":
        leaves = [torch.linspace(0.4, 0.6, COUNT, dtype=torch.float64).requires_grad_()]
        model = model.bind(k=leaves[0])
    usual = {"span": (0, 3), "save": "every 0.4", "gradient": "discrete", "ensemble": COUNT}
    s = ndl.solve(model.bind(X=data(family)), method=method, backend=backend, **{**usual, **settings})
    values = torch.cat([s[n].values.flatten() for n in s.names()])
    loss = (values * torch.linspace(-1, 1, len(values), dtype=torch.float64)).sum()
    grads = torch.autograd.grad(loss + s.events.t.nan_to_num().sum(), leaves)
    return s, values.detach(), torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize("family", [True, False])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Count", "rk4(h=0.1)"),
        ("Count", "tsit5(rtol=1e-6)"),
        ("Count", "rk4(steps=2)"),
        ("Recurrent", "rk4(h=0.25)"),
    ],
)
def test_the_same_firings_values_and_gradients(program: Any, name: str, method: str, family: bool) -> None:
    (a, u, g), (b, v, h) = (run(program, name, method, backend, family) for backend in ("torch", "cpu"))
    assert torch.equal(a.events.index, b.events.index) and a.events.t[0, 0] == 0
    assert torch.equal(a.stats.steps, b.stats.steps)
    assert off(u, v) < 1e-12 and off(g, h) < 1e-9


def test_the_interpreter_agrees(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"save": "every 0.5", "span": (0, 1.25)}
    _, u, g = run(program, "Count", "heun(h=0.25)", "cpu", **settings)
    interpret_runs(monkeypatch)
    _, v, h = run(program, "Count", "heun(h=0.25)", "cpu", **settings)
    assert off(u, v) < 1e-13 and off(g, h) < 1e-12


def test_a_gradient_against_central_differences(program: Any) -> None:
    _, _, exact = run(program, "Count", "rk4(h=0.1)", "cpu", save="end")
    ends = []
    for side in (1e-6, -1e-6):
        k = side + torch.linspace(0.4, 0.6, COUNT, dtype=torch.float64)
        s = ndl.solve(program.Count().bind(k=k, X=data(True)), method="rk4(h=0.1)", backend="cpu",
                      span=(0, 3), save="end")  # fmt: skip
        values = torch.cat([s[n].values.flatten() for n in s.names()])
        loss = (values * torch.linspace(-1, 1, len(values), dtype=torch.float64)).sum()
        ends.append(float(loss + s.events.t.nan_to_num().sum()))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(exact.sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "span", "why"),
    [("Ended", (0, 3), "data that end a run"), ("Count", (3, 0), "are met backwards")],
)
def test_what_goes_by_torch(program: Any, name: str, span: tuple[float, float], why: str) -> None:
    model = getattr(program, name)().bind(X=data(True))
    with pytest.raises(NDLError, match=why):
        ndl.solve(model, method="rk4(h=0.1)", backend="cpu", span=span)
