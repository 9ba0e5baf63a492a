"""Stochastic equations by kernels against torch's: the same path, the same values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agreement_problems import SOURCE
from ndl.compiler.diagnostics import NDLError

import ndl

COUNT = 20
CASES = [
    *(
        ("Scalar", m)
        for m in ("euler_maruyama", "milstein", "heun", "euler_heun", "sri", "sosri", "reversible_heun")
    ),
    *(("Additive", m) for m in ("sra1", "euler_maruyama", "reversible_heun")),
    *(("Diagonal", m) for m in ("milstein", "sri", "euler_maruyama")),
    *(("General", m) for m in ("euler_maruyama", "heun", "reversible_heun")),
]
GRIDS = [("h=0.01", (0.3, 0.8), "end"), ("steps=7", (-1, 1), "end")]
"""Decimal steps and sevenths; quarters have their cells in `test_agreement.py`."""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE)


def solved(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor]:
    k = torch.linspace(0.2, 0.6, COUNT, dtype=torch.float64, requires_grad="gradient" in settings)
    made = getattr(program, name)().bind(k=k)
    return ndl.solve(made, method=method, backend=backend, **{"seed": 3, **settings}), k


@pytest.mark.parametrize(("options", "span", "save"), GRIDS)
@pytest.mark.parametrize(("name", "method"), CASES)
def test_values_and_gradients(
    program: Any, name: str, method: str, options: str, span: tuple, save: str
) -> None:
    """States and noises to 1e-12, gradients of the parameters to 1e-9."""
    found = []
    for backend in ("torch", "cpu"):
        s, leaf = solved(
            program, name, f"{method}({options})", backend, span=span, save=save, gradient="discrete"
        )
        names = [n for n in ("x", "q", "p") if n in s.names()]
        loss = sum(s[n].values.square().sum() + s.final[n].sum() for n in names)
        found.append((s, torch.autograd.grad(loss, leaf)[0]))
    (a, grad_a), (b, grad_b) = found
    for n in a.names():
        assert float((a[n].values - b[n].values).abs().max()) <= 1e-12 * (1 + float(a[n].values.abs().max()))
        assert float((a.final[n] - b.final[n]).abs().max()) <= 1e-12 * (1 + float(a.final[n].abs().max()))
    assert float((grad_a - grad_b).abs().max()) <= 1e-9 * float(grad_a.abs().max())


@pytest.mark.parametrize(
    ("name", "method", "span", "save"),
    [
        ("General", "reversible_heun(h=0.05)", (0, 1), "every 0.25"),
        ("Diagonal", "reversible_heun(h=0.05)", (0, 1), "end"),
        ("Additive", "reversible_heun(steps=9)", (-1, 1), "end"),
    ],
)
def test_steps_undone_on_the_way_back(program: Any, name: str, method: str, span: tuple, save: str) -> None:
    """`gradient = reversible` keeps no tape; its gradients are those of what was computed."""
    grads = []
    for backend, gradient in (("torch", "discrete"), ("cpu", "reversible"), ("cpu", "adjoint")):
        s, leaf = solved(program, name, method, backend, span=span, save=save, gradient=gradient)
        loss = sum(s[n].values.square().sum() + s.final[n].sin().sum() for n in s.names() if n in "qp")
        grads.append(torch.autograd.grad(loss, leaf)[0])
    for found in grads[1:]:
        torch.testing.assert_close(found, grads[0], rtol=1e-9, atol=1e-9)


def test_what_cannot_be_undone_is_refused(program: Any) -> None:
    for method, span, save, why in (
        ("heun(h=0.1)", (0, 1), "end", "cannot be undone"),
        ("reversible_heun(h=0.1)", (0, 1), "every 0.03", "inside steps"),
        ("sri(rtol=1e-3)", (0, 1), "end", "is torch's"),
    ):
        with pytest.raises(NDLError, match=why):
            solved(program, "General" if "h=" in method else "Scalar", method, "cpu", span=span, save=save,
                   gradient="reversible")  # fmt: skip


def test_a_finer_run_sees_the_same_path(program: Any) -> None:
    """Milstein's scheme for geometric Brownian motion against the closed form in the path that it returns,
    with an error of first order, and the path of all step sizes the same."""
    errors, paths = [], []
    for h in (2**-5, 2**-6, 2**-7, 2**-8):
        s, leaf = solved(program, "Scalar", f"milstein(h={h})", "cpu", span=(0, 1), save="end")
        exact = torch.exp((0.1 - leaf**2 / 2) + leaf * s.final.W)
        errors.append(float((s.final.x - exact).square().mean().sqrt()))
        paths.append(s.final.W)
    for path in paths[1:]:
        torch.testing.assert_close(path, paths[0], rtol=0, atol=1e-12)
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert orders.mean() == pytest.approx(1.0, abs=0.25)


def test_single_precision_follows_the_same_path(program: Any) -> None:
    double, _ = solved(program, "Scalar", "euler_maruyama(h=0.0625)", "cpu", span=(0, 2), save="end")
    single, _ = solved(
        program, "Scalar", "euler_maruyama(h=0.0625)", "cpu", span=(0, 2), save="end", precision="float32"
    )
    torch.testing.assert_close(single.final.W.double(), double.final.W, rtol=0, atol=3e-5)
    torch.testing.assert_close(single.final.x.double(), double.final.x, rtol=1e-4, atol=1e-4)


def test_moments_of_the_path_made_inside(program: Any) -> None:
    """W(1) of many members: mean, variance, kurtosis and independence of increments within 4.5 deviations."""
    made = program.Scalar().bind(k=torch.full((40_000,), 0.3, dtype=torch.float64))
    s = ndl.solve(made, span=(0, 1), method="euler_maruyama(h=0.25)", save="every 0.5", backend="cpu")
    W = s.W.values.reshape(40_000, 3)
    first, second = W[:, 1] - W[:, 0], W[:, 2] - W[:, 1]
    root = 40_000**-0.5
    assert abs(float(W[:, 2].mean())) < 4.5 * root
    assert abs(float(first.var()) - 0.5) < 4.5 * root * 0.5 * 2**0.5
    assert abs(float((first * second).mean())) < 4.5 * root * 0.5
    assert abs(float((first / 0.5**0.5).pow(4).mean()) - 3) < 4.5 * root * 96**0.5


ADAPTIVE = [
    ("Scalar", "sri(rtol=1e-3, atol=1e-4)", (0, 2), "every 0.3"),
    ("Additive", "sra1(rtol=1e-3, atol=1e-4)", (0.3, 2), "end"),
    ("Additive", "sra1(rtol=1e-3, atol=1e-4)", (0.3, 2), "every 0.3"),
    ("Diagonal", "sri(rtol=1e-3, atol=1e-4, hmax=0.5)", (-1.1, 2), "every 0.3"),
    ("Scalar", "sri(rtol=1e-2, atol=1e-2)", (1020, 1030), "every 2.5"),
]


@pytest.mark.parametrize(("name", "method", "span", "save"), ADAPTIVE)
def test_adaptive_steps(program: Any, name: str, method: str, span: tuple, save: str) -> None:
    """The same steps accepted and rejected as by torch, at the same dyadic times; values at their ends to
    1e-12, inside them to 1e-11 (a unit in the last place of a time moves the path a thousand times as much);
    gradients to 1e-9. The last span goes from one root cell of the path to the next."""
    found = []
    for backend in ("torch", "cpu"):
        s, leaf = solved(program, name, method, backend, span=span, save=save, gradient="discrete")
        names = [n for n in ("x", "q", "p") if n in s.names()]
        loss = sum(s[n].values.square().sum() + s.final[n].sum() for n in names)
        found.append((s, torch.autograd.grad(loss, leaf)[0]))
    (a, grad_a), (b, grad_b) = found
    assert a.stats.steps.tolist() == b.stats.steps.tolist()
    assert a.stats.rejected.tolist() == b.stats.rejected.tolist()
    assert a.stats.evaluations.tolist() == b.stats.evaluations.tolist()
    assert int(a.stats.rejected.sum()) > 0
    torch.testing.assert_close(a.steps.t, b.steps.t, rtol=0, atol=0, equal_nan=True)
    for n in a.names():
        size = 1 + float(a[n].values.detach().abs().max())
        assert float((a[n].values - b[n].values).detach().abs().max()) <= 1e-11 * size
        assert float((a.final[n] - b.final[n]).detach().abs().max()) <= 1e-12 * size
    assert float((grad_a - grad_b).abs().max()) <= 1e-9 * float(grad_a.abs().max())


def test_an_adaptive_gradient_against_finite_differences(program: Any) -> None:
    """Of a linear equation with fixed accepted steps: k enters x(1) smoothly where a small change of it
    changes no decision. Steps end at dyadic times, which a small change leaves where they are."""

    def run(k: torch.Tensor) -> Any:
        return ndl.solve(
            program.Scalar().bind(k=k), span=(0, 1), method="sri(rtol=1e-2, atol=1e-2)", save="[0.3, 0.77]",
            backend="cpu", gradient="discrete", seed=4,
        )  # fmt: skip

    k = torch.full((16,), 0.4, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(run(k).x.values.sum(), k)
    with torch.no_grad():
        up, down = run(k + 1e-6), run(k - 1e-6)
        same = (up.steps.t.nan_to_num() == down.steps.t.nan_to_num()).all(-1)
        rate = (up.x.values - down.x.values).sum(-1) / 2e-6
    assert int(same.sum()) >= 12
    torch.testing.assert_close(rate[same], exact[same], rtol=1e-6, atol=1e-8)


def test_values_inside_fixed_steps(program: Any) -> None:
    found = []
    for backend in ("torch", "cpu"):
        s, leaf = solved(
            program, "General", "heun(h=0.1)", backend, span=(0, 1), save="every 0.03", gradient="discrete"
        )
        loss = sum(s[n].values.square().sum() for n in ("q", "p"))
        found.append((s, torch.autograd.grad(loss, leaf)[0]))
    (a, grad_a), (b, grad_b) = found
    for n in a.names():
        assert float((a[n].values - b[n].values).detach().abs().max()) <= 1e-11
    assert float((grad_a - grad_b).abs().max()) <= 1e-9 * float(grad_a.abs().max())


@pytest.mark.parametrize("method", ["heun(h=0.1)", "sri(rtol=1e-3, atol=1e-3)"])
def test_every_step_saved(program: Any, method: str) -> None:
    """Values at the steps' ends, continuous output by torch from the kernel's steps."""
    a, b = (solved(program, "Scalar", method, backend, span=(0, 1))[0] for backend in ("torch", "cpu"))
    for n in ("x", "W"):
        torch.testing.assert_close(a[n].values, b[n].values, rtol=0, atol=1e-12, equal_nan=True)
        torch.testing.assert_close(a[n](0.377), b[n](0.377), rtol=0, atol=1e-12)
    assert b.steps.t.shape == a.steps.t.shape
    torch.testing.assert_close(a.steps.stiffness, b.steps.stiffness, rtol=0, atol=1e-10, equal_nan=True)
    assert bool(torch.isnan(b.steps.stiffness).all()) == method.startswith("heun")


def test_a_tableau_for_noise_and_a_requirement() -> None:
    made = ndl.loads("""
