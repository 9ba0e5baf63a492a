"""Stable neural SDEs learn which way a spiral turns, when 30, 50 or 70 % of its values are missing.

Oh, Lim, Kim (2024), arXiv:2402.14989. Trained with 30 % missing, other ones in each step; medians of three
seeds. The naive equation does not read the data after its start, which tells nothing.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

RATES = (0.3, 0.5, 0.7)
REQUIRED = {"LinearNoiseSDE": (0.97, 0.95, 0.88), "GeometricSDE": (0.97, 0.95, 0.88), "NaiveSDE": None}
POINTS, HORIZON = 40, 10.0

PROGRAM = """
use std.models: {model}

train {model}(d=16, c=3, k=2) as reader:
    data      = table("spirals.npz", time=0..10, X="x", label="y")
    keep: R[40, 2] ~ bernoulli(0.7)
    X         = linear(data.t, concat([data.t/10], (if keep > 0.5 then data.X else nan).T).T)
    method    = euler_maruyama(h=10/39)
    loss      = cross_entropy(final.logits, data.label)
    optimizer = adam(lr=5e-3)
    batch     = 64
    steps     = {steps}
"""


@dataclass(frozen=True)
class Found:
    """Accuracies of a model at each rate, [seeds][rates], and whether their medians are what is asked."""

    accuracies: tuple[tuple[float, ...], ...]
    good: bool

    @property
    def medians(self) -> list[float]:
        return [statistics.median(a) for a in zip(*self.accuracies)]


def spirals(count: int, seed: int) -> tuple[Any, Any]:
    """Points [count, 40, 2] of spirals that turn once, and 1 for those that turn to the left."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    s = np.linspace(0, 1, POINTS)
    angle = rng.uniform(0, 2 * math.pi, (count, 1)) + 2 * math.pi * s * (2 * y[:, None] - 1)
    radius = 0.5 + 0.5 * s
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1), y


def run(quick: bool) -> dict[str, Found]:
    """Train and measure every model; writes the data to a folder of its own."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        x, y = spirals(2048, 0)
        np.savez(f"{folder}/spirals.npz", x=x, y=y)
        return {name: _found(name, folder, quick) for name in REQUIRED}


def _found(name: str, folder: str, quick: bool) -> Found:
    from ndl.session import Program

    file = f"{folder}/{name}.ndl"
    with open(file, "w", encoding="utf-8") as out:
        out.write(PROGRAM.format(model=name, steps=10 if quick else 500))
    program = Program.load(file)
    rows = []
    for seed in range(1 if quick else 3):
        program.run("reader", overrides={"reader.seed": seed})
        (trained,) = program.host.named.values()
        program.class_of(trained.model.source)
        rows.append(tuple(accuracy(trained.model.instance, rate) for rate in RATES))
    medians = [statistics.median(a) for a in zip(*rows)]
    asked = REQUIRED[name]
    good = all(abs(m - 0.5) <= 0.07 for m in medians) if asked is None else all(
        m >= a for m, a in zip(medians, asked)
    )  # fmt: skip
    return Found(tuple(rows), good)


def accuracy(model: Any, rate: float, count: int = 1000) -> float:
    """The share of right answers on new spirals, a share `rate` of their values missing."""
    import torch
    from ndl.runtime.paths_in_time import linear

    import ndl

    x, y = spirals(count, 1)
    x[np.random.default_rng(2).uniform(size=x.shape) < rate] = np.nan
    t = torch.linspace(0, HORIZON, POINTS, dtype=torch.float64)
    time = np.broadcast_to(np.linspace(0, 1, POINTS)[None, :, None], (count, POINTS, 1))
    X = linear(t, torch.from_numpy(np.concatenate([time, x], -1)).float(), family=True)
    with torch.no_grad():
        s = ndl.solve(
            model.bind(X=X),
            span=(0, HORIZON),
            method="euler_maruyama(h=10/39)",
            save="end",
            ensemble=count,
            seed=5,
            precision="float32",
        )
    return float((s.final["logits"].argmax(-1).numpy() == y).mean())
