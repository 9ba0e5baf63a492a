"""Stable neural SDEs (Oh, Lim, Kim 2024) against closed forms, the authors' formulas and torchsde."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.paths_in_time import hermite
from torch import Tensor
from torch.nn.functional import linear

import ndl

CLOSED = """
model Geometric:
    param gamma = 0.5, sigma = 0.8
    state z = 1.0
    noise W: wiener
    dz = gamma*z*dt + sigma*z*dW

model Logarithm:
    param gamma = 0.5, sigma = 0.8
    state w = 0.0
    noise W: wiener
    z = exp(w)
    dw = (gamma - sigma^2/2)*dt + sigma*dW

model Langevin:
    param a = 1.0, s = 0.6
    state z = 0.0
    noise W: wiener
    dz = -a*z*dt + s*dW

model LinearNoise:
    param a = 1.0, s = 0.5
    state z = 1.0
    noise W: wiener
    dz = -a*z*dt + s*z*dW
"""

CLASSES = """
use std.models: LangevinSDE, LinearNoiseSDE, GeometricSDE
model Langevin = LangevinSDE(d=5, k=2, c=3)
model LinearNoise = LinearNoiseSDE(d=5, k=2, c=3)
model Geometric = GeometricSDE(d=5, k=2, c=3)
"""
NAMES = ("Langevin", "LinearNoise", "Geometric")


@pytest.fixture(scope="module")
def closed() -> Any:
    return ndl.loads(CLOSED).models


def run(model: Any, method: str, end: float, members: int, **more: Any) -> Any:
    more = {"save": "end", "seed": 3, **more}
    return ndl.solve(model, span=(0, end), method=method, ensemble=members, **more)


# ------------------------------------------------------------ closed forms


@pytest.mark.parametrize(("method", "order"), [("euler_maruyama", 0.5), ("milstein", 1.0)])
def test_strong_order_of_the_geometric_equation(closed: Any, method: str, order: float) -> None:
    counts, errors = (16, 256), []
    for n in counts:
        s = run(closed["Geometric"], f"{method}(h=1/{n})", 1, 4000)
        exact = torch.exp(0.5 - 0.32 + 0.8 * s.final["W"])
        errors.append(float((s.final["z"] - exact).square().mean().sqrt().detach()))
    assert math.log(errors[0] / errors[1]) / math.log(16) == pytest.approx(order, abs=0.1)


def test_logarithms_are_exact_and_positive(closed: Any) -> None:
    s = run(closed["Logarithm"], "euler_maruyama(h=1/16)", 1, 100)
    assert float((s.final["z"] - torch.exp(0.18 + 0.8 * s.final["W"])).abs().max().detach()) < 1e-12
    found = {}
    for name in ("Geometric", "Logarithm"):
        model = closed[name](gamma=0.0, sigma=2.0)
        found[name] = run(model, "euler_maruyama(h=0.25)", 2, 100_000).final["z"].detach()
    # a factor 1 + 2 dW is negative with the chance that N(0, 1) is below -1; an odd number of eight is
    p = 0.5 * (1 - (1 - 2 * 0.5 * math.erfc(1 / math.sqrt(2))) ** 8)
    assert float((found["Geometric"] <= 0).double().mean()) == pytest.approx(p, abs=0.006)
    assert p == pytest.approx(0.45, abs=0.04)
    assert bool((found["Logarithm"] > 0).all())


def test_the_stationary_variance_of_euler(closed: Any) -> None:
    """s^2 h/(1 - (1 - a h)^2) after n steps but for (1 - a h)^2n."""
    z = run(closed["Langevin"], "euler_maruyama(h=0.05)", 5, 200_000).final["z"].detach()
    expected = 0.36 * 0.05 / (1 - 0.95**2)
    assert expected == pytest.approx(0.1846, abs=1e-4)
    assert float(z.var()) == pytest.approx(expected * (1 - 0.95**200), rel=0.01)


def test_two_solutions_with_one_noise_differ_by_a_power(closed: Any) -> None:
    ends = [
        run(closed["Langevin"](z=start), "euler_maruyama(h=0.25)", 5, 3).final["z"] for start in (1.0, 1.5)
    ]
    assert float((ends[1] - ends[0] - 0.5 * 0.75**20).abs().max().detach()) < 1e-14


def test_moments_of_linear_noise(closed: Any) -> None:
    """Euler's are (1 - a h)^n and ((1 - a h)^2 + s^2 h)^n, which are e^-a and e^(s^2 - 2a) to a percent."""
    z = run(closed["LinearNoise"], "euler_maruyama(h=1/128)", 1, 400_000).final["z"].detach()
    assert float(z.mean()) == pytest.approx(math.exp(-1), rel=0.01)
    assert float((z * z).mean()) == pytest.approx(math.exp(-1.75), rel=0.01)


# ------------------------------------------------------------ the authors' formulas


