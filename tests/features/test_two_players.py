"""A neural SDE as a GAN: weights within bounds after each step, gradients of both players by differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.syntax import tree
from ndl.runtime.batches import Batch
from programs import refused

import ndl

GAN = """
use std.models: Generator, Critic

train Generator(d=3, w=2, width=4), Critic(c=1, d=3, width=4) as gan:
    data      = table("paths.npz", time=0..4, y="y")
    method    = reversible_heun(h=1)
    gradient  = {gradient}
    fake      = solve(Critic(Y=linear(data.t, y)), span=0..4, method=reversible_heun(h=1)).final.score
    real      = solve(Critic(Y=linear(data.t, data.y)), span=0..4, method=reversible_heun(h=1)).final.score
    precision = float64
    minimize fake - real wrt Generator:
        optimizer = sgd(lr={lr})
    maximize fake - real wrt Critic:
        optimizer = sgd(lr={lr})
        project   = clip(1/out)
    steps     = {steps}
"""


def trained(folder: Path, lr: float, steps: int, gradient: str = "discrete") -> Any:
    paths = np.random.default_rng(4).normal(size=(5, 5, 1)).cumsum(1)
    np.savez(folder / "paths.npz", y=paths)
    (folder / "gan.ndl").write_text(GAN.format(lr=lr, steps=steps, gradient=gradient), encoding="utf-8")
    program = ndl.load(folder / "gan.ndl")
    program.run()
    (found,) = program.host.named.values()
    return found


def matrices(found: Any, name: str) -> dict[str, torch.Tensor]:
    return {n: w.detach() for n, w in found.session.models[name][1].weights().items() if w.ndim > 1}


@pytest.mark.parametrize("steps", [1, 3])
def test_a_critic_stays_within_its_bounds(tmp_path: Path, steps: int) -> None:
    found = trained(tmp_path, 20.0, steps)
    critic = matrices(found, "Critic")
    assert len(critic) >= 7
    for name, w in critic.items():
        assert float(w.abs().max()) <= 1 / w.shape[0], name
    assert any(float(w.abs().max()) == 1 / w.shape[0] for w in critic.values())
    assert any(float(w.abs().max()) > 1 / w.shape[0] for w in matrices(found, "Generator").values())
    vectors = [w.detach() for w in found.session.models["Critic"][1].weights().values() if w.ndim == 1]
    assert any(float(w.abs().max()) > 1 for w in vectors)  # shifts are not clipped


@pytest.mark.parametrize("gradient", ["discrete", "reversible"])
def test_gradients_of_both_players(tmp_path: Path, gradient: str) -> None:
    found = trained(tmp_path, 0.0, 1, gradient)
    session, loss = found.session, found.last
    batch = Batch(0, 1, 0, torch.arange(5))
    players = [s for s in session.others if isinstance(s, tree.Optimize)]
    assert [p.sense for p in players] == ["minimize", "maximize"]
    for player, name in zip(players, ("Generator", "Critic")):
        weights = list(session.models[name][1].weights().values())
        value = loss.evaluate(player.value, 0, batch)
        slopes = torch.autograd.grad(value, weights)
        rng = np.random.default_rng(1)
        for w, slope in zip(weights, slopes):
            direction = torch.from_numpy(rng.normal(size=tuple(w.shape)))
            ends = []
            with torch.no_grad():
                for step in (1e-5, -1e-5):
                    w += step * direction
                    ends.append(float(loss.evaluate(player.value, 0, batch)))
                    w -= step * direction
            wanted = (ends[0] - ends[1]) / 2e-5
            assert wanted == pytest.approx(float((slope * direction).sum()), rel=2e-6, abs=1e-9)
        assert sum(float(s.abs().sum()) for s in slopes) > 1e-2


LINE = """
net f: R[2] -> R[3] = MLP(width=4, depth=1)

train f:
    samples   = 4
    x: R[2] ~ normal(0, 1)
    loss      = sum((f(x) - [x[0], x[1], 3])^2)
    optimizer = sgd(lr=0.5)
    {line}
    steps     = 3
"""


@pytest.mark.parametrize(
    "line, bound",
    [("project = clip(0.25)", 0.25), ("project = clip(2*0.1/out)", None)],
    ids=["number", "rows"],
)
def test_a_single_loss_is_projected_too(line: str, bound: float | None) -> None:
    program = ndl.loads(LINE.format(line=line))
    program.run()
    (found,) = program.host.named.values()
    for w in (w for w in found.model.module.parameters() if w.ndim > 1):
        assert float(w.detach().abs().max()) <= (0.2 / w.shape[0] if bound is None else bound) + 1e-7


@pytest.mark.parametrize(
    "line, words",
    [
        ("project = 0.1", "`0.1` is not"),
        ("project = clip()", "`clip()` is not"),
        ("project = clip(-0.1)", "is above 0"),
    ],
)
def test_other_projections_are_refused(line: str, words: str) -> None:
    text = LINE.format(line=line) + '\ntest "t":\n    r = train(f)\n    assert r.loss < 1e9\n'
    found = refused(text)
    assert found.code == "NDL529" and words in found.message
