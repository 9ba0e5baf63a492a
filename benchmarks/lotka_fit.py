"""One step of the Lotka–Volterra fit (solve, loss, gradient, Adam) in NDL and in torchdiffeq.

Both solve the same equations from the same start at the same tolerance, read the same 21 times, take the
gradient through the solver's own operations, and move the same six numbers. Before anything is timed, their
losses and gradients are compared.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Times, interleaved

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "conformance" / "12_lynx_hare.ndl"
PELTS = ROOT / "tests" / "data" / "lynx-hare.csv"
TOLERANCE = 1e-6
NAMES = ("alpha", "beta", "delta", "gamma", "prey", "predator")


@dataclass(frozen=True)
class Step:
    """A contender: `loss()` with gradient history, and the leaves it depends on, as `NAMES`."""

    loss: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    optimizer: torch.optim.Optimizer

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()


def measurements() -> tuple[Tensor, Tensor]:
    """Years [21] from 0 on, and log pelts [21, 2]."""
    with PELTS.open(encoding="utf-8") as file:
        rows = [(float(r["year"]), float(r["hare"]), float(r["lynx"])) for r in csv.DictReader(file)]
    table = torch.tensor(rows, dtype=torch.float64)
    return table[:, 0] - table[0, 0], torch.log(table[:, 1:])


def by_ndl(method: str) -> Step:
    """The model of the conformance program under `ndl.solve`."""
    import ndl

    t, pelts = measurements()
    model: Any = ndl.load(PROGRAM).models["LotkaVolterra"]()
    initial = model.fit_initial()
    weights = model.weights()
    leaves = (*(weights[n] for n in NAMES[:4]), *(initial[n] for n in NAMES[4:]))
    how = f"{method}(rtol={TOLERANCE}, atol={TOLERANCE})"

    def loss() -> Tensor:
        s = ndl.solve(model, span=(0.0, float(t[-1])), method=how, save=t.tolist(), gradient="discrete")
        solved = torch.stack([s["prey"].values, s["predator"].values], -1)
        return ((torch.log(solved) - pelts) ** 2).sum(-1).mean()

    return Step(loss, leaves, torch.optim.Adam(leaves, lr=1e-6))


class Equations(nn.Module):
    """The same equations for torchdiffeq; parameters are logarithms, as NDL's positive ones are in effect."""

    def __init__(self) -> None:
        super().__init__()
        start = (0.55, 0.028, 0.024, 0.80)
        self.logs = nn.ParameterList([torch.tensor(v, dtype=torch.float64).log() for v in start])
        initial = torch.tensor([33.0, 6.0], dtype=torch.float64).log()
        self.initial = nn.ParameterList(list(initial))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        alpha, beta, delta, gamma = (p.exp() for p in self.logs)
        prey, predator = x.unbind(-1)
        eaten = prey * predator
        return torch.stack([alpha * prey - beta * eaten, delta * eaten - gamma * predator], -1)


def by_torchdiffeq(method: str) -> Step:
    """torchdiffeq's `odeint`, backpropagated through."""
    from torchdiffeq import odeint

    t, pelts = measurements()
    equations = Equations()

    def loss() -> Tensor:
        x0 = torch.stack([p.exp() for p in equations.initial])
        solved = odeint(equations, x0, t, method=method, rtol=TOLERANCE, atol=TOLERANCE)
        return ((torch.log(solved) - pelts) ** 2).sum(-1).mean()

    leaves = (*equations.logs, *equations.initial)
    return Step(loss, leaves, torch.optim.Adam(leaves, lr=1e-6))


def agree(a: Step, b: Step) -> None:
    """Refuse to compare programs that compute different things."""
    found = []
    for step in (a, b):
        loss = step.loss()
        found.append(torch.stack([loss.detach(), *torch.autograd.grad(loss, step.leaves)]))
    if not torch.allclose(found[0], found[1], rtol=1e-3, atol=1e-6):
        raise RuntimeError(f"losses and gradients differ:\n{found[0].tolist()}\n{found[1].tolist()}")


def run(rounds: int = 25) -> dict[str, Times]:
    """Seconds of a step; the last contender is the reference."""
    contenders = {
        "NDL, tsit5": by_ndl("tsit5"),
        "NDL, dopri5": by_ndl("dopri5"),
        "torchdiffeq, dopri5": by_torchdiffeq("dopri5"),
    }
    for step in list(contenders.values())[:-1]:
        agree(step, contenders["torchdiffeq, dopri5"])
    return interleaved(contenders, rounds)
