"""Random words, uniforms and normals of kernels against those of the runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lanes import evaluate, straight
from ndl.compiler.kernels import math as kernel_math
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.runtime import philox as runtime

COUNT = 20_000
EDGES = (0, 1, 2, 0x7FF, 0x800, 0x1FFFFFFF, 0x20000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000)
EDGES += tuple(0xFFFFFFFF - e for e in EDGES)


def words(count: int, seed: int = 1) -> list[Any]:
    """`count` arrays of words, as unsigned numbers in int64; the edges come first, in every pairing."""
    first, second = (a.ravel() for a in np.meshgrid(EDGES, EDGES))
    random = np.random.default_rng(seed).integers(0, 1 << 32, (count, COUNT))
    for i in range(count):
        random[i, : len(first)] = (first, second)[i % 2]
    return list(random.astype(np.int64))


def signed(word: Any) -> Any:
    return word.astype(np.uint32).view(np.int32)


def test_philox_gives_the_integers_of_the_runtime() -> None:
    given = words(6)
    wanted = runtime.philox(
        tuple(torch.tensor(w) for w in given[:4]), tuple(torch.tensor(w) for w in given[4:])
    )

    def function(code: Code, *values: Value) -> Any:
        return kernel_math.philox(code, values[:4], values[4:])

    found = evaluate(straight("f64", function, ["i32"] * 6), "f64", *map(signed, given))
    for f, w in zip(found, wanted):
        np.testing.assert_array_equal(f.view(np.uint32), w.numpy())


def test_uniforms_in_double_are_the_runtime_s() -> None:
    high, low = words(2)
    block = straight("f64", kernel_math.uniform53, ["i32", "i32"])
    found = evaluate(block, "f64", signed(high), signed(low))[0]
    np.testing.assert_array_equal(found, runtime.uniform53(torch.tensor(high), torch.tensor(low)).numpy())


def test_uniforms_in_single_are_those_rounded() -> None:
    high, low = words(2)
    block = straight("f32", kernel_math.uniform53, ["i32", "i32"])
    found = evaluate(block, "f32", signed(high), signed(low))[0]
    wanted = runtime.uniform53(torch.tensor(high), torch.tensor(low)).numpy()
    assert np.max(np.abs(found - wanted) / np.spacing(wanted.astype(np.float32))) <= 1.01
    assert found.min() > 0


def normals(precision: str, given: list[Any]) -> list[Any]:
    block = straight(precision, lambda code, *values: kernel_math.normal_pair(code, values), ["i32"] * 4)
    return evaluate(block, precision, *map(signed, given))


@pytest.mark.parametrize("seed", [1, 2])
def test_normals_in_double_agree_with_the_runtime(seed: int) -> None:
    given = words(4, seed)
    wanted = runtime.normal_pair(tuple(torch.tensor(w) for w in given))
    for f, w in zip(normals("f64", given), wanted):
        assert np.max(np.abs(f - w.numpy()) / np.spacing(np.abs(w.numpy()))) <= 4


@pytest.mark.parametrize("seed", [1, 2])
def test_normals_in_single_agree_with_doubles_rounded(seed: int) -> None:
    """Apart from what the doubles lose: 1e-15 of the radius at the zeros of cosine and sine, and near u1 = 1,
    where u1 is a multiple of 2^-53, that of its logarithm."""
    given = words(4, seed)
    wanted = runtime.normal_pair(tuple(torch.tensor(w) for w in given))
    u1 = runtime.uniform53(torch.tensor(given[0]), torch.tensor(given[1])).numpy()
    radius = np.sqrt(-2 * np.log(u1))
    lost = 1e-15 * radius + 2.0**-53 / np.maximum(radius, 1e-8)
    for f, w in zip(normals("f32", given), wanted):
        exact = w.numpy()
        assert np.all(np.abs(f - exact) <= lost + 4 * np.spacing(np.abs(exact).astype(np.float32)))


def test_normals_have_the_moments() -> None:
    draws = np.concatenate(normals("f32", [w[len(EDGES) ** 2 :] for w in words(4)])).astype(np.float64)
    count = len(draws)
    assert abs(draws.mean()) < 4 / np.sqrt(count)
    assert abs(draws.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((draws**4).mean() - 3) < 4 * np.sqrt(96 / count)