def fields(name: str, w: dict[str, Tensor], X: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Drift and diffusion as the authors write them, of t and z [batch, 5], with the weights of a model."""

    def affine(key: str, x: Tensor) -> Tensor:
        return linear(x, w[f"{key}.W"], w[f"{key}.b"])

    def clock(t: float, z: Tensor) -> Tensor:
        return torch.tensor([math.sin(t), math.cos(t)], dtype=z.dtype).expand(len(z), 2)

    def drift(t: float, z: Tensor) -> Tensor:
        seen = affine("zeta.linear_2", X(torch.tensor(t, dtype=torch.float64)).to(z.dtype))
        own = z if name == "Langevin" else torch.cat([clock(t, z), z], -1)
        a = affine("zeta.linear_3", torch.cat([affine("zeta.linear", own), seen], -1))
        m = affine("gamma.mlp.linear_2", affine("gamma.mlp.linear", a.relu()).relu())
        return torch.tanh(m * torch.tanh(z)) if name == "Geometric" else torch.tanh(m)

    def diffusion(t: float, z: Tensor) -> Tensor:
        s = affine("sigma.linear_2", affine("sigma.linear", clock(t, z)).relu()).relu()
        raw = s if name == "Langevin" else s * z
        return torch.tanh(torch.sigmoid(w["scale"]) * raw)

    return drift, diffusion


def solved(name: str, precision: str) -> tuple[Any, Any, dict[str, Tensor], Tensor]:
    """A run of four members on paths with gaps: the solution, the paths, the weights and the start."""
    dtype = getattr(torch, precision)
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4, 9, 3))
    x[rng.uniform(size=x.shape) < 0.3] = np.nan
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    X = hermite(t, torch.from_numpy(x), family=True)
    model = ndl.loads(CLASSES).models[name]()
    with torch.no_grad():
        model.get_parameter("sigma.linear_2.b").add_(1.0)  # no deviation is dead
    model = model.to(dtype).bind(X=X)
    s = ndl.solve(
        model,
        span=(0, 2),
        method="euler_maruyama(h=1/8)",
        ensemble=4,
        seed=7,
        save="steps",
        precision=precision,
    )
    weights = {n: p.detach() for n, p in model.named_parameters()}
    start = linear(X(t[0]).to(dtype), weights["first.W"], weights["first.b"])
    return s, X, weights, start


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_formulas_are_reproduced(name: str) -> None:
    s, X, weights, z = solved(name, "float64")
    drift, diffusion = fields(name, weights, X)
    W = s["W"].detach()
    for n in range(16):
        t = n / 8
        z = z + drift(t, z) / 8 + diffusion(t, z) * (W[:, n + 1] - W[:, n])
        assert float((s["z"][:, n + 1] - z).abs().max().detach()) < 1e-12
    hidden = linear(z, weights["head.linear.W"], weights["head.linear.b"]).relu()
    logits = linear(hidden, weights["head.linear_2.W"], weights["head.linear_2.b"])
    assert float((s.final["logits"] - logits).abs().max().detach()) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_torchsde_gives_the_same_path_for_the_same_increments(name: str) -> None:
    torchsde = pytest.importorskip("torchsde")
    s, X, weights, start = solved(name, "float32")
    drift, diffusion = fields(name, weights, X)
    W = s["W"].detach()

    class Path(torchsde.BaseBrownian):  # type: ignore[misc, name-defined]
        dtype, device, shape, levy_area_approximation = W.dtype, W.device, W[:, 0].shape, "none"

        def __call__(self, ta: Any, tb: Any, **_: Any) -> Tensor:
            return W[:, round(8 * float(tb))] - W[:, round(8 * float(ta))]

        def size(self) -> Any:
            return self.shape

        def __repr__(self) -> str:
            return "the increments of the run"

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, z: Tensor) -> Tensor:
            return drift(float(t), z)

        def g(self, t: Any, z: Tensor) -> Tensor:
            return diffusion(float(t), z)

    times = torch.linspace(0, 2, 17)
    theirs = torchsde.sdeint(Equation(), start, times, bm=Path(), method="euler", dt=1 / 8)
    assert float((theirs.transpose(0, 1) - s["z"]).abs().max().detach()) < 1e-6


def test_a_component_that_is_zero_stays_so_under_geometric_noise_alone() -> None:
    for name, kept in (("Geometric", True), ("LinearNoise", False)):
        model = ndl.loads(CLASSES).models[name]()
        with torch.no_grad():
            model.get_parameter("first.W")[2] = 0
            model.get_parameter("first.b")[2] = 0
        X = hermite(torch.linspace(0, 2, 3), torch.randn(3, 3, dtype=torch.float64))
        z = run(model.bind(X=X), "euler_maruyama(h=0.25)", 2, 50).final["z"][:, 2]
        assert bool((z == 0).all()) == kept
