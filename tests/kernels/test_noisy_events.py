"""Events under noise in kernels against torch's runs: the same path, steps and firings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.passes import simplify
from ndl.runtime.kernels import ode

import ndl
from ndl.host.kernels import Kernels

SOURCE = """
model Barrier:
    param s = 0.3
    state x = 1.0
    state y = 0.0
    noise W: wiener
    dx = -0.2*x*dt + s*x*dW
    dy = x*dt
    when falling(x - 0.8): x <- 1.2
    when rising(x - 1.4): stop "it is high"

model Dosed:
    param s = 0.3
    param k = 1.0
    state x = 1.0
    noise W: wiener
    dx = -k*x*dt + s*x*dW
    when every 0.3: x <- x + 0.5*k

model First:
    param s = 1.0
    state x = 0.0
    noise W: wiener
    dx = s*dW
    when rising(x - 0.8): stop "it is there"

model Turned:
    calculus stratonovich
    param s = 0.5
    state q = 1.0
    state p = 0.5
    noise V: wiener
    noise W: wiener
    dq = p*dt + s*sin(p)*dV + 0.1*q*dW
    dp = -q*dt + 0.2*cos(q)*dW + 0.3*q*dV
    when falling(q): p <- -0.9*p
    when crossing(p): q <- q + 0.05
    when every 0.37: q <- q + 0.1
"""

SOURCE += """
model Shivering:
    param k = 1.0
    state x = 1.0
    state v = 0.0
    noise W: wiener
    dx = v*dt
    dv = -k*dt + 1e-9*dW
    when falling(x): v <- -0.8*v

model Ball:
    param k = 1.0
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -k
    when falling(x): v <- -0.8*v
"""

COUNT = 6


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def spread(count: int = COUNT) -> torch.Tensor:
    return torch.linspace(0.2, 0.6, count, dtype=torch.float64)


def solved(program: Any, model: str, method: str, backend: str, **settings: Any) -> Any:
    given = {"span": (0, 1.5), "save": "every 0.25", "seed": 3, **settings}
    made = getattr(program, model)().bind(s=given.pop("s", spread()))
    return ndl.solve(made, method=method, backend=backend, **given)


def alike(a: Any, b: Any) -> None:
    """The same steps and firings; a path magnifies the rounding of a time by 4000."""
    assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
    assert torch.equal(a.events.index, b.events.index) and int((b.events.index >= 0).sum()) >= COUNT
    torch.testing.assert_close(a.events.t, b.events.t, rtol=1e-14, atol=1e-14, equal_nan=True)
    torch.testing.assert_close(a.final.t, b.final.t, rtol=1e-14, atol=1e-14)
    for name in a.names():
        torch.testing.assert_close(a[name].values, b[name].values, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(a.final[name], b.final[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("model", "method", "settings"),
    [
        ("Barrier", "euler_maruyama(h=0.0625)", {}),
        ("Barrier", "reversible_heun(h=0.07)", {"save": "end"}),
        ("Barrier", "sri(rtol=1e-2)", {"span": (-0.5, 1.3)}),
        ("Barrier", "milstein(h=0.1)", {"save": "steps", "span": (0, 0.7)}),
        ("Dosed", "milstein(h=0.05)", {"span": (-0.5, 1.3)}),
        ("Dosed", "sri(rtol=1e-3)", {"save": "steps"}),
        ("Turned", "heun(h=0.05)", {"span": (-0.4, 0.4)}),
    ],
)
def test_the_same_as_torch(program: Any, model: str, method: str, settings: dict[str, Any]) -> None:
    alike(*(solved(program, model, method, backend, **settings) for backend in ("torch", "cpu")))


def test_the_events_of_a_member_do_not_depend_on_the_others(program: Any) -> None:
    """Members keep their numbers, and with them their paths."""
    few, many = (
        solved(program, "Barrier", "euler_maruyama(h=0.0625)", "cpu", s=spread()[:count]) for count in (4, 6)
    )
    width = few.events.t.shape[1]
    assert torch.equal(few.events.t.nan_to_num(), many.events.t[:4, :width].nan_to_num())


def test_first_passages_of_a_brownian_motion(program: Any) -> None:
    """P(max W > a up to t) = 2 P(W_t > a), the level being raised by 0.5826 sqrt(dt) where the path is looked
    at at intervals dt, the quarters of steps (Broadie, Glasserman, Kou 1997, Mathematical Finance 7,
    325–349)."""
    count, h = 8000, 0.04
    made = program.First().bind(s=torch.ones(count, dtype=torch.float64))
    s = ndl.solve(made, method=f"euler_maruyama(h={h})", span=(0, 1), save="end", backend="cpu", seed=1)
    hit = s.final.t < 1
    assert torch.equal(hit, torch.isfinite(s.events.t).any(1))
    torch.testing.assert_close(s.final.W[hit], torch.full_like(s.final.W[hit], 0.8), rtol=0, atol=1e-10)
    level = 0.8 + 0.5826 * (h / 4) ** 0.5
    chance = math.erfc(level / 2**0.5)
    assert float(hit.double().mean()) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / count) ** 0.5)


def gradient(program: Any, method: str, backend: str, count: int = COUNT, **settings: Any) -> Any:
    s, k = spread(count).requires_grad_(), torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    made = program.Dosed().bind(s=s, k=k)
    given = {"span": (0, 2), "save": "every 0.25", "seed": 3, "gradient": "discrete", **settings}
    found = ndl.solve(made, method=method, backend=backend, **given)
    loss = found.x.values.square().sum() + found.final.x.sin().sum()
    return loss.detach(), torch.autograd.grad(loss, (s, k))


@pytest.mark.parametrize("method", ["milstein(h=0.07)", "reversible_heun(h=0.07)", "sri(rtol=1e-3)"])
def test_gradients_past_events_at_given_times(program: Any, method: str) -> None:
    (_, a), (_, b) = (gradient(program, method, backend) for backend in ("torch", "cpu"))
    for x, y in zip(a, b):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9 * float(x.abs().max()))


def test_such_a_gradient_against_differences(program: Any) -> None:
    made = program.Dosed()
    _, (_, exact) = gradient(program, "milstein(h=0.07)", "cpu")
    ends = []
    for k in (1.1 + 1e-6, 1.1 - 1e-6):
        s = ndl.solve(
            made.bind(s=spread(), k=torch.tensor(k, dtype=torch.float64)), method="milstein(h=0.07)",
            backend="cpu", span=(0, 2), save="every 0.25", seed=3,
        )  # fmt: skip
        ends.append(float(s.x.values.square().sum() + s.final.x.sin().sum()))
    assert float(exact) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7)


@pytest.mark.parametrize(
    ("model", "method"),
    [("Barrier", "heun(h=0.1)"), ("Barrier", "sri(rtol=1e-2)"), ("Turned", "euler_heun(h=0.1)"),
     ("Turned", "reversible_heun(h=0.1)")],
)  # fmt: skip
def test_gradients_past_roots(program: Any, model: str, method: str) -> None:
    """The path is held while the time of a root moves: torch's rule."""
    found = []
    for backend in ("torch", "cpu"):
        s = spread().requires_grad_()
        made = getattr(program, model)().bind(s=s)
        run = ndl.solve(made, method=method, backend=backend, span=(0, 2), save="every 0.25", seed=3,
                        gradient="discrete")  # fmt: skip
        values = torch.cat([run[n].values.flatten() for n in run.names()])
        assert run.events.t.shape[1] > 1
        loss = values.nan_to_num().square().sum() + run.events.t.nan_to_num().sin().sum()
        found.append(torch.autograd.grad(loss, s)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9 * float(found[0].abs().max()))


