"""Draws and Poisson jumps in kernels: the numbers that torch draws, the same steps, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compared import off
from interpreted import interpret_runs
from ndl.compiler.diagnostics import NDLError

import ndl

LAWS = [
    "uniform(1, 2)", "normal(0.1, 0.3)", "lognormal(0, 0.3)", "loguniform(0.5, 2)", "exponential(2)",
    "laplace(0, 0.1)", "student(5, 0, 1)", "bernoulli(0.3)", "choice([0.5, 1, 2])",
    "categorical([0.2, 0.3, 0.5])",
]  # fmt: skip

SOURCE = """
model Held:
    param k = 0.9
    z: R[2] ~ normal(0, k)
    w ~ uniform(1, 2)
    state x = 1.0
    x' = -w*x + z[0]*sin(t) + z[1]

model Shaken:
    param k = 0.9
    z: R[2] ~ normal(0, k) per step
    w: R ~ laplace(0, 0.1) per step
    state x = 1.0
    x' = -k*x + z[0]*sin(t) + z[1] + w

model Jumping:
    param k = 0.9
    noise N: poisson(2)
    state x = 1.0
    x' = -k*x
    when every 0.37:
        a: R ~ uniform(0.5, k)
        b: R ~ bernoulli(0.4)
        x <- x + a*b
    when falling(x - 0.3):
        c: R ~ exponential(2)
        x <- x + c*k

model Merton:
    param k = 0.2
    noise N: poisson(3)
    noise W: wiener
    state x = 1.0
    dx = 0.1*x*dt + k*x*dW + 0.3*x*dN

model Shot:
    param k = 1.0
    noise N: poisson(3)
    state x = 0.0
    dx = -x*dt + k*dN

model Part:
    param k = 1.0
    state x = 1.0
    x' = -k*x

model Drawn:
    p ~ Part(k in [1, 2, 3], x in [10, 20, 30])

model Gamma:
    z ~ gamma(2, 1) per step
    state x = 0.0
    x' = z
""" + "".join(
    f"\nmodel Law{i}:\n    z: R[3] ~ {law} per step\n    state x: R[3] = 0.0\n    x' = z\n"
    for i, law in enumerate(LAWS)
)  # fmt: skip

COUNT = 20


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def run(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor, Any]:
    model = getattr(program, name)()
    k = torch.tensor(float(model.k.detach()), dtype=torch.float64, requires_grad=True)
    usual = {"span": (0, 1.5), "save": "every 0.1", "gradient": "discrete", "ensemble": COUNT, "seed": 3}
    s = ndl.solve(model.bind(k=k), method=method, backend=backend, **{**usual, **settings})
    x = s.x.values
    weight = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)
    grads = torch.autograd.grad((x * weight).sum(), k)[0] if x.requires_grad else None
    return s, x.detach(), grads


@pytest.mark.parametrize("place", range(len(LAWS)), ids=[law.partition("(")[0] for law in LAWS])
def test_laws_draw_the_same_numbers(program: Any, place: int) -> None:
    """A step of Euler's method adds h times a draw."""
    found = [
        ndl.solve(
            getattr(program, f"Law{place}")(), method="euler(h=0.125)", backend=backend, span=(0, 4),
            save="steps", ensemble=COUNT, seed=5,
        ).x.values.diff(dim=1) * 8
        for backend in ("torch", "cpu")
    ]  # fmt: skip
    assert len(found[0].unique()) > 1
    assert float((found[0] - found[1]).abs().max()) < 1e-13


