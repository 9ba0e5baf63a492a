"""Systems of the library's papers as short programs, each with tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ndl

FILES = sorted((Path(__file__).parent / "files").glob("*.ndl"))


@pytest.mark.parametrize("file", FILES, ids=[f.stem for f in FILES])
def test_a_program_passes_its_own_tests(file: Path) -> None:
    outcomes = list(ndl.load(file).test())
    assert len(outcomes) > 0
    assert [(o.title, o.message) for o in outcomes if not o.passed] == []


MEMBRANE = Path(__file__).parent / "files" / "p08_membrane.ndl"


def test_the_energy_and_its_derivative() -> None:
    """The energy is the integral of the density; by the derivative it changes along any v."""
    model = ndl.load(MEMBRANE, grid="{Square: chebyshev(20), Ring: fourier(8)}").models["Membrane"]()
    n = 20
    z = torch.sin(torch.pi * torch.arange(1 - n, n, 2, dtype=torch.float64) / (2 * (n - 1)))
    x, y = torch.meshgrid((1 + z) / 2, (1 + z) / 2, indexing="ij")
    u, v = x * (1 - x) * torch.sin(torch.pi * y), torch.sin(torch.pi * x) * y * (1 - y)
    t = torch.tensor(0.0, dtype=torch.float64)
    one = torch.ones(n * n, dtype=torch.float64, requires_grad=True)
    (weights,) = torch.autograd.grad(model.measure(t, one), one)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    slope = model.vector_field(t, u.reshape(-1)).detach()
    e = 1e-5
    up, down = (model.energy(t, (u + s * e * v).reshape(-1)).item() for s in (1, -1))
    assert float((weights * slope * v.reshape(-1)).sum()) == pytest.approx((up - down) / (2 * e), rel=1e-7)
    plane = model.energy(t, (0 * x + 1).reshape(-1)).item()
    assert plane == pytest.approx(-5 * (2 / torch.pi) ** 2, rel=1e-9)


def test_gradients_of_a_minimiser() -> None:
    models = ndl.load(MEMBRANE, grid="{Square: uniform(9, 9), Ring: fourier(8)}").models

    def size(load: torch.Tensor) -> torch.Tensor:
        model = models["Membrane"]().bind(load=load)
        s = ndl.solve(model, method="sobolev_gradient(tol=1e-11)", gradient="discrete")
        return (s.final.u**2).sum()

    load = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(size(load), [load])
    with torch.no_grad():
        up, down = (size(torch.tensor(5.0 + e, dtype=torch.float64)) for e in (1e-4, -1e-4))
    assert float(slope) == pytest.approx(float((up - down) / 2e-4), rel=1e-6)


LOSSES = """
domain Square = interval(x in 0..1, y in 0..1)
domain Cloud = points([[0.0, 0.0], [1.0, 2.0], [3.0, 0.0]], a, b)
net N: R on Square -> R on Square = Scaled()
operator Scaled(f: R on Square) -> R on Square:
    param a = 1
    return a*f
const F = [[i*j/80 for j in 0..10] for i in 0..8]
const G = [1, 2, 6]

train N as fitted:
    c ~ uniform(0, 1)
    grid = uniform(9, 11, order=4)
    samples = 2
    loss = LOSS
    steps = 1
"""


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("mean(N(F), Square)", 0.25),
        ("integral(N(F)*x, [x, y] in Square)", 1 / 6),
        ("integral(x*N(F), [x, y] in Square if x > 2)", 0.0),
        ("var(N(F), Square)", 1 / 9 - 1 / 16),
        ("max(N(F), Square) - min(N(F), Square)", 1.0),
        ("mean([N(F), N(F)][0], Square)", 0.25),
        ("mean(0*N(F)[0, 0] + G, Cloud)", 3.0),
        ("sum(a*b*(0*N(F)[0, 0] + G), [a, b] in Cloud)", 4.0),
        ("sum(mean(k*N(F), Square), k in 1..3)", 1.5),
    ],
)
def test_reductions_over_sets_in_a_loss(loss: str, wanted: float) -> None:
    (run,) = ndl.loads(LOSSES.replace("LOSS", loss)).run("fitted")
    assert run.history.loss[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (LOSSES.replace("LOSS", "mean(N(F)[0], Square)"), "NDL567", "9 × 11 points"),
        (LOSSES.replace("LOSS", "mean([N(F)[0:5, 0:5]][0], Square)"), "NDL567", "points"),
        (LOSSES.replace("    grid = uniform(9, 11, order=4)\n", "").replace("LOSS", "mean(N(F), Square)"),
         "NDL440", "not known here"),
    ],
)  # fmt: skip
def test_mistakes_in_losses(text: str, code: str, words: str) -> None:
    with pytest.raises(ndl.NDLError, match=code) as problem:
        ndl.loads(text).run("fitted")
    assert words in str(problem.value)


@pytest.mark.parametrize(
    ("method", "code", "words"),
    [
        ("richardson(A^-1)", "NDL322", "takes 2 data"),
        ("richardson", "NDL322", "needs what it works with"),
        ("richardson(directions, f)", "NDL568", "a solver is given"),
        ("newton(3)", "NDL322", "takes 0 data"),
    ],
)
def test_what_a_solver_is_not_given(method: str, code: str, words: str) -> None:
    text = (FILES[0]).read_text(encoding="utf-8")
    run = f"\nsolve Pressure as run:\n    method = {method}\n    grid = uniform(7, 7)\n"
    with pytest.raises(ndl.NDLError, match=code) as problem:
        ndl.loads(text + run).run("run")
    assert words in str(problem.value)


def test_an_energy_without_conditions_has_no_laplacian() -> None:
    program = ndl.load(MEMBRANE, grid="{Square: uniform(9, 9), Ring: fourier(8)}")
    with pytest.raises(Exception, match="an end without a condition"):
        ndl.solve(program.models["Free"](), method="whole()")
    with pytest.raises(Exception, match="minimizes an energy"):
        text = MEMBRANE.read_text(encoding="utf-8").replace("state u: R on Ring = 0", "state u = 0")
        text = text.replace("minimize integral(0.5*dx(u)^2 + 0.5*u^2 - cos(x)*u, x in Ring)", "0 = u - 1")
        ndl.solve(ndl.loads(text).models["Wave"](), method="whole()")