solver slopes for sde order 0.5:
    tableau:
        0 |
        1 | 1
        --+----
          | 1/2 1/2

model Positive:
    calculus stratonovich
    param s = 0.3
    state x = 1.0
    noise W: wiener
    dx = 0.1*x*dt + s*x*dW

model Bounded:
    state x = 0.0
    noise W: wiener
    dx = dW
    require x < 1, "x stays below 1"
""")
    a, b = (
        ndl.solve(
            made.Positive(), span=(0, 1), method="slopes(h=0.1)", save="end", ensemble=20, backend=backend
        )
        for backend in ("torch", "cpu")
    )
    torch.testing.assert_close(a.final.x, b.final.x, rtol=0, atol=1e-13)
    with pytest.raises(NDLError, match="x stays below 1"):
        ndl.solve(made.Bounded(), span=(0, 9), method="euler_maruyama(h=0.1)", save="end", ensemble=20)


def test_what_goes_by_torch_says_why(program: Any) -> None:
    with pytest.raises(NDLError, match="noise"):
        solved(program, "General", "milstein(h=0.1)", "cpu", span=(0, 1), save="end")


def test_nets() -> None:
    """Drift and diffusion by nets, whose rates reversible Heun carries from step to step, with a tape and
    without."""
    made = ndl.loads("""
