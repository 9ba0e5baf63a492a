"""Strong orders against exact solutions on the very path; one path under every method and step."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Floats, final, model, numbers, slope, solve
from ndl.runtime.sde import path_of

TEXT = """
model Geometric:
    param mu = 0.5, s = 1.0
    state x = 1.0
    noise W: wiener
    dx = mu*x*dt + s*x*dW

model GeometricStratonovich:
    calculus stratonovich
    param mu = 0.5, s = 1.0
    state x = 1.0
    noise W: wiener
    dx = (mu - s^2/2)*x*dt + s*x*dW

model Bounded:
    state x = 0.3
    const b = 0.5
    noise W: wiener
    dx = -b^2*x*(1 - x^2)*dt + b*(1 - x^2)*dW

model Pair:
    state x: R[2] = [0.3, -0.2]
    const b = [0.5, 0.7]
    noise W: wiener[2]
    dx = -b^2*x*(1 - x^2)*dt + b*(1 - x^2)*dW

model Additive:
    state x = 0.0
    noise W: wiener
    dx = (1 - exp(x))*dt + dW

model Rotating:
    state x: R[2] = [1, 0]
    noise W: wiener[2]
    const A = [[0, -1], [1, 0]]
    const B = [[0.5, 0.2], [0.1, -0.4]]
    dx = -0.5*x*dt + (A @ x)*dW[0] + (B @ x)*dW[1]
"""
COUNTS = (16, 32, 64, 128)
Many = tuple[int, ...]


def runs(
    name: str, method: str, counts: tuple[int, ...] = COUNTS, members: int = 300, **values: float
) -> list:
    instance = model(name, TEXT)
    return [
        solve(instance, f"{method}(steps={n})", "0..1", save="end", ensemble=members, seed=5) for n in counts
    ]


def rms(error: Floats) -> float:
    return float(np.sqrt(np.mean(error**2)))


def geometric(s: object) -> Floats:
    return np.exp(final(s, "W")[:, 0])  # mu = s^2/2


def bounded(s: object) -> Floats:
    return np.tanh(0.5 * final(s, "W")[:, 0] + np.arctanh(0.3))


@pytest.mark.parametrize(
    ("method", "order"),
    [("euler_maruyama", 0.5), ("milstein", 1.0), ("sri", 1.5), ("heun", 1.0), ("euler_heun", 1.0),
     ("reversible_heun", 1.0), ("sosri", 1.5), ("sosri2", 1.5)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("name", "exact"),
    [("Geometric", geometric), ("GeometricStratonovich", geometric), ("Bounded", bounded)],
    ids=["geometric", "stratonovich", "bounded"],
)
def test_multiplicative_noise(name: str, exact: object, method: str, order: float) -> None:
    """Scalar noise commutes: methods of order 0.5 for any noise have order 1 here, but not Euler's."""
    found = runs(name, method)
    errors = [rms(final(s, "x")[:, 0] - exact(s)) for s in found]
    assert -slope(COUNTS, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("method", "order"),
    [("euler_maruyama", 0.5), ("milstein", 1.0), ("sri", 1.5), ("sosri", 1.5), ("sosri2", 1.5)],
)
def test_diagonal_noise(method: str, order: float) -> None:
    found = runs("Pair", method)
    errors = []
    for s in found:
        W = numbers(s.final.W)
        exact = np.tanh(W * [0.5, 0.7] + np.arctanh([0.3, -0.2]))
        errors.append(rms(numbers(s.final.x) - exact))
    assert -slope(COUNTS, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("method", "order"),
    [("euler_maruyama", 1.0), ("heun", 1.0), ("euler_heun", 1.0), ("reversible_heun", 1.0), ("sra1", 1.5),
     ("sri", 1.5)],
)  # fmt: skip
def test_additive_noise(method: str, order: float) -> None:
    """u = exp(x) solves a logistic equation: u = E/(1 + integral of E), E = exp(t + W). The integral is taken
    from the path's own integrals over fine cells, to order 1.5 in cells of 2^-12. Terms of order 2
    are seen at longer steps, and rare members weigh much: hence short steps and many members."""
    counts = (32, 64, 128, 256)
    found = runs("Additive", method, counts, members=2000)
    grid = np.linspace(0, 1, 2**12 + 1)
    dW, dZ = (numbers(v)[:, :, 0] for v in path_of(found[0].problem).increments(grid))
    W = np.concatenate([np.zeros((1, dW.shape[1])), np.cumsum(dW, 0)])
    E, h = np.exp(grid[:, None] + W), grid[1]
    integral = np.sum(E[:-1] * (h + 0.75 * h**2 + dZ), 0)
    exact = np.log(E[-1] / (1 + integral))
    errors = [rms(final(s, "x")[:, 0] - exact) for s in found]
    assert -slope(counts, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("method", ["euler_maruyama", "euler_heun", "heun", "reversible_heun"])
def test_general_noise(method: str) -> None:
    """Noise that does not commute: order 0.5, against a run with steps 32 times finer."""
    counts = (8, 16, 32, 64, 1024)
    *coarse, fine = (numbers(s.final.x) for s in runs("Rotating", method, counts))
    assert -slope(counts[:-1], [rms(c - fine) for c in coarse]) == pytest.approx(0.5, abs=0.2)


def test_the_calculi_are_two_readings_of_one_process() -> None:
    """The correction of the drift makes Itô's and Stratonovich's methods agree."""
    ito = final(runs("Bounded", "sri", (128,))[0], "x")
    stratonovich = final(runs("Bounded", "heun", (512,))[0], "x")
    assert rms(ito - stratonovich) < 2e-3


def test_one_path_for_methods_steps_and_members() -> None:
    few = final(runs("Geometric", "milstein", (8,), members=4)[0], "W")
    for method, count, members in (("euler_maruyama", 100, 7), ("sri", 13, 4), ("heun", 64, 5)):
        assert np.array_equal(final(runs("Geometric", method, (count,), members=members)[0], "W")[:4], few)


@pytest.mark.parametrize(("method", "name"), [("sri", "Bounded"), ("sra1", "Additive")])
def test_rejected_steps_see_the_same_path(method: str, name: str) -> None:
    """Adaptive steps are refined in places; W at common times is what fixed steps have seen: to the last bit
    by torch, to a few units in the last place by a kernel, which adds up in another order."""
    adaptive, constant = f"{method}(rtol=1e-3, atol=1e-3)", f"{method}(h=1/512)"
    s, fixed, *by_kernel = (
        solve(
            model(name, TEXT), steps, "0..4", save="every 0.25", ensemble=20, seed=3, backend=backend
        )
        for backend in ("torch", "cpu")
        for steps in (adaptive, constant)
    )  # fmt: skip
    assert int(s.stats.rejected.sum()) > 0
    assert len({int(k) for k in s.stats.steps}) > 1
    assert np.array_equal(numbers(s.W), numbers(fixed.W))
    for found in by_kernel:
        np.testing.assert_allclose(numbers(found.W), numbers(fixed.W), rtol=0, atol=1e-14)
    assert rms(numbers(s.x)[:, -1] - numbers(fixed.x)[:, -1]) < 2e-2


def test_tighter_tolerances_are_nearer_to_the_solution() -> None:
    errors = []
    for tol in (1e-2, 1e-4):
        s = solve(model("Bounded", TEXT), f"sri(rtol={tol}, atol={tol})", save="end", ensemble=50, seed=2)
        errors.append(rms(final(s, "x")[:, 0] - bounded(s)))
    assert errors[1] < 0.1 * errors[0] and errors[1] < 1e-3
