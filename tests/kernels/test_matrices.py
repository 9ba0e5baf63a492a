"""Functions of small matrices in the rates: kernels against torch, and determinants against NumPy."""

from __future__ import annotations

import lanes
import numpy as np
import pytest
import torch
from ndl.compiler.ir.graph import Graph
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.matrices import LARGEST_DETERMINANT, MATRICES
from ndl.compiler.kernels.scalars import Scalars
from ndl.compiler.types import Tensor
from test_tensors import agree, points

import ndl

MODEL = """
model Body:
    net f: R[{n}] -> R[{n}, {n}] = MLP(width=20, depth=1, act=tanh)
    state x: R[{n}] = 0.5
    A = f(x)
    M = {n}*eye({n}) + A
    S = A @ A.T + eye({n})
    x' = {rate}
"""


@pytest.mark.parametrize(
    "rate",
    [
        "inv(M) @ x - x", "inv(M) @ A[0]", "[trace(inv(M) @ A)*x[i] for i]",
        "x*det(M)/9 - x", "x*logdet(S) - x", "cholesky(S) @ x - 2*x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("n", [2, 3])
def test_values_and_gradients_against_torch(rate: str, n: int) -> None:
    program = ndl.loads(MODEL.format(n=n, rate=rate))
    for method in ("rk4(steps=3)", "tsit5(rtol=1e-6)"):
        agree(program.Body(seed=3), points(17, n), method)


def determinant(code: Code, entries: np.ndarray) -> Value:
    node = Graph().add("det", [], type=Tensor("R"))
    return MATRICES["det"](Scalars(code, lambda name, shape: None), node, [entries]).item()


@pytest.mark.parametrize("n", [1, 2, 5, LARGEST_DETERMINANT])
def test_determinants(n: int) -> None:
    A = np.random.default_rng(n).normal(size=(40, n, n))
    A[7, :, 0] = 0.0
    if n > 1:
        A[8, 1] = 3 * A[8, 0]  # singular: elimination would divide by 0

    def write(code: Code, *values: Value) -> list[Value]:
        entries = np.array([*values, None], dtype=object)[:-1].reshape(n, n)
        return [determinant(code, entries)]

    block = lanes.straight("f64", write, ["real"] * n**2)
    (found,) = lanes.evaluate(block, "f64", *A.reshape(40, -1).T)
    np.testing.assert_allclose(found, np.linalg.det(A), rtol=1e-11, atol=1e-13)


def test_what_is_too_large() -> None:
    code = Code("f64")
    n = LARGEST_DETERMINANT + 1
    with code.block(["real"] * n**2) as block:
        entries = np.array(block.params, dtype=object).reshape(n, n)
        with pytest.raises(Unsupported, match="determinants have 9 rows, more than 8"):
            determinant(code, entries)


def test_mechanics_of_the_library() -> None:
    """A mass matrix that a net gives is divided by in registers."""
    program = ndl.loads(
        "use std.models.neural_ode: LagrangianODE\nmodel Mine = LagrangianODE(d=2, width=20)\n"
    )
    model = program.Mine(seed=1).bind(v0=0.3 * points(21, 2))
    agree(model, points(21, 2), "rk4(steps=2)", "q0")


def test_not_positive_definite_is_a_failure_of_the_member() -> None:
    program = ndl.loads("""
model Root:
    param a = 1.0
    state x: R[2] = 0.5
    x' = cholesky([[a - t, 0.5], [0.5, 1.0]]) @ x
""")
    members = program.Root().bind(a=torch.tensor([9.0, 1.2], dtype=torch.float64))
    with pytest.raises(ndl.RunFailed) as found:
        ndl.solve(members, span=(0, 2), method="rk4(h=0.1)", backend="cpu", save="end")
    (failed,) = found.value.failed
    assert failed.member == 1 and 0.8 < failed.time < 1.0