def test_without_noise_such_a_gradient_is_that_of_the_flow(program: Any) -> None:
    """A ball under noise of 1e-9, against differences of a run without."""
    k = torch.linspace(0.9, 1.1, 4, dtype=torch.float64).requires_grad_()
    settings = {"span": (0, 2), "save": "end", "backend": "cpu"}
    noisy = ndl.solve(
        program.Shivering().bind(k=k),
        method="euler_maruyama(h=0.001)",
        seed=1,
        gradient="discrete",
        **settings,
    )
    (exact,) = torch.autograd.grad(noisy.final.x.sum() + noisy.events.t.nan_to_num().sum(), k)

    def plain(k: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(program.Ball().bind(k=k), method="tsit5(rtol=1e-10)", **settings)
        return s.final.x + s.events.t.nan_to_num().sum(1)

    with torch.no_grad():
        rate = (plain(k + 1e-5) - plain(k - 1e-5)) / 2e-5
    torch.testing.assert_close(exact, rate, rtol=5e-3, atol=5e-3)


def test_the_kernel_interpreter_gives_the_same(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"s": torch.ones(1, dtype=torch.float64), "span": (0, 0.5), "save": "end", "seed": 14}
    wanted = solved(program, "First", "heun(h=0.5)", "cpu", **few)
    _, grads = gradient(program, "milstein(h=0.3)", "cpu", 1, span=(0, 0.5), save="end")

    def interpreted(self: ode.KernelRun, made: Any, buffers: dict[str, torch.Tensor]) -> None:
        request = self.request if made is self.made else replace(self.request, backward=True, tape=False)
        assert isinstance(self.source, Kernels)
        flat = {name: b.view(-1).numpy() for name, b in buffers.items()}
        run(simplify(expand(self.source.kernel(request)[0])), flat, self.p.count)

    monkeypatch.setattr(ode.KernelRun, "_run", interpreted)
    found = solved(program, "First", "heun(h=0.5)", "cpu", **few)
    assert float(wanted.final.t) < 0.5
    for a, b in ((found.events.t, wanted.events.t), (found.final.x, wanted.final.x)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    _, found = gradient(program, "milstein(h=0.3)", "cpu", 1, span=(0, 0.5), save="end")
    for x, y in zip(found, grads):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


def test_what_still_goes_by_torch(program: Any) -> None:
    with pytest.raises(NDLError, match="undone past events"):
        solved(program, "Dosed", "reversible_heun(h=0.1)", "cpu", gradient="reversible")
