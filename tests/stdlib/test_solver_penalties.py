"""The estimates of the solver in losses against formulas written out, and the laws of the times drawn.

Numbers of the pair: Tsitouras (2011), Computers and Mathematics with Applications 62, 770-775.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.draws import draw
from scipy.stats import kstest

import ndl
from ndl.session import Program

A = [
    [],
    [0.161],
    [-0.008480655492356989, 0.335480655492357],
    [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
    [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
    [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
    [0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
]
D = [-0.001780011052225777, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
     0.5823571654525552, -0.45808210592918697, 1 / 66]  # fmt: skip
C = [0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1]

TEXT = """
model Driven:
    input start: R[2]
    param k = 1.3
    net f: (R, R[2]) -> R[2] = MLP(width=6, depth=1)
    state u: R[2] = start
    u' = f(t, u) - k*[u[1]*cos(t), -u[0]^2]

model Oscillator:
    param mu = 5.0
    state x = 2.0, v = 0.0
    x' = v
    v' = mu*(1 - x^2)*v - x
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def solved(program: Any, **settings: Any) -> Any:
    given = {"span": (0, 2), "method": "tsit5(rtol=1e-3, atol=1e-3)", "backend": "torch"}
    start = torch.tensor([[0.7, -0.4]] * 3, dtype=torch.float64)
    return ndl.solve(program.Driven.make({}, seed=2).bind(start=start), **{**given, **settings})


def by_hand(f: Any, t: float, x: np.ndarray, h: float) -> tuple[float, float]:
    """q and S of one step."""
    K: list[np.ndarray] = []
    stages: list[np.ndarray] = []
    for a, c in zip(A, C, strict=True):
        stages.append(x + h * sum((b * k for b, k in zip(a, K, strict=False)), np.zeros_like(x)))
        K.append(f(t + c * h, stages[-1]))
    error = h * sum(d * k for d, k in zip(D, K, strict=True))
    scale = 1e-3 + 1e-3 * np.maximum(np.abs(x), np.abs(stages[6]))
    stiffness = np.linalg.norm(K[6] - K[5]) / np.linalg.norm(stages[6] - stages[5])
    return float(np.sqrt(np.mean((error / scale) ** 2))), float(stiffness)


def test_error_and_stiffness_are_their_formulas(program: Any) -> None:
    s = solved(program, save="steps")
    model = s.problem.model

    def f(t: float, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.vector_field(torch.tensor(t, dtype=torch.float64), torch.from_numpy(x)[None])[
                0
            ].numpy()

    for j in range(len(s.steps.t[0])):
        x = s.u.values[0, j].detach().numpy()
        q, stiffness = by_hand(f, float(s.steps.t[0, j]), x, float(s.steps.h[0, j]))
        assert float(s.steps.error[0, j]) == pytest.approx(q, rel=1e-9, abs=1e-12)
        assert float(s.steps.stiffness[0, j]) == pytest.approx(stiffness, rel=1e-9)


def test_equal_samples_have_equal_steps(program: Any) -> None:
    s = solved(program)
    for values in (s.steps.error, s.steps.h, s.steps.stiffness):
        assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
    assert float(s.steps.error.max()) <= 1


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_kernels_and_torch_agree_on_gradients_of_estimates(program: Any, backend: str) -> None:
    """The steps taken again together, from what the kernel kept, against a replay one after the other."""
    model = program.Driven.make({}, seed=2)
    start = torch.tensor(np.random.default_rng(0).normal(size=(5, 2)))
    weights = [p for p in model.parameters() if p.requires_grad]
    found = []
    for settings in ({"backend": backend, "save": "end"}, {"backend": "torch", "save": "steps"}):
        s = ndl.solve(model.bind(start=start), span=(0, 2), method="tsit5(rtol=1e-6, atol=1e-6)",
                      gradient="discrete", **settings)  # fmt: skip
        penalty = (s.steps.error * s.steps.h).nansum() + 1e-3 * s.steps.stiffness.nansum()
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(penalty, weights)]))
    assert float((found[0] - found[1]).norm()) < 1e-7 * float(found[1].norm())


TRAINING = """
use std.training: error_of, local_error

train Driven:
    data      = table("d.npz", start="start")
    span      = 0..1
    method    = tsit5(rtol=1e-5, atol=1e-5)
    gradient  = {gradient}
    precision = float64
    tau ~ {law}
    loss      = {loss}
    optimizer = adam(lr=0.01)
    steps     = {steps}
"""


