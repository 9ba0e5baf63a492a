"""Elimination in registers: solutions, those of the transposed system, and derivatives."""

from __future__ import annotations

import lanes
import numpy as np
import pytest
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Unsupported, Value
from ndl.compiler.kernels.linear import LARGEST, factorised, solved
from ndl.compiler.kernels.reverse import pullback

MASKS = {
    "dense": np.ones((4, 4), dtype=bool),
    "hollow": ~np.eye(4, dtype=bool),
    "chain": np.abs(np.subtract.outer(np.arange(4), np.arange(4))) <= 1,
    "arrow": np.eye(4, dtype=bool) | (np.arange(4) == 3) | (np.arange(4)[:, None] == 3),
}


def matrix(code: Code, mask: np.ndarray, values: tuple[Value, ...]) -> list[list[Value]]:
    rest = iter(values)
    return [[next(rest) if m else code.const(0.0) for m in row] for row in mask]


def numbers(mask: np.ndarray, lanes_: int = 50) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    A = np.where(mask[None], generator.normal(size=(lanes_, *mask.shape)), 0.0)
    return A, generator.normal(size=(lanes_, len(mask)))


@pytest.mark.parametrize("name", list(MASKS))
def test_solutions(name: str) -> None:
    mask = MASKS[name]
    n, entries = len(mask), int(mask.sum())

    def write(code: Code, *values: Value) -> list[Value]:
        lu = factorised(code, matrix(code, mask, values[:entries]))
        return [*lu.solve(values[entries:]), *lu.transposed(values[entries:])]

    A, b = numbers(mask)
    block = lanes.straight("f64", write, ["real"] * (entries + n))
    found = np.stack(lanes.evaluate(block, "f64", *A[:, mask].T, *b.T), axis=-1)
    np.testing.assert_allclose(found[:, :n], np.linalg.solve(A, b[..., None])[..., 0], rtol=1e-9)
    T = np.swapaxes(A, 1, 2)
    np.testing.assert_allclose(found[:, n:], np.linalg.solve(T, b[..., None])[..., 0], rtol=1e-9)


def test_known_zeros_cost_nothing() -> None:
    """A triangular matrix is solved by substitution, without an exchange."""

    def write(code: Code, *values: Value) -> list[Value]:
        lu = factorised(code, matrix(code, np.triu(np.ones((4, 4), dtype=bool)), values[:10]))
        return lu.solve(values[10:])

    block = lanes.straight("f64", write, ["real"] * 14)
    assert not any(i.op == "select" for i in block.body)
    assert sum(i.op == "div" for i in block.body) == 4


def test_the_derivative_of_a_solution_is_that_of_the_equation() -> None:
    mask = MASKS["chain"]
    n, entries = len(mask), int(mask.sum())

    def write(code: Code, *values: Value) -> list[Value]:
        A = matrix(code, mask, values[:entries])
        u = solved(code, factorised(code, A), A, values[entries : entries + n])
        seeds = dict(zip(u, values[entries + n :]))
        return pullback(code, code.visible(), seeds, values[: entries + n])

    A, b = numbers(mask)
    g = np.random.default_rng(1).normal(size=b.shape)
    block = lanes.straight("f64", write, ["real"] * (entries + 2 * n))
    found = np.stack(lanes.evaluate(block, "f64", *A[:, mask].T, *b.T, *g.T), axis=-1)
    u = np.linalg.solve(A, b[..., None])[..., 0]
    w = np.linalg.solve(np.swapaxes(A, 1, 2), g[..., None])[..., 0]
    np.testing.assert_allclose(found[:, entries:], w, rtol=1e-8)
    np.testing.assert_allclose(found[:, :entries], (-w[:, :, None] * u[:, None, :])[:, mask], rtol=1e-8)


def test_large_systems_are_refused() -> None:
    code = Code("f64")
    with code.block(["real"]) as block, pytest.raises(Unsupported, match="unknowns"):
        factorised(code, [[block.params[0]] * (LARGEST + 1)] * (LARGEST + 1))
