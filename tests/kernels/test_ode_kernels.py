"""Solves by kernels against torch's: the same accepted steps, values, continuous output and gradients."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from ensembles import COUNT, driven, gradient, lorenz, solved
from ndl.compiler.diagnostics import NDLError

import ndl

SOURCE = """
model Lorenz:
    param sigma = 10.0
    param rho = 28.0
    param beta = 8/3
    state x = 1.0
    state y = 0.0
    state z = 1.0
    x' = sigma*(y - x)
    y' = x*(rho - z) - y
    z' = x*y - beta*z

model Driven:
    param w: R[2] = [1.0, 2.0]
    param k > 0 = 0.3
    state q: R[2] = [1.0, 0.5]
    state p: R[2] = [0.0, -0.2]
    q' = p
    p' = -w*sin(q) - k*p + [cos(t), exp(-t)]/(1 + norm(q)^2)

model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x

model Blow:
    param a = 1.0
    state x = 1.0
    x' = a*x^2

model Bounded:
    param k = 1.0
    param top = 2.0
    param drop = 0.0
    state x > 0 = 1.0
    require x <= top
    x' = k*x - drop

model Jump:
    state x = 0.0
    x' = if t < 0.5 then 1 else -1
"""

FIXED = [
    "rk4(h=0.01)",
    "tsit5(h=0.02)",
    "heun(h=0.01)",
    "dopri8(h=0.05)",
    "euler(h=0.01)",
    "midpoint(steps=70)",
]
ADAPTIVE = [
    "tsit5(rtol=1e-6)",
    "dopri5(rtol=1e-7, atol=1e-8)",
    "bosh3(rtol=1e-5)",
    "dopri8(rtol=1e-9)",
    "vern7(rtol=1e-8)",
    "tsit5(rtol=1e-3, h0=0.004, hmax=0.02)",
    "tsit5(rtol=1e-6, beta=0)",
    "heun(rtol=1e-4)",
]
SAVES = ["end", "every 0.1", "every 0.0137", "steps"]


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.parametrize("make", [lorenz, driven])
@pytest.mark.parametrize("method", FIXED)
def test_fixed_steps(program: Any, method: str, make: Any) -> None:
    """To 1e-12 of the values' size."""
    for save in SAVES:
        a, b = (solved(make(program)[0], method, backend, save=save) for backend in ("torch", "cpu"))
        for name in a.names():
            scale = float(a[name].values.abs().max())
            assert float((a[name].values - b[name].values).abs().max()) <= 1e-12 * max(scale, 1)
        assert torch.equal(a.t, b.t)
        assert torch.equal(a.stats.steps, b.stats.steps)


@pytest.mark.parametrize("make", [lorenz, driven])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_steps_are_the_same_steps(program: Any, method: str, make: Any) -> None:
    for save in SAVES[:3]:
        a, b = (solved(make(program)[0], method, backend, save=save) for backend in ("torch", "cpu"))
        assert torch.equal(a.stats.steps, b.stats.steps) and torch.equal(a.stats.rejected, b.stats.rejected)
        for name in a.names():
            close(a[name].values, b[name].values)


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-6)", "dopri5(rtol=1e-6)", "rk4(h=0.05)"])
def test_continuous_output_and_steps(program: Any, method: str) -> None:
    a, b = (solved(driven(program)[0], method, backend, save="steps") for backend in ("torch", "cpu"))
    close(a.steps.t, b.steps.t, 1e-7)
    close(a.steps.h, b.steps.h, 1e-7)
    times = torch.linspace(0, 2, 17, dtype=torch.float64)
    close(a.q(times), b.q(times), 1e-8)
    close(a.steps.stiffness, b.steps.stiffness, 1e-5)
    few = solved(driven(program)[0], method, "cpu")
    close(few.steps.h, a.steps.h, 1e-7)


@pytest.mark.parametrize("make", [lorenz, driven])
@pytest.mark.parametrize("method", [*FIXED, *ADAPTIVE])
def test_gradients(program: Any, method: str, make: Any) -> None:
    """Of shared and own parameters and initial values: to 1e-9 of torch's."""
    for save in SAVES[:3]:
        pair = (gradient(program, make, method, backend, save=save) for backend in ("torch", "cpu"))
        for a, b in zip(*pair):
            assert float((a - b).abs().max()) <= 1e-9 * max(float(a.abs().max()), 1)


def test_gradients_of_every_fixed_step(program: Any) -> None:
    pair = (gradient(program, driven, "rk4(h=0.05)", backend, save="steps") for backend in ("torch", "cpu"))
    for a, b in zip(*pair):
        close(a, b)


