"""POD and DEIM against plain NumPy: the same points, the same reduced equation, the same errors.

The greedy points are those of Chaturantabut and Sorensen (2010), algorithm 1, as pymor has them too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ndl.runtime.bases import deim

import ndl

Array = npt.NDArray[np.float64]
N = 64


def greedy(u: Array) -> list[int]:
    """The interpolation points of a basis u [n, m]."""
    points = [int(np.abs(u[:, 0]).argmax())]
    for k in range(1, u.shape[1]):
        c = np.linalg.solve(u[points][:, :k], u[points, k])
        points.append(int(np.abs(u[:, k] - u[:, :k] @ c).argmax()))
    return points


@pytest.mark.parametrize("seed", range(5))
def test_points_are_those_of_the_greedy_algorithm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u = np.linalg.svd(rng.normal(size=(80, 20)) * 0.5 ** np.arange(20), full_matrices=False)[0][:, :12]
    assert deim(torch.from_numpy(u)).tolist() == greedy(u)


PROGRAM = """
model Ring:
    input a: R
    input c: R
    param A: R[64, 64] = 0
    const q = linspace(0, 63, 64)/64
    b = 0.3*sin(2*pi*q)
    state x: R[64] = a*exp(-((q - c)/0.15)^2)
    x' = tanh(A @ x + b) + 0.2*cos(2*pi*q)

const A: R[64, 64] ~ normal(0, 0.12)
const a: R[12] ~ uniform(0.5, 1.5), c: R[12] ~ uniform(0.3, 0.7)

solve Ring(A=A, a=a, c=c) as full:
    span     = 0..1
    method   = rk4(h=0.05)
    ensemble = 12

model Fast = reduce(Ring(A=A), pod(rank=10), deim(points=14), snapshots=full, every=2)

solve Fast(a=a, c=c) as reduced:
    span     = 0..1
    method   = rk4(h=0.05)
    ensemble = 12
"""


def rk4(rate: Any, x: Array) -> list[Array]:
    """Twenty steps of 1/20, x [runs, n]."""
    found, h = [x], 0.05
    for _ in range(20):
        k1 = rate(x)
        k2 = rate(x + h / 2 * k1)
        k3 = rate(x + h / 2 * k2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(x + h * k3))
        found.append(x)
    return found


def test_the_reduced_equation_is_that_of_plain_linear_algebra() -> None:
    """z' = N f(A_m z + b_m) + V^T g with N = V^T U (P^T U)^-1, made of two singular value decompositions."""
    program = ndl.loads(PROGRAM)
    scope = program.checked.module.scope
    A, a, c = (program.host.ev.file_value(scope.find(n)).ref.numpy() for n in ("A", "a", "c"))
    q = np.arange(N) / N
    b, g = 0.3 * np.sin(2 * np.pi * q), 0.2 * np.cos(2 * np.pi * q)
    start = a[:, None] * np.exp(-(((q - c[:, None]) / 0.15) ** 2))
    path = rk4(lambda x: np.tanh(x @ A.T + b) + g, start)
    kept = np.concatenate(path[::2])
    V = np.linalg.svd(kept.T, full_matrices=False)[0][:, :10]
    U = np.linalg.svd(np.tanh(kept @ A.T + b).T, full_matrices=False)[0][:, :14]
    p = greedy(U)
    lift = V.T @ U @ np.linalg.inv(U[p])
    reduced = rk4(lambda z: np.tanh(z @ (A @ V)[p].T + b[p]) @ lift.T + g @ V, start @ V)
    (run,) = program.run("reduced")
    ours = run.final["x"].detach().numpy()
    theirs = reduced[-1] @ V.T
    assert np.abs(ours - theirs).max() < 1e-9
    assert 1e-6 < np.abs(theirs - path[-1]).max() < 0.1  # it is an approximation, and a fair one
