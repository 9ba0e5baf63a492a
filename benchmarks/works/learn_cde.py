"""A neural controlled equation learns to tell speakers: whole trainings, by NDL and by torchcde."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Work
from benchmarks.works.vowels import TABLES, Scores, Vowels, contest_of, work_of

PROGRAM = """
use std.models: NeuralCDE

train NeuralCDE(d=16, c=13, k=9, width=32):
    method    = rk4(h=1)
    loss      = cross_entropy(final.out, data.label)
    steps     = {steps}
"""


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    vowels, scores = Vowels(3 if quick else 120), Scores()
    text = PROGRAM.format(steps=vowels.steps) + TABLES
    peers = {"torchcde": lambda: _torchcde(False), "torchcde, adjoint": lambda: _torchcde(True)}
    contestants = contest_of(vowels, scores, text, backends, peers)
    title = f"Learning by a neural CDE, JapaneseVowels, {vowels.steps} × 64 samples, rk4"
    limit = 1.0 if quick else 0.2
    return [work_of(title, contestants, scores, limit)]


def _torchcde(adjoint: bool) -> tuple[Any, Any]:
    """The equation of `NeuralCDE` as its authors write it."""
    import torch
    import torchcde

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.readout = torch.nn.Linear(13, 16), torch.nn.Linear(16, 9)
            self.net = torch.nn.Sequential(
                torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16 * 13), torch.nn.Tanh()
            )

        def logits(self, cubics: Any) -> Any:
            path = torchcde.CubicSpline(cubics)
            start, ends = self.first(path.evaluate(0.0)), torch.tensor([0.0, 28.0])
            field = _field(self.net)
            z = torchcde.cdeint(
                path, field, start, ends, adjoint=adjoint, method="rk4", options={"step_size": 1.0}
            )
            return self.readout(z[:, -1])

    model = Classifier()
    return model, model.logits


def _field(net: Any) -> Any:
    """`net` as the matrix that torchcde multiplies with dX; its weights are the adjoint's parameters."""
    import torch

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, t: Any, z: Any) -> Any:
            return self.net(z).unflatten(-1, (16, 13))

    return Field()
