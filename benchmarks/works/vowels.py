"""Nine speakers told by a vowel (JapaneseVowels, UEA): the data, and who has learned how well.

Everybody trains a classifier from weights and batches of its own for each seed; results are compared by
their accuracy on the test set, times by whole trainings.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import NDL, PEER, USUAL, Contestant, Work

DATA = Path(__file__).parents[2] / "examples" / "data" / "japanese_vowels.npz"
TABLES = f"""
    data      = table("{DATA}", time=every 1, X="x_train", label="y_train", length="n_train", standard=true)
    validate  = table("{DATA}", time=every 1, X="x_test", label="y_test", length="n_test"), every 100000
    X         = hermite(data.t, concat([data.t/7], data.X.T).T)
    metrics   = accuracy
    optimizer = adam(lr=0.01)
    batch     = 64
"""


@dataclass
class Scores:
    """Accuracies by contestant, one for each training."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def keep(self, name: str, accuracy: float) -> float:
        self.found.setdefault(name, []).append(accuracy)
        return accuracy

    def __str__(self) -> str:
        return " Accuracy, mean ± deviation over seeds: " + "; ".join(
            f"{name} {statistics.fmean(v):.3f} ± {statistics.stdev(v) if len(v) > 1 else 0:.3f} ({len(v)})"
            for name, v in self.found.items()
        ) + "."  # fmt: skip


@dataclass(frozen=True)
class Vowels:
    """Series of 12 channels and the time, standardised, gaps filled, as cubics through 29 times."""

    steps: int

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """Coefficients of the cubics through training and test series, with labels; made before any
        training is timed, whereas NDL reads its tables and fills gaps within its time."""
        import torch
        import torchcde

        raw = np.load(DATA)
        flat = raw["x_train"].reshape(-1, 12)
        mean, deviation = np.nanmean(flat, 0), np.nanstd(flat, 0)
        found: dict[str, Any] = {}
        for part in ("train", "test"):
            x = (raw[f"x_{part}"] - mean) / deviation  # of both parts by the training's, as NDL does
            t = np.broadcast_to(np.arange(29, dtype=np.float32)[None, :, None] / 7, (*x.shape[:2], 1))
            series = torch.from_numpy(np.concatenate([t, x], -1).astype(np.float32))
            found[part] = torchcde.hermite_cubic_coefficients_with_backward_differences(series)
            found[f"{part} labels"] = torch.from_numpy(raw[f"y_{part}"].astype(np.int64))
        return found

    def trained(self, model: Any, logits: Callable[[Any], Any], seed: int) -> float:
        """Train a torch module by Adam and measure it; `logits` of cubics' coefficients [batch, …]."""
        import torch

        torch.manual_seed(seed)
        cubics, labels = self.arrays["train"], self.arrays["train labels"]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        order: list[Any] = []
        for _ in range(self.steps):
            order = order or list(torch.randperm(len(cubics)).split(64))
            index = order.pop(0)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits(cubics[index]), labels[index]).backward()
            optimizer.step()
        with torch.no_grad():
            right = logits(self.arrays["test"]).argmax(-1) == self.arrays["test labels"]
        return float(right.float().mean())


def by_ndl(text: str, name: str, scores: Scores, backend: str | None) -> Callable[[], float]:
    """The training of a program, with the next seed in each call."""
    import ndl

    program = ndl.loads(text, allow_paths=[DATA.parent])
    seeds = iter(range(1_000_000))
    settings = {} if backend is None else {"backend": backend}

    def call() -> float:
        found = ndl.train(program, progress=False, seed=next(seeds), **settings)
        return scores.keep(name, float(found.metrics["accuracy"]))

    return call


def by_torch(
    vowels: Vowels, name: str, scores: Scores, made: Callable[[], tuple[Any, Callable[[Any], Any]]]
) -> Callable[[], float]:
    """The training of a fresh module, with the next seed in each call; `made()` gives it and its logits."""
    import torch

    seeds = iter(range(1_000_000))
    assert vowels.arrays

    def call() -> float:
        seed = next(seeds)
        torch.manual_seed(seed)
        model, logits = made()
        return scores.keep(name, vowels.trained(model, logits, seed))

    return call


def contest_of(
    vowels: Vowels,
    scores: Scores,
    text: str,
    backends: Sequence[str | None],
    peers: Mapping[str, Callable[[], tuple[Any, Callable[[Any], Any]]]],
) -> list[Contestant]:
    """NDL once for each backend, and the peers, of which the first is the usual one."""
    found = []
    for b in backends:
        name = "NDL" if b is None else f"NDL, backend {b}"
        found.append(Contestant(name, NDL, partial(by_ndl, text, name, scores, b)))
    for k, (name, made) in enumerate(peers.items()):
        found.append(Contestant(name, PEER if k else USUAL, partial(by_torch, vowels, name, scores, made)))
    return found


def work_of(title: str, contestants: Sequence[Contestant], scores: Scores, limit: float) -> Work:
    """Trainings are equal when each has learned: what they reach is in the remark."""
    wrong = "share of wrong answers on the test set, first seed"
    remark = scores.__str__
    return Work(title, contestants, lambda a: 1 - a, wrong, limit, statistical=True, remark=remark)