def trained(
    folder: Path,
    loss: str,
    *,
    gradient: str = "discrete",
    law: str = "uniform(0, 1)",
    steps: int = 3,
    samples: int = 6,
) -> Any:
    np.savez(folder / "d.npz", start=np.random.default_rng(3).normal(size=(samples, 2)))
    file = folder / "m.ndl"
    text = TEXT + TRAINING.format(gradient=gradient, loss=loss, law=law, steps=steps)
    file.write_text(text, encoding="utf-8")
    program = Program.load(file)
    program.run()
    (found,) = program.host.named.values()
    return found


TASK = "dot(final.u, final.u)"


@pytest.mark.parametrize(
    ("gradient", "penalty"),
    [("discrete", "error_of(steps)"), ("discrete", "local_error(steps, tau)"),
     ("adjoint", "local_error(steps, tau)")],
)  # fmt: skip
def test_a_penalty_of_weight_0_changes_no_bit(tmp_path: Path, gradient: str, penalty: str) -> None:
    plain = trained(tmp_path, f"{TASK} + 0*tau", gradient=gradient).model.instance
    other = trained(tmp_path, f"{TASK} + 0*tau + 0*{penalty}", gradient=gradient).model.instance
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    moved = trained(tmp_path, f"{TASK} + 0*tau + {penalty}", gradient=gradient).model.instance
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), moved.parameters(), strict=True))


def test_gradients_of_main_runs_agree(program: Any) -> None:
    """Discrete and adjoint main solves, the same penalty of one step."""
    from ndl.runtime.single import step_of

    model = program.Driven.make({}, seed=2)
    start = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    weights = [p for p in model.parameters() if p.requires_grad]
    found = []
    for gradient in ("discrete", "adjoint"):
        s = ndl.solve(model.bind(start=start), span=(0, 2), method="tsit5(rtol=1e-8, atol=1e-8)",
                      gradient=gradient, backend="torch")  # fmt: skip
        one = step_of(s, torch.tensor([0.9])).steps
        loss = (s.final["u"] ** 2).sum() + (one.error * one.h).sum()
        found.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, weights)]))
    assert float((found[0] - found[1]).norm()) < 1e-4 * float(found[0].norm())


def test_unbiased_times_are_uniform() -> None:
    times = draw("uniform", (), 0.0, 1.0, seed=4, stream=7, sample=torch.arange(100_000), step=3)
    assert kstest(times.numpy(), "uniform").pvalue > 0.01


def test_biased_times_are_those_of_the_steps(tmp_path: Path) -> None:
    """Uniform over the accepted times, of which the end is none."""
    n = 3000
    how: dict[str, Any] = {"law": "choice(steps.t)", "steps": 1}
    beside = trained(tmp_path, "min(abs(steps.t - tau)) + 0*k", samples=n, **how)
    assert float(beside.result.loss) < 1e-12
    ends = trained(tmp_path, "(if tau >= 1 then 1.0 else 0.0) + 0*k", samples=n, **how)
    assert float(ends.result.loss) == 0
    gap = trained(tmp_path, "tau - mean(steps.t) + 0*k", samples=n, **how)
    assert abs(float(gap.result.loss)) < 4 * 0.5 / np.sqrt(n)


def test_steps_are_dense_in_the_fast_phases(program: Any) -> None:
    s = ndl.solve(program.Oscillator(), span=(0, 40), method="tsit5(rtol=1e-6, atol=1e-6)")
    grid = torch.linspace(0, 40, 40_001, dtype=torch.float64)
    share = (s(grid).v.abs() > 1).double().mean()
    drawn = (s(s.steps.t).v.abs() > 1).double().mean()
    assert float(drawn) > 2 * float(share) > 0.02


def test_the_size_of_the_single_step() -> None:
    """Of the solver, given, or that of the rule for first steps: cautious, so that its error is far below."""
    from ndl.runtime.single import step_of

    s = ndl.solve(ndl.loads(TEXT).Oscillator(), span=(0, 5), method="tsit5(rtol=1e-6, atol=1e-6)")
    t = torch.tensor([1.7], dtype=torch.float64)
    own, fresh = step_of(s, t).steps, step_of(s, t, "fresh").steps
    assert float(own.h) == pytest.approx(float(s.steps.h[s.step_at(t)]), rel=1e-12)
    assert 0 < float(fresh.h) < 0.5 * float(own.h) and float(fresh.error) < 0.1 * float(own.error)
    assert float(step_of(s, t, torch.tensor([0.01])).steps.h) == pytest.approx(0.01)
    end = step_of(s, torch.tensor([5.0])).steps
    assert float(end.h) == 0 and float(end.error) == 0 and float(end.stiffness) == 0
