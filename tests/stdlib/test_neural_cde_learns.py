"""A neural CDE tells spirals from their mirror images, as in the example of Kidger's thesis (2022)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ndl.session import Program

PROGRAM = """
use std.models: NeuralCDE

train NeuralCDE(d=8, c=3, k=2, width=128, act=softplus) as spirals:
    data      = table("spirals.npz", time="t", X="x_train", label="y_train")
    validate  = table("spirals.npz", time="t", X="x_test", label="y_test"), every 1000
    X         = hermite(data.t, data.X)
    method    = rk4(steps=50)
    loss      = cross_entropy(final.out, data.label)
    metrics   = accuracy
    optimizer = adam(lr=0.01)
    batch     = 32
    steps     = 40
"""


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """exp(t M) y0 with M = [[-0.3, 2], [-2, -0.3]], y0 on the circle; the first component of half of them is
    turned around. The time is channel 0."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4 * math.pi, 100)
    phase = rng.uniform(0, 2 * math.pi, (count, 1))
    x = np.exp(-0.3 * t)[..., None] * np.stack([np.cos(phase - 2 * t), np.sin(phase - 2 * t)], -1)
    label = np.arange(count) % 2
    x[label == 1, :, 0] *= -1
    return np.concatenate([np.broadcast_to(t[None, :, None], (count, 100, 1)), x], -1), label


def test_spirals_are_told_apart_after_forty_steps(tmp_path: Path) -> None:
    x_train, y_train = spirals(256, 0)
    x_test, y_test = spirals(128, 1)
    t = np.linspace(0, 4 * math.pi, 100)
    np.savez(tmp_path / "spirals.npz", t=t, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    (tmp_path / "m.ndl").write_text(PROGRAM, encoding="utf-8")
    (found,) = Program.load(tmp_path / "m.ndl").run()
    assert float(found.metrics["accuracy"]) >= 0.99