model Neural:
    calculus stratonovich
    state x: R[3] = [0.1, -0.2, 0.3]
    noise W: wiener[3]
    net f: R[3] -> R[3] = MLP(width=20, depth=1)
    net g: R[3] -> R[3] = MLP(width=20, depth=1)
    dx = f(x)*dt + 0.3*sigmoid(g(x))*dW
""")
    model = made.Neural(seed=2)
    found = []
    for backend, gradient in (("torch", "discrete"), ("cpu", "discrete"), ("cpu", "reversible")):
        x = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(20, 3).requires_grad_(True)
        s = ndl.solve(
            model.bind(x=x), span=(0, 1), method="reversible_heun(h=0.125)", save="every 0.25", seed=1,
            gradient=gradient, backend=backend,
        )  # fmt: skip
        weights = [p for p in model.parameters() if p.requires_grad]
        loss = s.x.values.square().sum() + s.final.x.sin().sum()
        found.append((s, torch.autograd.grad(loss, [x, *weights])))
    (a, grads_a), *others = found
    assert len(grads_a) > 4
    for b, grads_b in others:
        torch.testing.assert_close(a.x.values, b.x.values, rtol=0, atol=1e-12)
        for g, h in zip(grads_a, grads_b):
            torch.testing.assert_close(g, h, rtol=1e-9, atol=1e-9)