CASES = [
    *(("Held", m) for m in ("rk4(h=0.05)", "tsit5(rtol=1e-6)", "rodas5(rtol=1e-6)")),
    *(("Shaken", m) for m in ("rk4(h=0.05)", "tsit5(h=0.05)", "rosenbrock23(h=0.05)", "bdf(h=0.05)")),
    ("Shaken", "dopri5(rtol=1e-1, atol=1e-1)"),
    *(("Jumping", m) for m in ("tsit5(rtol=1e-6)", "rk4(h=0.06)", "bosh3(rtol=1e-4)")),
    *(("Merton", m) for m in ("euler_maruyama(h=0.02)", "heun(h=0.02)")),
    *(("Shot", m) for m in ("tsit5(rtol=1e-6)", "rk4(h=0.3)")),
]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_same_steps_values_and_gradients(program: Any, name: str, method: str) -> None:
    (a, x, g), (b, y, h) = (run(program, name, method, backend) for backend in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert off(x, y) < (1e-12 if "rtol" not in method or name != "Shaken" else 1e-6)
    assert off(g, h) < (1e-9 if "rtol" not in method or name != "Shaken" else 1e-6)
    if name in ("Jumping", "Merton", "Shot"):
        assert torch.equal(a.events.index, b.events.index) and len(a.events.t[0]) > 2
        assert float((a.events.t - b.events.t).nan_to_num().abs().max()) < 1e-12


def test_a_drawn_part(program: Any) -> None:
    """Its start is drawn under the name of its state."""
    found = [
        ndl.solve(program.Drawn(), method="rk4(h=0.05)", backend=backend, span=(0, 1), save="every 0.5",
                  ensemble=COUNT, seed=3)["p.x"].values
        for backend in ("torch", "cpu")
    ]  # fmt: skip
    assert len(found[0][:, 0].unique()) == 3 and off(*found) < 1e-14


def test_implicit_stages_see_the_draws_of_their_step(program: Any) -> None:
    (_, x, g), (_, y, h) = (
        run(program, "Shaken", "implicit_euler(h=0.05)", backend) for backend in ("torch", "cpu")
    )
    assert off(x, y) < 1e-10 and off(g, h) < 1e-9


@pytest.mark.parametrize(("name", "method"), [("Shaken", "rk4(h=0.05)"), ("Shot", "tsit5(rtol=1e-9)")])
def test_gradients_against_finite_differences(program: Any, name: str, method: str) -> None:
    def loss(k: torch.Tensor, gradient: str = "none") -> torch.Tensor:
        s = ndl.solve(getattr(program, name)().bind(k=k), method=method, backend="cpu", span=(0, 1.5),
                      save="every 0.1", ensemble=COUNT, seed=3, gradient=gradient)  # fmt: skip
        return s.x.values.square().sum()

    k = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(loss(k, "discrete"), k)
    rate = (loss(k.detach() + 1e-5) - loss(k.detach() - 1e-5)) / 2e-5
    assert float(rate) == pytest.approx(float(exact), rel=1e-6)


def test_a_run_from_checkpoints_draws_the_same(program: Any) -> None:
    (_, x, g), (_, y, h) = (
        run(program, "Shaken", "rk4(h=0.05)", "cpu", gradient=gradient)
        for gradient in ("discrete", "checkpoint(4)")
    )
    assert torch.equal(x, y) and off(g, h) < 1e-12


@pytest.mark.parametrize(
    ("name", "method"), [("Shaken", "rk4(h=0.25)"), ("Jumping", "bosh3(rtol=1e-3)"), ("Shot", "rk4(h=0.5)")]
)
def test_the_interpreter_agrees(
    program: Any, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    settings = {"save": "every 0.5", "ensemble": 3}
    _, x, g = run(program, name, method, "cpu", **settings)
    interpret_runs(monkeypatch)
    _, y, h = run(program, name, method, "cpu", **settings)
    assert off(x, y) < 1e-13 and off(g, h) < 1e-12


def test_what_goes_by_torch(program: Any) -> None:
    with pytest.raises(NDLError, match="`z` is drawn anew from `gamma`"):
        ndl.solve(program.Gamma(), method="rk4(h=0.1)", backend="cpu", span=(0, 1), ensemble=2)


def test_a_series_sees_the_draws_of_its_step(program: Any) -> None:
    """Two methods of high order on the same steps."""
    found = [
        ndl.solve(program.Shaken(), method=f"{name}(h=0.125)", backend="cpu", span=(0, 1), ensemble=3, seed=2)
        for name in ("taylor", "vern7")
    ]
    assert off(*(s.final.x for s in found)) < 1e-11


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_errors_by_steps_with_other_draws_are_refused(program: Any, backend: str) -> None:
    with pytest.raises(NDLError, match="draws of its own"):
        ndl.solve(program.Shaken(), method="bdf(rtol=1e-2)", backend=backend, span=(0, 1))
