"""The four interpolants of a controlled equation against torchcde's, values and slopes, gaps included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.paths_in_time import hermite, linear, rectilinear, spline
from torch import Tensor

torchcde = pytest.importorskip("torchcde")

TS = torch.tensor([0.0, 0.4, 1.0, 1.1, 2.0, 3.0, 3.5], dtype=torch.float64)
AT = torch.linspace(0.01, 3.49, 60, dtype=torch.float64)


def series(gaps: bool) -> Tensor:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 7, 3))
    if gaps:
        x[rng.uniform(size=x.shape) < 0.4] = np.nan
        x[0, 0], x[1, -1], x[2, 1:6, 1] = np.nan, np.nan, np.nan
    return torch.from_numpy(x)


def same(path: Any, theirs: Any, at: Tensor) -> None:
    for t in at:
        torch.testing.assert_close(path(t), theirs.evaluate(t), rtol=0, atol=1e-12)
        torch.testing.assert_close(path(t, 1), theirs.derivative(t), rtol=0, atol=1e-11)


@pytest.mark.parametrize("gaps", [False, True])
def test_straight_lines(gaps: bool) -> None:
    x = series(gaps)
    coefficients = torchcde.linear_interpolation_coeffs(x, TS)
    same(linear(TS, x, family=True), torchcde.LinearInterpolation(coefficients, TS), AT)


@pytest.mark.parametrize("gaps", [False, True])
def test_cubics_with_backward_differences(gaps: bool) -> None:
    x = series(gaps)
    coefficients = torchcde.hermite_cubic_coefficients_with_backward_differences(x, TS)
    same(hermite(TS, x, family=True), torchcde.CubicSpline(coefficients, TS), AT)


@pytest.mark.parametrize("gaps", [False, True])
def test_natural_splines(gaps: bool) -> None:
    x = series(gaps)
    coefficients = torchcde.natural_cubic_coeffs(x, TS)
    same(spline(TS, x, family=True), torchcde.CubicSpline(coefficients, TS), AT)


@pytest.mark.parametrize("gaps", [False, True])
def test_rectilinear_paths(gaps: bool) -> None:
    """The time is known at each row, and where others are missing they are held."""
    x = torch.cat([TS[:, None], series(gaps)[3]], -1)
    if gaps:
        x[0] = torch.nan_to_num(x[0])  # a stream begins with a value
    coefficients = torchcde.linear_interpolation_coeffs(x[None], rectilinear=0)
    theirs = torchcde.LinearInterpolation(coefficients[0])
    same(rectilinear(x), theirs, torch.linspace(0.05, 11.9, 50, dtype=torch.float64))
