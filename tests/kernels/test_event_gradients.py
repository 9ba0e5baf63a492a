"""Gradients past events, stops and located breaks in kernels: against torch's, central differences, closed
forms and the kernel interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from ensembles import TWO_STEP
from ndl.compiler.diagnostics import NDLError
from ndl.compiler.kernels.interpret import run
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.passes import simplify
from ndl.runtime.kernels import ode

import ndl
from ndl.host.kernels import Kernels

SOURCE = """
use std.nets: MLP

model Ball:
    param g = 9.81
    param e = 0.8
    state h = 10.0
    state v = 0.0
    h' = v
    v' = -g*(1 + 0.1*sin(t))
    when falling(h): v <- -e*v

model Touch:
    param g = 9.81
    param e = 0.3
    state h = 10.0
    state v = 0.0
    h' = v - e
    v' = -g - 0.1*v
    when falling(h - 0.1*t): v <- e*v^2
    when falling(h - e*v - 3): stop "it is near the ground"

model Waves:
    param w = 3.0
    param e = 0.4
    state x = 0.1
    state q: R[2] = [0.0, 0.2]
    state both = 0.0
    x' = 1 + 0.3*cos(q[1])
    q' = -e*q
    when falling(sin(w*x)): q <- q + [1, w]
    when rising(sin(w*x)): q <- q + [0, x*t]
    when crossing(sin(w*x)): both <- both + x^2

model Dosed:
    param e = 1.0
    param every_so = 0.3
    param low = 0.4
    state c = 1.0
    state doses = 0.0
    c' = -e*c*(1 + 0.2*t)
    when every every_so: c <- c + 0.1*e
    when falling(c - low): doses <- doses + c*t

model Turned:
    param w = 2.0
    param e = 0.5
    state v = 1.0
    state y = 0.3
    v' = -e*v
    y' = v*y - w*y^2
    when every 0.35: v <- -v
    when falling(v): y <- y + 0.1*t
    when rising(v): y <- y*(1 + e)

model Kinked:
    param c = 1.25
    param e = 0.7
    state x = 0.0
    x' = if t < 1/c then c else -2*e*x

model Relay:
    param c = 1.0
    param e = 0.7
    state x = 0.0
    state y = 1.0
    x' = (if x < e then c else 0.4)*(1 + 0.5*cos(x + t))
    y' = -abs(y - x)*e

model Kicked:
    param c = 2.0
    param e = 0.3
    state x = 1.0
    state v = 0.0
    x' = v
    v' = -c*x - e*abs(v)*v - max(x - 0.2, 0)
    when falling(v): x <- x + e

model Learnt:
    net f: R[3] -> R[3] = MLP(width=16, depth=1)
    net g: R[3] -> R[3] = MLP(width=16, depth=1)
    state x: R[3] = [1.0, 0.3, -0.2]
    x' = 0.3*f(x) - x
    when falling(x[0] - 0.6 + 0.1*g(x)[1]): x <- x + [0.8, 0.1, 0.2] + 0.1*g(x)

solver lagged for ode order 1:
    state k = x
    step(f, x, t, h):
        k = 0.6*x + 0.4*k
        return x + h*f(k, t)

solver sighted for ode order 2:
    step(f, x, t, h, n):
        r = h/(if n == 0 then h else t - prev(t))
        return x + h*((1 + r/2)*f(x, t) - r/2*f(prev(x), prev(t)))
