"""The linear-noise neural SDE learns to tell speakers: whole trainings, by NDL and by torchsde."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.contest import Work
from benchmarks.works.vowels import TABLES, Scores, Vowels, contest_of, work_of

PROGRAM = """
use std.models: LinearNoiseSDE

train LinearNoiseSDE(d=16, c=13, k=9):
    method    = euler_maruyama(h=1)
    loss      = cross_entropy(final.logits, data.label)
    steps     = {steps}
"""


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    vowels, scores = Vowels(3 if quick else 120), Scores()
    text = PROGRAM.format(steps=vowels.steps) + TABLES
    peers = {"torchsde": lambda: _torchsde(False), "torchsde, told dt": lambda: _torchsde(True)}
    contestants = contest_of(vowels, scores, text, backends, peers)
    title = f"Learning by a linear-noise SDE, JapaneseVowels, {vowels.steps} × 64 samples, Euler"
    limit = 1.0 if quick else 0.25
    return [work_of(title, contestants, scores, limit)]


def _torchsde(told: bool) -> tuple[Any, Any]:
    """The equation of `LinearNoiseSDE` for torchsde; `told` gives its Brownian path the step in advance."""
    import torch
    import torchcde
    import torchsde
    from torch.nn import Linear, ReLU, Sequential

    class Reader(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self) -> None:
            super().__init__()
            self.first, self.clocked, self.seen = Linear(13, 16), Linear(18, 16), Linear(13, 16)
            self.fuse, self.hidden, self.drift = Linear(32, 16), Linear(16, 16), Linear(16, 16)
            self.sigma = Sequential(Linear(2, 16), ReLU(), Linear(16, 16), ReLU())
            self.head = Sequential(Linear(16, 16), ReLU(), Linear(16, 9))
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def clock(self, t: Any) -> Any:
            return torch.stack([torch.sin(t), torch.cos(t)])

        def f(self, t: Any, z: Any) -> Any:
            state = self.clocked(torch.cat([self.clock(t).expand(len(z), 2), z], -1))
            a = self.fuse(torch.cat([state, self.seen(self.path.evaluate(t))], -1))
            return self.drift(self.hidden(a.relu()).relu()).tanh()

        def g(self, t: Any, z: Any) -> Any:
            return (self.scale.sigmoid() * self.sigma(self.clock(t)) * z).tanh()

        def logits(self, cubics: Any) -> Any:
            self.path = torchcde.CubicSpline(cubics)
            start, ends = self.first(self.path.evaluate(0.0)), torch.tensor([0.0, 28.0])
            bm = None
            if told:
                bm = torchsde.BrownianInterval(0.0, 28.0, size=tuple(start.shape), dt=1.0)
            return self.head(torchsde.sdeint(self, start, ends, method="euler", dt=1.0, bm=bm)[-1])

    model = Reader()
    return model, model.logits
