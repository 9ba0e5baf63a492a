"""Solvers for linear equations written in the language, against NumPy, SciPy and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import ndl

PROGRAM = """
use std.solvers.linear: conjugate_gradients, minimal_residual, cgls, bicg

model Symmetric:
    param A: R[4, 4] = [[4, 1, 0, 0], [1, 3, 1, 0], [0, 1, 2, 0.5], [0, 0, 0.5, 5]]
    param c: R[4] = [1, 2, 3, 4]
    state x: R[4] = 0
    0 = A @ x - c

model Turned:
    param A: R[3, 3] = [[4, -1, 0], [3, 3, 1], [0, -2, 2]]
    state x: R[3] = [1, 1, 1]
    0 = A @ x - [1, 2, 3]

model Square:
    state x = 1
    0 = x^2 - 2
"""
FIELDS = """
use std.solvers.linear: conjugate_gradients, minimal_residual, cgls, bicg
domain Box = interval(x in 0..1, y in 0..1)

model Poisson:
    param k = 1.3
    state u: R on Box = 0
    0 = -k*lap(u) - exp(x)*y
    on left(Box): u = y
    on right(Box): u = 0
    on bottom(Box): u = 0
    on top(Box): u = x*(1 - x)

model Carried:
    state u: R on Box = 0
    0 = -lap(u) + 5*dx(u) - x
    on boundary(Box): u = 0
"""
SHIFTED = """
solver shifted for linear:
    state r = (A.T @ A - 3*A + 2*identity) @ x
    step(A, b, x):
        M = A @ A.T + 0.5*identity
        r = M.T @ x - A.T @ (A @ b)
        return r
    until norm(x) >= 0

model Turned:
    param A: R[3, 3] = [[4, -1, 0], [3, 3, 1], [0, -2, 2]]
    state x: R[3] = [1, 1, 1]
    0 = A @ x - [1, 2, 3]