"""

COUNT = 3
ADAPTIVE = "tsit5(rtol=1e-5)"


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + TWO_STEP)


def spread(low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, COUNT, dtype=torch.float64)


LEAVES: dict[str, dict[str, Any]] = {
    "Ball": {"e": spread(0.6, 0.9), "g": 9.81, "h": spread(9, 11)},
    "Touch": {"e": spread(0.2, 0.4), "g": 9.81, "h": spread(9, 30)},
    "Waves": {"w": spread(2, 4), "e": 0.4, "x": spread(0.1, 0.2)},
    "Dosed": {"e": spread(1.5, 2.5), "low": 0.4, "c": spread(0.8, 1.2)},
    "Turned": {"e": spread(0.4, 0.6), "w": 2.0, "v": spread(0.8, 1.2)},
    "Kinked": {"c": spread(0.85, 1.9), "e": 0.7},
    "Relay": {"c": spread(0.8, 2), "e": 0.7, "x": spread(-0.1, 0.1)},
    "Kicked": {"c": spread(0.8, 2), "e": 0.3, "x": spread(0.9, 1.1)},
}


def leaves_of(model: str) -> dict[str, torch.Tensor]:
    made = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in LEAVES[model].items()}
    return {k: v.clone().requires_grad_() for k, v in made.items()}


def total(s: Any) -> torch.Tensor:
    """Of all values, final values and times of events."""
    values = torch.cat([s[n].values[s.valid].flatten() for n in s.names()])
    final = torch.cat([s.final[n].flatten() for n in s.names()])
    weight = torch.linspace(-1, 1, len(values), dtype=torch.float64)
    return (values * weight).sum() + final.square().sum() + torch.nansum(s.events.t**2)


def solved(program: Any, model: str, leaves: Any, method: str, backend: str, **settings: Any) -> Any:
    made = getattr(program, model)().bind(**leaves)
    given = {"span": (0, 3), "save": "every 0.25", "gradient": "discrete", **settings}
    return ndl.solve(made, method=method, backend=backend, **given)


def gradient(program: Any, model: str, method: str, backend: str, **settings: Any) -> list[torch.Tensor]:
    leaves = leaves_of(model)
    loss = total(solved(program, model, leaves, method, backend, **settings))
    return list(torch.autograd.grad(loss, list(leaves.values())))


def alike(a: list[torch.Tensor], b: list[torch.Tensor], tolerance: float = 1e-9) -> None:
    for x, y in zip(a, b, strict=True):
        assert bool(x.abs().max() > 1e-6)
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance * float(x.abs().max()))


@pytest.mark.parametrize(
    ("model", "method", "settings"),
    [
        ("Ball", ADAPTIVE, {}),
        ("Ball", "heun(rtol=1e-3)", {}),
        ("Ball", "rk4(h=0.15)", {"save": "end"}),
        ("Touch", ADAPTIVE, {}),
        ("Touch", "dopri8(rtol=1e-5)", {"save": "end"}),
        ("Waves", "dopri5(rtol=1e-5, hmax=0.3)", {}),
        ("Waves", "midpoint(h=0.1)", {}),
        ("Dosed", ADAPTIVE, {}),
        ("Waves", ADAPTIVE, {"span": (2, 0), "save": "every 0.3"}),
        ("Dosed", "bosh3(h=0.1)", {}),
        ("Turned", ADAPTIVE, {}),
        ("Kinked", ADAPTIVE, {}),
        ("Relay", ADAPTIVE, {}),
        ("Kicked", ADAPTIVE, {}),
        ("Ball", "rosenbrock23(rtol=1e-3)", {}),
        ("Touch", "rodas5(rtol=1e-4)", {}),
        ("Turned", "trapezoidal(h=0.1)", {}),
        ("Dosed", "taylor(rtol=1e-6)", {}),
        ("Turned", "lagged(h=0.1)", {}),
        ("Waves", "two_step(h=0.1)", {}),
        ("Ball", "bdf(rtol=1e-4, atol=1e-4)", {"span": (0, 2)}),
        ("Kicked", "bdf(rtol=1e-3, atol=1e-3)", {"span": (0, 1.5)}),
    ],
)
def test_the_same_as_torch(program: Any, model: str, method: str, settings: dict[str, Any]) -> None:
    alike(*(gradient(program, model, method, backend, **settings) for backend in ("torch", "cpu")))


def central(program: Any, model: str, method: str) -> None:
    """The gradient against differences of the kernel's own runs, along one direction for each leaf."""
    found = gradient(program, model, method, "cpu")
    eps, leaves = 1e-5, {k: v.detach() for k, v in leaves_of(model).items()}
    for (name, leaf), g in zip(leaves.items(), found, strict=True):
        direction = torch.linspace(0.5, 1.0, max(leaf.numel(), 1), dtype=torch.float64).reshape(leaf.shape)
        ends = []
        for sign in (1, -1):
            moved = {**leaves, name: leaf + sign * eps * direction}
            ends.append(total(solved(program, model, moved, method, "cpu", gradient="none")))
        wanted = float(ends[0] - ends[1]) / (2 * eps)
        assert float((g * direction).sum()) == pytest.approx(wanted, rel=2e-6), name