@pytest.mark.parametrize("method", ["rk4(h=0.05)", "tsit5(rtol=1e-8)"])
def test_gradients_against_finite_differences(program: Any, method: str) -> None:
    def loss(w: torch.Tensor) -> torch.Tensor:
        s = solved(program.Driven().bind(w=w), method, "cpu", gradient="discrete", save="every 0.3")
        return s.q.values.square().sum()

    w = 1 + torch.rand(3, 2, dtype=torch.float64)
    w.requires_grad_(True)
    (exact,) = torch.autograd.grad(loss(w), w)
    step = 1e-5
    for place in ((0, 0), (2, 1)):
        moved = torch.zeros_like(w)
        moved[place] = step
        with torch.no_grad():
            rate = (loss(w + moved) - loss(w - moved)) / (2 * step)
        assert float(rate) == pytest.approx(float(exact[place]), rel=2e-6)


def test_backwards_in_time(program: Any) -> None:
    for method in ("tsit5(rtol=1e-8)", "rk4(h=0.01)"):
        a, b = (
            solved(driven(program)[0], method, k, span=(2, 0), save="every 0.37") for k in ("torch", "cpu")
        )
        close(a.q.values, b.q.values)


def test_tolerances_by_state(program: Any) -> None:
    method = "tsit5(rtol=1e-6, atol=[1e-3, 1e-9])"
    a, b = (solved(driven(program)[0], method, k) for k in ("torch", "cpu"))
    assert torch.equal(a.stats.steps, b.stats.steps)
    close(a.final.q, b.final.q)


@pytest.mark.parametrize("method", ["rk4(h=0.01)", "tsit5(rtol=1e-4)"])
def test_single_precision(program: Any, method: str) -> None:
    k = torch.linspace(0.5, 2, 30, dtype=torch.float64)
    s = solved(program.Decay().bind(k=k), method, "cpu", precision="float32", span=(0, 1))
    assert s.final.x.dtype == torch.float32
    np.testing.assert_allclose(s.final.x.double().numpy(), np.exp(-k.numpy()), rtol=2e-4)


def test_one_trajectory_and_many(program: Any) -> None:
    """A member's run does not depend on the others."""
    many = solved(driven(program)[0], "tsit5(rtol=1e-6)", "cpu")
    alone = solved(program.Driven().bind(w=driven(program)[1][0][7]), "tsit5(rtol=1e-6)", "cpu")
    assert torch.equal(many.final.q[7], alone.final.q)


def test_a_long_tape_is_made_again(program: Any) -> None:
    s = solved(lorenz(program)[0], "tsit5(rtol=1e-8)", "cpu", span=(0, 20), save="steps")
    assert int(s.stats.steps.max()) > 256
    assert bool(torch.isfinite(s.x.values).all())


def test_what_a_kernel_cannot_finish_is_told_as_torch_tells_it(program: Any) -> None:
    a = torch.linspace(0.1, 1.0, COUNT, dtype=torch.float64)
    with pytest.raises(NDLError, match="x") as caught:
        solved(program.Blow().bind(a=a), "tsit5(rtol=1e-6)", "auto")
    with pytest.raises(NDLError) as by_torch:
        solved(program.Blow().bind(a=a), "tsit5(rtol=1e-6)", "torch")
    # of the digits of x there, none is good: it magnifies the rounding of t by 1e13
    left, right = (re.sub("`x` = [0-9.e+]+|h = [0-9.e-]+", "", str(e.value)) for e in (caught, by_torch))
    assert left == right


@pytest.mark.parametrize("method", ["tsit5(rtol=1e-6)", "rk4(h=0.05)"])
def test_what_must_hold_is_looked_at(program: Any, method: str) -> None:
    k = torch.linspace(-1.0, 0.3, COUNT, dtype=torch.float64)
    a, b = (
        solved(program.Bounded().bind(k=k), method, backend, save="every 0.3") for backend in ("torch", "cpu")
    )
    close(a.x.values, b.x.values)
    for name, made in (
        ("later", program.Bounded().bind(k=k.abs() + 0.2)),
        ("at the start", program.Bounded().bind(k=k, x=2 + k)),
        ("bound", program.Bounded().bind(k=k, drop=2 + 0 * k)),
    ):
        errors = []
        for backend in ("torch", "cpu"):
            with pytest.raises(NDLError) as caught:
                solved(made, method, backend)
            errors.append(str(caught.value))
        assert errors[0] == errors[1], name


def test_a_run_that_no_kernel_serves_says_why(program: Any) -> None:
    with pytest.raises(NDLError, match="`gradient = adjoint` is torch's"):
        solved(program.Jump(), "tsit5(rtol=1e-6)", "cpu", gradient="adjoint")
    with pytest.raises(NDLError, match="there is no backend"):
        solved(program.Decay(), "tsit5(rtol=1e-6)", "numpy")


def test_training_by_kernel_learns_what_torch_learns() -> None:
    text = """
model Decay:
    param k > 0 = 1.0
    state x = 1.0
    x' = -k*x

solve Decay(k=0.4) as truth:
    span = 0..2
    method = tsit5(rtol=1e-9)
    save = every 0.1

train Decay:
    data = truth
    method = tsit5(rtol=1e-6)
    backend = {}
    loss = mean((x - data.x)^2)
    optimizer = adam(lr=0.05)
    steps = 30
"""
    found = [float(ndl.train(ndl.loads(text.format(b)), progress=False).model.k) for b in ("torch", "cpu")]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