"""


@pytest.fixture(scope="module")
def models() -> Any:
    return ndl.loads(PROGRAM).models


@pytest.fixture(scope="module")
def fields() -> Any:
    return ndl.loads(FIELDS, grid="uniform(17, 17)").models


def test_as_many_steps_as_eigenvalues(models: Any) -> None:
    model = models["Symmetric"]()
    s = ndl.solve(model, method="conjugate_gradients()")
    A, c = model.A.detach().numpy(), model.c.detach().numpy()
    np.testing.assert_allclose(s.final.x.detach().numpy(), np.linalg.solve(A, c), rtol=1e-12)
    assert s.stats.steps == 4


def test_what_is_not_symmetric(models: Any) -> None:
    model = models["Turned"]()
    s = ndl.solve(model, method="minimal_residual()")
    wanted = np.linalg.solve(model.A.detach().numpy(), [1.0, 2, 3])
    np.testing.assert_allclose(s.final.x.detach().numpy(), wanted, rtol=1e-9)
    assert s.stats.steps == 3


def test_a_solution_stays(models: Any) -> None:
    model = models["Symmetric"]()
    x = torch.linalg.solve(model.A, model.c).detach()
    for method in ("conjugate_gradients()", "minimal_residual()"):
        s = ndl.solve(models["Symmetric"](x=x), method=method)
        torch.testing.assert_close(s.final.x.detach(), x, rtol=1e-12, atol=1e-12)


def test_the_steps_are_those_of_scipy(fields: Any) -> None:
    """On the matrix of the differences inside, started at 0: as many steps to the same residual."""
    model = fields["Poisson"]()
    s = ndl.solve(model, method="conjugate_gradients(tol=1e-8)")
    d = ndl.solve(model, method="direct()")
    torch.testing.assert_close(s.final.u.detach(), d.final.u.detach(), rtol=0, atol=1e-7)
    n, h = 17, 1 / 16
    x0 = model.initial_state().detach()
    J = torch.func.jacfwd(lambda x: model.vector_field(torch.tensor(0.0), x))(x0).detach().numpy()
    b = J @ x0.numpy() - model.vector_field(torch.tensor(0.0), x0).detach().numpy()
    count: list[Any] = []
    rtol = 1e-8
    inside = np.array([0 < i < n - 1 and 0 < j < n - 1 for i in range(n) for j in range(n)])
    rest = (b - J @ x0.numpy())[inside]
    found, info = scipy.sparse.linalg.cg(
        J[np.ix_(inside, inside)], rest, rtol=0, atol=rtol * np.linalg.norm(b), callback=count.append
    )
    assert info == 0
    assert abs(len(count) - s.stats.steps) <= 1
    np.testing.assert_allclose(s.final.u.detach().numpy().ravel()[inside], found, atol=1e-7)
    assert J[n + 1, n + 1] == pytest.approx(4 * 1.3 / h**2)


def test_fields_that_are_carried(fields: Any) -> None:
    found, wanted = (
        ndl.solve(fields["Carried"](), method=m).final.u for m in ("minimal_residual()", "direct()")
    )
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["cgls", "bicg"])
def test_methods_with_the_transpose(models: Any, name: str) -> None:
    model = models["Turned"]()
    s = ndl.solve(model, method=f"{name}()")
    A, b = model.A.detach().numpy(), np.array([1.0, 2, 3])
    np.testing.assert_allclose(s.final.x.detach().numpy(), np.linalg.solve(A, b), rtol=1e-9)
    if name == "bicg":
        count: list[Any] = []
        _, info = scipy.sparse.linalg.bicg(A, b, x0=np.ones(3), rtol=1e-10, callback=count.append)
        assert info == 0 and s.stats.steps == len(count)
    small = ndl.loads(FIELDS, grid="uniform(7, 6)").models["Carried"]()
    wanted = ndl.solve(small, method="direct()").final.u
    found = ndl.solve(small, method=f"{name}()").final.u
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=0, atol=1e-8)


def test_sums_and_products_of_the_map_in_a_step() -> None:
    model = ndl.loads(SHIFTED).models["Turned"]()
    s = ndl.solve(model, method="shifted()")
    A, b = model.A.detach(), torch.tensor([1.0, 2, 3], dtype=torch.float64)
    x = torch.ones(3, dtype=torch.float64)
    wanted = (A @ A.T + 0.5 * torch.eye(3)) @ x - A.T @ (A @ b)
    torch.testing.assert_close(s.final.x.detach(), wanted)


def test_gradients_are_those_of_differences(models: Any, fields: Any) -> None:
    def size(k: Any) -> torch.Tensor:
        s = ndl.solve(
            fields["Poisson"]().bind(k=k), method="conjugate_gradients(tol=1e-12)", gradient="discrete"
        )
        found = (s.final.u**2).sum()
        assert isinstance(found, torch.Tensor)
        return found

    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(size(k), [k])
    with torch.no_grad():
        up, down = (size(torch.tensor(1.3 + e, dtype=torch.float64)) for e in (1e-5, -1e-5))
        wanted = (up - down) / 2e-5
    assert float(slope) == pytest.approx(float(wanted), rel=1e-6)
    model = models["Symmetric"]()
    s = ndl.solve(model, method="conjugate_gradients(tol=1e-13)", gradient="discrete")
    (found,) = torch.autograd.grad(s.final.x.sum(), [model.A])
    inverse = torch.linalg.inv(model.A.detach())
    torch.testing.assert_close(
        found, -torch.outer(inverse.sum(0), inverse @ model.c.detach()), rtol=1e-9, atol=1e-12
    )


def test_equations_that_are_not_linear_are_refused(models: Any) -> None:
    with pytest.raises(Exception, match="solves linear equations, and those of `Square` are not"):
        ndl.solve(models["Square"](), method="conjugate_gradients()")
