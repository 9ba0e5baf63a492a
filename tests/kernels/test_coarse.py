"""Logarithms and powers to three digits: their errors, and the same numbers on the host and in kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lanes import evaluate, straight
from ndl.compiler.kernels.math.coarse import coarse_power, log2_of
from ndl.compiler.kernels.math.coarse import exp2_coarse as exp2_kernel
from ndl.compiler.kernels.math.coarse import log2_coarse as log2_kernel
from ndl.compiler.kernels.ops import REAL, TABLE
from ndl.runtime.stepping.coarse import coarse_power as power_on_host
from ndl.runtime.stepping.coarse import exp2_coarse, log2_coarse

SIZES = np.concatenate([np.geomspace(1e-20, 1e20, 4001), 2.0 ** np.arange(-60, 60), [np.nextafter(2, 1)]])
POWERS = np.concatenate([np.linspace(-40, 40, 4001), np.arange(-40, 40) + 0.5])


def test_errors_are_those_of_the_cubics() -> None:
    assert abs(log2_coarse(SIZES) - np.log2(SIZES)).max() < 9e-4
    assert abs(exp2_coarse(POWERS) / np.exp2(POWERS) - 1).max() < 8e-5


def test_nothing_jumps_where_the_exponent_changes() -> None:
    for at in (0.25, 1.0, 8.0):
        below, above = np.nextafter(at, 0), np.array(at)
        assert abs(log2_coarse(above) - log2_coarse(below)) < 1e-14
    for at in (-2.5, 0.5, 1.5):
        assert abs(exp2_coarse(np.nextafter(at, 9)) / exp2_coarse(np.nextafter(at, -9)) - 1) < 1e-14


@pytest.mark.parametrize(("precision", "near"), [("f64", 1e-14), ("f32", 4e-6)])
def test_kernels_have_the_same_numbers(precision: str, near: float) -> None:
    for of_kernel, of_host, points in ((log2_kernel, log2_coarse, SIZES), (exp2_kernel, exp2_coarse, POWERS)):
        x = points.astype(REAL[precision])
        found = evaluate(straight(precision, of_kernel, ["real"]), precision, x)[0]
        want = of_host(x.astype(np.float64))
        assert np.allclose(found, want, rtol=near, atol=near)


def test_a_number_that_is_known() -> None:
    for number in (1e-8, 1.0, 3.7, 2.0**40):
        assert log2_of(number) == pytest.approx(log2_coarse(np.array([number]))[0], abs=1e-14)


@pytest.mark.parametrize(("precision", "near"), [("f64", 1e-13), ("f32", 2e-5)])
@pytest.mark.parametrize("exponent", [-0.5 / 11, -0.2, 1 / 3, 1.7])
def test_powers_are_the_same_on_the_host_and_in_kernels(precision: str, near: float, exponent: float) -> None:
    x = np.geomspace(1e-16, 1e16, 999).astype(REAL[precision])
    with np.errstate(all="ignore"):
        ends = np.array([0, -1, np.inf, np.nan], x.dtype)
    block = straight(precision, coarse_power, ["real", "real"])
    for points in (x, ends):
        found = evaluate(block, precision, points, np.full(points.shape, exponent, x.dtype))[0]
        host = power_on_host(torch.from_numpy(points), exponent).numpy()
        one_by_one = [TABLE["coarse_power"].compute(v, x.dtype.type(exponent)) for v in points]
        np.testing.assert_allclose(found, host, rtol=near)
        np.testing.assert_allclose(np.array(one_by_one), host, rtol=near)
        if points is x:
            exact = np.power(x.astype(np.float64), exponent)
            assert abs(found / exact - 1).max() < 9e-5 + 7e-4 * abs(exponent)
        else:
            assert (found[0] > 1e30 if exponent < 0 else found[0] < 1e-30) and np.isnan(found[1:]).all()
