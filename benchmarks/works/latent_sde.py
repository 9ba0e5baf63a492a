"""A latent stochastic equation with its divergence: the loss of a batch and its gradient, by Euler.

The model is `std.models.LatentSDE`; torchsde runs the same equations with `logqp=True`, its own way to carry
the divergence, and the same weights. Everybody draws noise of their own, so that a gradient is one draw: its
error is the distance from the mean of many such draws, in their standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import PEER, USUAL, Call, Contestant, Work
from benchmarks.libraries import by_ndl
from benchmarks.nets import flat

PROGRAM = """
use std.models: LatentSDE

model Latent = LatentSDE(d=4, h=8, k=3, width=32)
"""
KNOTS, FLOOR = 21, 0.05


@dataclass(frozen=True)
class Problem:
    """Paths over 0..1 steered by polygons of eight numbers at 21 times; the loss is the mean over the batch
    of |y(1) - target|^2/2 and of both divergences."""

    batch: int = 256
    steps: int = 100

    @cached_property
    def data(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Contexts [batch, knots, 8] and targets [batch, 3]."""
        rng = np.random.default_rng(5)
        contexts = rng.normal(size=(self.batch, KNOTS, 8)).cumsum(1) / KNOTS**0.5
        return contexts.astype(np.float32), rng.normal(size=(self.batch, 3)).astype(np.float32)

    @cached_property
    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The weights by name, in NDL's order."""
        import ndl

        model = ndl.loads(PROGRAM).models["Latent"](seed=1)
        return {n: w.detach().numpy().astype(np.float32) for n, w in model.weights().items()}

    @cached_property
    def draws(self) -> npt.NDArray[np.float64]:
        """Gradients of several batches, [12, weights]."""
        call = _torchsde(self, told=False)
        return np.stack([flat(call()) for _ in range(12)])

    def error(self, result: Any) -> float:
        away = (flat(result) - self.draws.mean(0)) / np.maximum(self.draws.std(0, ddof=1), 1e-8)
        return float(np.sqrt((away**2).mean()))


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    p = Problem(batch=32, steps=10) if quick else Problem()
    contestants = [
        *_ndl(p, backends),
        Contestant("torchsde, logqp", USUAL, lambda: _torchsde(p, told=False)),
        Contestant("torchsde, logqp, told dt", PEER, lambda: _torchsde(p, told=True)),
    ]
    title = (
        f"Latent SDE, state 4, width 32 × {p.batch}, {p.steps} steps, Euler, forward and backward, float32"
    )
    name = "distance of the gradient from a mean of 12 batches, in standard deviations of a batch"
    return [Work(title, contestants, p.error, name, 2.0, statistical=True)]


def _ndl(p: Problem, backends: Sequence[str | None]) -> list[Contestant]:
    import torch
    from ndl.runtime.paths_in_time import linear

    import ndl

    contexts, targets = (torch.from_numpy(x) for x in p.data)

    def made(model: Any) -> Any:
        found = model().float()
        with torch.no_grad():
            for name, w in found.weights().items():
                w.copy_(torch.from_numpy(p.weights[name]))
        return found.bind(context=linear(torch.linspace(0, 1, KNOTS), contexts, family=True))

    def call(model: Any, settings: dict[str, Any]) -> Any:
        s = ndl.solve(
            model, span=(0, 1), method=f"euler_maruyama(steps={p.steps})", save="end", precision="float32",
            ensemble=p.batch, seed=1, gradient="discrete", **settings,
        )  # fmt: skip
        end = s.final
        loss = ((end["y"] - targets) ** 2).sum(-1) / 2 + end["kl"] + end["kl_start"]
        return torch.autograd.grad(loss.mean(), list(model.weights().values()))

    return by_ndl(PROGRAM, backends, call, made, "NDL, euler_maruyama")


def _torchsde(p: Problem, told: bool) -> Call:
    """`told` gives its Brownian path the step in advance."""
    import torch
    import torchsde
    from torch.nn.functional import linear, softplus

    contexts, targets = (torch.from_numpy(x) for x in p.data)
    w = {name: torch.tensor(x, requires_grad=True) for name, x in p.weights.items()}
    span, h = torch.tensor([0.0, 1.0]), 1.0 / p.steps

    def net(name: str, x: Any) -> Any:
        x = softplus(linear(x, w[f"{name}.linear.W"], w[f"{name}.linear.b"]))
        return linear(x, w[f"{name}.linear_2.W"], w[f"{name}.linear_2.b"])

    class Equation(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, z: Any) -> Any:
            place = (t * (KNOTS - 1)).clamp(0, KNOTS - 1.001)
            k = int(place)
            context = torch.lerp(contexts[:, k], contexts[:, k + 1], place - k)
            return net("posterior", torch.cat([t.expand(len(z), 1), z, context], -1))

        def h(self, t: Any, z: Any) -> Any:
            return net("prior", torch.cat([t.expand(len(z), 1), z], -1))

        def g(self, t: Any, z: Any) -> Any:
            inner = softplus(w["noise_of.A"] * z[..., None] + w["noise_of.b"])
            return FLOOR + (w["noise_of.C"] * inner).sum(-1).sigmoid()

    def call() -> Any:
        q = linear(contexts[:, 0], w["start.W"], w["start.b"])
        mean, spread = q[:, :4], q[:, 4:]
        start = mean + (spread / 2).exp() * torch.randn(p.batch, 4)
        # torchsde carries the divergence as one more component of the noise
        bm = torchsde.BrownianInterval(0.0, 1.0, size=(p.batch, 5), dt=h) if told else None
        z, kl = torchsde.sdeint(Equation(), start, span, method="euler", dt=h, logqp=True, bm=bm)
        gap = linear(z[-1], w["readout.W"], w["readout.b"]) - targets
        m0, s0 = w["m0"], w["s0"]
        first = ((spread - s0).exp() + (mean - m0) ** 2 / s0.exp() - 1 - spread + s0).sum(-1) / 2
        loss = (gap**2).sum(-1) / 2 + kl.sum(0) + first
        return torch.autograd.grad(loss.mean(), list(w.values()))

    return call
