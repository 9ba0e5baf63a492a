"""The ODE-RNN and the latent ODE: gradients by finite differences, a training on irregular series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ndl.runtime.paths_in_time import linear

import ndl

ENCODER = "use std.models: ODERNN\n\nmodel Encoder = ODERNN(c=2, d=3, k=2, width=4)\n"


@pytest.mark.parametrize("weight", ["cell.W", "cell.U", "f.linear.W", "readout.b"])
def test_gradients_of_a_backward_encoder(weight: str) -> None:
    model = ndl.loads(ENCODER).models["Encoder"](seed=3)
    ts = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
    xs = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 4, 2)))
    xs[0, 1], xs[1, 3] = torch.nan, torch.nan
    fed = model.bind(X=linear(ts, xs, family=True))

    def loss(gradient: str) -> torch.Tensor:
        s = ndl.solve(fed, span=(1.2, -0.1), method="rk4(h=0.25)", save="end", gradient=gradient)
        return (s.final["out"] * torch.tensor([[1.0, -2.0], [0.5, 3.0]])).sum()

    value = model.weight_value(weight)
    (slope,) = torch.autograd.grad(loss("discrete"), value)
    direction = torch.from_numpy(np.random.default_rng(2).normal(size=tuple(value.shape)))
    with torch.no_grad():
        ends = []
        for step in (1e-5, -1e-5):
            value += step * direction
            ends.append(loss("none"))
            value -= step * direction
    assert float((ends[0] - ends[1]) / 2e-5) == pytest.approx(float((slope * direction).sum()), rel=1e-7)


TRAINING = """
use std.models: LatentODE, ODERNN

train LatentODE(d=3, width=12), ODERNN(c=1, d=6, k=6, width=8) as vae:
    data      = table("waves.npz", time="t", y="y")
    span      = 0..4
    X         = linear(data.t, data.y)
    code      = solve(ODERNN(X=X), span=4..0, method=euler(h=0.5)).final.out
    method    = rk4(h=0.5)
    loss      = sum((y - data.y)^2)/(2*0.2^2) + final.kl_start
    optimizer = adam(lr=0.05)
    steps     = 15
"""


def test_a_training_on_times_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 4, (10, 6)), 1)
    a = rng.normal(size=(10, 2))
    y = np.exp(-0.2 * t) * (a[:, :1] * np.cos(2 * t) + a[:, 1:] * np.sin(2 * t))
    np.savez(tmp_path / "waves.npz", t=t, y=y[..., None])
    (tmp_path / "m.ndl").write_text(TRAINING, encoding="utf-8")
    program = ndl.load(tmp_path / "m.ndl")
    program.run()
    (found,) = program.host.named.values()
    losses = found.result.history.loss
    assert float(losses[-3:].mean()) < 0.6 * float(losses[:3].mean())
    assert float(losses[:3].mean()) > 20
