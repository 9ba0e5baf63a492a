"""The solver's estimates in a loss: gradients through them, and single steps at a time of each sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ndl.compiler.diagnostics import NDLError

from ndl.session import Program

TEXT = """
model Turns:
    input x: R[2]
    param k = 1.3
    state u: R[2] = x
    u' = k*[u[1], -u[0]*(1 + u[0]^2)]

train Turns:
    data      = table("d.npz", x="x")
    span      = 0..1
    method    = tsit5(rtol=1e-6, atol=1e-6)
    backend   = torch
    {lines}
    optimizer = sgd(lr={lr})
    steps     = 1

"""
RUN = "s = solve(Turns, span=0..1, method=tsit5(rtol=1e-6, atol=1e-6), gradient={gradient}, backend=torch)"
ONE = (
    "one = solve(Turns(u=stop_gradient(s.u(tau))), span=tau..tau + s.steps.h(tau), "
    "method=tsit5(steps=1, rtol=1e-6, atol=1e-6), gradient=discrete)"
)


def trained(folder: Path, *lines: str, lr: float = 0.0) -> Any:
    np.savez(folder / "d.npz", x=np.random.default_rng(1).normal(size=(4, 2)))
    file = folder / "m.ndl"
    file.write_text(TEXT.format(lines="\n    ".join(lines), lr=lr), encoding="utf-8")
    program = Program.load(file)
    program.run()
    (found,) = program.host.named.values()
    return found


@pytest.mark.parametrize("gradient", ["discrete", "adjoint"])
def test_one_step_from_an_accepted_time_is_the_step_that_was_taken(tmp_path: Path, gradient: str) -> None:
    lines = (RUN.format(gradient=gradient), "tau ~ choice(s.steps.t)", ONE)
    own = trained(tmp_path, *lines, "loss = sum(one.steps.error)")
    assert float(own.result.loss) > 1e-3
    stiff = trained(tmp_path, *lines, "loss = sum(one.steps.stiffness)")
    assert 0.5 < float(stiff.result.loss) < 20
    if gradient == "discrete":
        gap = trained(tmp_path, *lines, "loss = abs(sum(one.steps.error) - s.steps.error(tau)) + 0*k")
        assert float(gap.result.loss) < 1e-10


def test_estimates_have_gradients(tmp_path: Path) -> None:
    """A step of gradient descent of rate 1 moves k by the slope, here by a central difference of one fixed
    step, whose size no change of k changes."""
    lines = ("tau ~ uniform(0, 0.5)", ONE.replace("s.u(tau)", "x").replace("s.steps.h(tau)", "0.1"))

    def error(k: float) -> Any:
        given = [line.replace("u=stop_gradient(x)", f"u=data.x, k={k}") for line in lines]
        return float(trained(tmp_path, *given, "loss = sum(one.steps.error) + 0*k").result.loss)

    moved = trained(
        tmp_path,
        *[v.replace("stop_gradient(x)", "data.x") for v in lines],
        "loss = sum(one.steps.error)",
        lr=1e-3,
    )
    slope = (1.3 - float(moved.model.instance.k.detach())) / 1e-3
    assert slope == pytest.approx((error(1.3 + 1e-5) - error(1.3 - 1e-5)) / 2e-5, rel=1e-5)


def test_estimates_of_a_run_without_discrete_gradients_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NDLError) as caught:
        trained(tmp_path, RUN.format(gradient="adjoint"), "loss = mean(s.steps.error*s.steps.h)")
    assert caught.value.diagnostics[0].code == "NDL525"


NOISY = """
use std.training: local_error, stiffness_mean

model Swing:
    input start: R[2]
    param k = 1.3, s = 0.3
    noise W: wiener[2]
    state x: R[2] = start
    dx = [x[1], -k*sin(x[0])]*dt + s*x*dW

train Swing:
    data      = table("d.npz", start="start")
    span      = 0..1
    method    = sosri2(rtol=1e-2, atol=1e-2)
    precision = float64
    backend   = {backend}
    tau ~ {law}
    loss      = {loss}
    optimizer = sgd(lr={lr})
    steps     = 1
"""


def swung(
    folder: Path, loss: str, backend: str = "torch", law: str = "uniform(0, 1)", lr: float = 0.0
) -> Any:
    np.savez(folder / "d.npz", start=np.random.default_rng(5).normal(size=(6, 2)))
    file = folder / "n.ndl"
    file.write_text(NOISY.format(backend=backend, law=law, loss=loss, lr=lr), encoding="utf-8")
    program = Program.load(file)
    program.run()
    (found,) = program.host.named.values()
    return found


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_single_steps_under_noise_are_those_of_the_run(tmp_path: Path, backend: str) -> None:
    """From an accepted time: the same state, size and path, and so the same error."""
    loss = "abs(local_error(steps, tau) - steps.error(tau)*steps.h(tau)) + 0*k"
    found = swung(tmp_path, loss, backend, "choice(steps.t)")
    assert float(found.result.loss) < 1e-10


def test_penalties_under_noise_are_the_same_by_kernels(tmp_path: Path) -> None:
    for loss in ("local_error(steps, tau)", "stiffness_mean(steps)", "mean(steps.error*steps.h)"):
        a, b = (swung(tmp_path, f"{loss} + 0*tau", backend, lr=0.1) for backend in ("torch", "cpu"))
        assert float(a.result.loss) == pytest.approx(float(b.result.loss), rel=1e-7)
        slopes = [(1.3 - float(m.model.instance.k.detach())) / 0.1 for m in (a, b)]
        assert slopes[0] == pytest.approx(slopes[1], rel=1e-6) and slopes[0] != 0


def test_a_method_that_does_not_know_the_stiffness_says_so(tmp_path: Path) -> None:
    text = NOISY.replace("sosri2(rtol=1e-2, atol=1e-2)", "euler_maruyama(h=0.1)")
    np.savez(tmp_path / "d.npz", start=np.zeros((2, 2)))
    file = tmp_path / "e.ndl"
    filled = text.format(backend="torch", law="uniform(0, 1)", loss="stiffness_mean(steps) + 0*tau", lr=0)
    file.write_text(filled, encoding="utf-8")
    with pytest.raises(NDLError) as caught:
        Program.load(file).run()
    assert caught.value.diagnostics[0].code == "NDL545"