@pytest.mark.parametrize("model", list(LEAVES))
def test_central_differences(program: Any, model: str) -> None:
    """With fixed steps the derivative is that of what is computed; breaks are located with adaptive ones."""
    breaks = model in ("Kinked", "Relay", "Kicked")
    central(program, model, "tsit5(rtol=1e-11, atol=1e-12)" if breaks else "rk4(h=0.1)")


def test_implicit_stages(program: Any) -> None:
    """Torch corrects each stage once more, by up to what Newton's iteration left."""
    alike(*(gradient(program, "Dosed", "kvaerno5(rtol=1e-4)", backend) for backend in ("torch", "cpu")), 2e-6)


@pytest.mark.parametrize(
    ("model", "methods"),
    [
        ("Ball", ["rosenbrock23(h=0.1)", "bdf(h=0.05)", "sighted(h=0.05)"]),
        ("Dosed", ["sdirk(h=0.15)", "bdf(h=0.1)"]),
        ("Waves", ["two_step(h=0.1)", "sighted(h=0.1)"]),
    ],
)
def test_central_differences_of_stiff_methods(program: Any, model: str, methods: list[str]) -> None:
    for method in methods:
        central(program, model, method)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_members_cross_breaks_apart(program: Any, backend: str) -> None:
    """Where one crosses a break, the others remember what they did."""
    settings = {"span": (0, 1.5), "save": "end", "gradient": "discrete", "backend": backend}
    method, leaves = "bdf(rtol=1e-3, atol=1e-3)", leaves_of("Kicked")

    def by_c(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        s = ndl.solve(program.Kicked().bind(c=c, x=x), method=method, **settings)
        (found,) = torch.autograd.grad(s.final.x.sum() + s.final.v.square().sum(), c)
        return found

    together = by_c(leaves["c"], leaves["x"])
    alone = [by_c(leaves["c"][i : i + 1], leaves["x"][i : i + 1]) for i in range(COUNT)]
    alike([together], [torch.cat(alone)])


def test_the_kernel_interpreter_gives_the_same(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        gradient(program, model, "heun(rtol=1e-2)", "cpu", span=(0, 2)) for model in ("Touch", "Kicked")
    ]

    def interpreted(self: ode.KernelRun, made: Any, buffers: dict[str, torch.Tensor]) -> None:
        request = self.request if made is self.made else replace(self.request, backward=True, tape=False)
        assert isinstance(self.source, Kernels)
        flat = {name: b.view(-1).numpy() for name, b in buffers.items()}
        run(simplify(expand(self.source.kernel(request)[0])), flat, self.p.count)

    monkeypatch.setattr(ode.KernelRun, "_run", interpreted)
    for model, found in zip(("Touch", "Kicked"), wanted):
        alike(gradient(program, model, "heun(rtol=1e-2)", "cpu", span=(0, 2)), found)


def test_nets_in_rates_guards_and_resets(program: Any) -> None:
    random = torch.Generator().manual_seed(1)
    start = torch.rand(20, 3, dtype=torch.float64, generator=random) + torch.tensor([0.7, 0.0, 0.0])
    found = []
    for backend in ("torch", "cpu"):
        x = start.clone().requires_grad_()
        made = program.Learnt().bind(x=x)
        settings = {"span": (0, 2), "save": "every 0.3", "gradient": "discrete"}
        s = ndl.solve(made, method="tsit5(rtol=1e-5)", backend=backend, **settings)
        loss = s.x.values.square().sum() + torch.nansum(s.events.t**2)
        found.append(list(torch.autograd.grad(loss, [x, *made.parameters()])))
    alike(*found)


def test_what_still_goes_by_torch(program: Any) -> None:
    for method, settings, why in (
        (ADAPTIVE, {"save": "steps"}, "its gradients are of every step"),
        (ADAPTIVE, {"gradient": "adjoint"}, "`gradient = adjoint` is torch's"),
    ):
        with pytest.raises(NDLError, match=why):
            solved(program, "Ball", leaves_of("Ball"), method, "cpu", **settings)
