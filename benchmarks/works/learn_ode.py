"""A neural ordinary equation learns to tell digits: whole trainings, by NDL and by torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contest import NDL, PEER, USUAL, Contestant, Work
from benchmarks.works.vowels import DATA, Scores, by_ndl, work_of

DIGITS = DATA.parent / "digits.npz"
TOLERANCE = 1e-5
PROGRAM = f"""
use std.models: NeuralODE
use std.training: error_of

train NeuralODE(c=64, d=12, k=10, width=32, depth=1):
    data      = table("{DIGITS}")
    validate  = 0.2, every 100000
    span      = 0..1
    method    = dopri5(rtol={TOLERANCE}, atol={TOLERANCE})
    loss      = cross_entropy(final.out, data.label) + PENALTY
    metrics   = accuracy
    optimizer = adam(lr=0.01)
    batch     = 128
    steps     = STEPS
"""


def works(quick: bool = False, backends: Sequence[str | None] = (None,)) -> list[Work]:
    steps, scores = 3 if quick else 200, Scores()
    found = []
    for b in backends:
        for name, penalty in (("NDL", "0"), ("NDL, error penalty", "10*error_of(steps)")):
            text = PROGRAM.replace("PENALTY", penalty).replace("STEPS", str(steps))
            shown = name if b is None else f"{name}, backend {b}"
            kind = NDL if penalty == "0" else PEER
            found.append(Contestant(shown, kind, partial(by_ndl, text, shown, scores, b)))
    for name, kind, adjoint in (("torchdiffeq", USUAL, False), ("torchdiffeq, adjoint", PEER, True)):
        found.append(Contestant(name, kind, partial(_torchdiffeq, steps, name, scores, adjoint)))
    title = f"Learning by a neural ODE, digits of 8 by 8, {steps} × 128 samples, dopri5, rtol {TOLERANCE:g}"
    return [work_of(title, found, scores, 1.0 if quick else 0.12)]


def _torchdiffeq(steps: int, name: str, scores: Scores, adjoint: bool) -> Callable[[], float]:
    """The equation of `NeuralODE` as a torch module; a fifth of the samples, by the seed, is held out."""
    import torch
    from torch.nn.functional import cross_entropy

    raw = np.load(DIGITS)
    x, label = (
        torch.from_numpy(raw["x"].astype(np.float32)),
        torch.from_numpy(raw["label"].astype(np.int64)),
    )
    seeds = iter(range(1_000_000))

    def call() -> float:
        torch.manual_seed(next(seeds))
        logits, parameters = _classifier(adjoint)
        order = torch.randperm(len(x))
        held, kept = order[: len(x) // 5], order[len(x) // 5 :]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        batches: list[Any] = []
        for _ in range(steps):
            batches = batches or list(kept[torch.randperm(len(kept))].split(128))
            index = batches.pop(0)
            optimizer.zero_grad()
            cross_entropy(logits(x[index]), label[index]).backward()
            optimizer.step()
        with torch.no_grad():
            right = logits(x[held]).argmax(-1) == label[held]
        return scores.keep(name, float(right.float().mean()))

    return call


def _classifier(adjoint: bool) -> tuple[Callable[[Any], Any], list[Any]]:
    """Logits [batch, 10] of pixels [batch, 64], and the parameters."""
    import torch
    import torchdiffeq

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))
            self.net = torch.nn.Sequential(
                torch.nn.Linear(12, 32), torch.nn.Softplus(), torch.nn.Linear(32, 12), torch.nn.Tanh()
            )

        def forward(self, t: Any, y: Any) -> Any:
            return self.scale * self.net(y)

    lift, field, readout = torch.nn.Linear(64, 12), Field(), torch.nn.Linear(12, 10)
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    ends = torch.tensor([0.0, 1.0])

    def logits(x: Any) -> Any:
        y = solve(field, lift(x), ends, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")[-1]
        return readout(y)

    return logits, [*lift.parameters(), *field.parameters(), *readout.parameters()]
