"""`noise_step`: paths whose increments are drawn over the steps of a grid, by kernels and by torch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from agreement_problems import SOURCE
from compared import has_areas, near_zero
from ndl.compiler.diagnostics import NDLError
from ndl.runtime import stepped_path

import ndl

COUNT = 20
MANY = 40_000

OWN = """
model Integral:
    state q = 0.0, p = 0.0
    noise W: wiener
    dq = p*dt
    dp = dW
"""

CASES = [
    ("Scalar", "milstein(h=0.01)", (0.3, 0.8)),
    ("Scalar", "sri(h=0.03)", (-0.3, 0.3)),
    ("Additive", "sra1(h=0.02)", (0, 0.5)),
    ("Additive", "euler_maruyama(h=0.05)", (-1, 0.2)),
    ("Diagonal", "sri(h=0.01)", (0, 0.3)),
    ("General", "heun(h=0.04)", (0.04, 0.8)),
    ("General", "euler_maruyama(h=0.01)", (0, 0.155)),
]
"""Steps of one cell and of several, a span with one too short among them, from points before 0 and after."""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(SOURCE + OWN)


def solved(program: Any, name: str, method: str, backend: str, **settings: Any) -> tuple[Any, torch.Tensor]:
    k = torch.linspace(0.2, 0.6, COUNT, dtype=torch.float64, requires_grad="gradient" in settings)
    made = getattr(program, name)().bind(k=k)
    return ndl.solve(made, method=method, backend=backend, **{"seed": 3, "noise_step": 0.01, **settings}), k


def loss_of(s: Any) -> torch.Tensor:
    names = [n for n in ("x", "q", "p") if n in s.names()]
    return sum(s[n].values.square().sum() + s.final[n].sin().sum() for n in names)


@pytest.mark.parametrize("gradient", ["discrete", "checkpoint(4)"])
@pytest.mark.parametrize(("name", "method", "span"), CASES)
def test_values_and_gradients(program: Any, name: str, method: str, span: tuple, gradient: str) -> None:
    """States and noises to 1e-12, gradients of the parameters to 1e-9, by a tape and from checkpoints."""
    found = []
    step = 0.005 if span[1] == 0.155 else 0.01
    for backend in ("torch", "cpu"):
        s, leaf = solved(
            program, name, method, backend, span=span, save="end", gradient=gradient, noise_step=step
        )
        found.append((s, torch.autograd.grad(loss_of(s), leaf)[0]))
    (a, grad_a), (b, grad_b) = found
    for n in a.names():
        assert float((a.final[n] - b.final[n]).abs().max()) <= 1e-12 * (1 + float(a.final[n].abs().max()))
    assert float((grad_a - grad_b).abs().max()) <= 1e-9 * float(grad_a.abs().max())


@pytest.mark.parametrize("name", ["General", "Diagonal"])
def test_steps_undone_on_the_way_back(program: Any, name: str) -> None:
    """The path is run backwards, from a time amid four cells."""
    grads = []
    for backend, gradient in (("torch", "discrete"), ("cpu", "reversible"), ("cpu", "adjoint")):
        s, leaf = solved(
            program, name, "reversible_heun(h=0.02)", backend, span=(-0.3, 0.5), save="every 0.2",
            gradient=gradient,
        )  # fmt: skip
        grads.append(torch.autograd.grad(loss_of(s), leaf)[0])
    for found in grads[1:]:
        torch.testing.assert_close(found, grads[0], rtol=1e-9, atol=1e-9)


def test_coarser_and_finer_steps_see_one_path(program: Any) -> None:
    """Milstein's scheme against the closed form in the path that it returns: errors of first order; half a
    cell and adaptive steps, by torch, see the path as well."""
    errors, paths = [], []
    for h in (0.08, 0.04, 0.02, 0.01, 0.005):
        backend = "torch" if h < 0.01 else "cpu"
        s, leaf = solved(program, "Scalar", f"milstein(h={h})", backend, span=(0, 0.8), save="end")
        exact = torch.exp((0.1 - leaf**2 / 2) * 0.8 + leaf * s.final.W)
        errors.append(float((s.final.x - exact).square().mean().sqrt()))
        paths.append(s.final.W)
    s, _ = solved(program, "Scalar", "sri(rtol=1e-2, atol=1e-2)", "torch", span=(0, 0.8), save="end")
    for path in [*paths[1:], s.final.W]:
        torch.testing.assert_close(path, paths[0], rtol=0, atol=1e-12)
    assert all(1.5 < a / b < 2.6 for a, b in pairwise(errors)), errors


def test_single_precision_follows_the_path(program: Any) -> None:
    a, b = (
        solved(program, "Scalar", "milstein(h=0.01)", "cpu", span=(0, 1), save="end", precision=p)[0]
        for p in ("float64", "float32")
    )
    torch.testing.assert_close(b.final.x.double(), a.final.x, rtol=2e-5, atol=2e-5)


def test_members_and_portions_do_not_matter(program: Any) -> None:
    model = program.Integral()
    how: dict[str, Any] = {"span": (0, 1), "method": "sra1(h=0.1)", "noise_step": 0.1, "save": "steps"}
    a = ndl.solve(model, ensemble=40, backend="cpu", **how)
    b = ndl.solve(model, ensemble=17, backend="torch", **how)
    torch.testing.assert_close(a.q.values[:17], b.q.values, rtol=0, atol=1e-13)
    other = ndl.solve(model, ensemble=40, backend="cpu", seed=1, **how)
    assert float((other.q.values[:, 1:] - a.q.values[:, 1:]).abs().min()) > 1e-6


def test_a_long_path_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows of cells than are kept, asked to and fro."""
    monkeypatch.setattr(stepped_path, "MOST", 4)
    a, b = (stepped_path.SteppedPath(5, 3, 1, 0, 1, step=2.0**-10) for _ in range(2))
    times = np.arange(0, 2**10, 97) * 2.0**-10
    forth = a.at(times).W
    assert len(a._starts) <= stepped_path.KEPT + 1
    back = torch.stack([b.at([t]).W[0] for t in times[::-1]])
    torch.testing.assert_close(back, forth.flip(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(a.at([times[3]]).W[0], forth[3], rtol=0, atol=1e-12)


def test_values_between_steps(program: Any) -> None:
    """Torch has them, also where a kernel has run."""
    at = torch.tensor([0.013, 0.25, 0.5])
    a, b = (
        solved(program, "Scalar", "milstein(h=0.01)", backend, span=(0, 0.5), save="every 0.25")[0]
        for backend in ("torch", "cpu")
    )
    for name in ("x", "W"):
        torch.testing.assert_close(b(at)[name], a(at)[name], rtol=0, atol=1e-12)


def test_the_law_of_increments(program: Any) -> None:
    """Of the increments over nine cells, which need three calls of Philox: moments to the fourth, and no
    covariance of two, of their squares neither."""
    s = ndl.solve(
        program.Integral(), span=(0, 9), method="euler_maruyama(h=1)", noise_step=1, save="steps",
        ensemble=MANY, seed=2, backend="cpu",
    )  # fmt: skip
    z = s.W.values.reshape(MANY, 10).diff(dim=1)
    for i in range(9):
        near_zero(z[:, i], 1)
        near_zero(z[:, i].square() - 1, 2**0.5)
        near_zero(z[:, i] ** 3, 15**0.5)
        near_zero(z[:, i] ** 4 - 3, 96**0.5)
        for j in range(i):
            near_zero(z[:, i] * z[:, j], 1)
            near_zero((z[:, i].square() - 1) * (z[:, j].square() - 1), 2)


@pytest.mark.parametrize("step", [1, 0.25])
def test_the_law_of_areas(program: Any, step: float) -> None:
    """SRA1 has q(1), the integral of W, exactly in steps of any size."""
    s = ndl.solve(
        program.Integral(), span=(0, 1), method="sra1(h=1)", noise_step=step, save="end", ensemble=MANY,
        seed=2, backend="cpu",
    )  # fmt: skip
    has_areas(s.final.q, s.final.W)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "milstein(h=0.015)"}, "inside steps of its noise"),
        ({"method": "milstein(h=0.01)", "save": "every 0.015"}, "inside steps of its noise"),
        ({"method": "sri(rtol=1e-2)"}, "members' own"),
        ({"method": "milstein(h=0.01)", "noise_step": 0}, "a time above 0"),
        ({"method": "milstein(h=0.01)", "noise_step": 1e-10}, "too many steps"),
    ],
)
def test_what_is_refused_says_why(program: Any, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(NDLError, match=why):
        solved(program, "Scalar", backend="cpu", **{"span": (0, 1), "save": "end", **settings})


def test_a_model_without_noise_has_no_such_step() -> None:
    model = ndl.loads("model M:\n    state x = 1.0\n    x' = -x").M()
    with pytest.raises(NDLError, match="for models with noise, and `M` has none"):
        ndl.solve(model, span=(0, 1), method="rk4(h=0.1)", noise_step=0.1)
