"""Paths against SciPy's interpolants and exact derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.errors import DataError
from ndl.runtime.paths_in_time import hermite, linear, path, spline
from scipy import interpolate
from torch import Tensor

TS = torch.tensor([0.0, 0.4, 1.0, 1.1, 2.0, 3.0], dtype=torch.float64)
XS = torch.stack([torch.sin(2 * TS), TS**2], -1)
AT = torch.linspace(-0.2, 3.2, 41, dtype=torch.float64)
INSIDE = AT[(AT > 0) & (AT < 3)]


def test_a_natural_spline_is_scipys() -> None:
    theirs = interpolate.CubicSpline(TS.numpy(), XS.numpy(), bc_type="natural")
    mine = spline(TS, XS)
    for order in range(4):
        np.testing.assert_allclose(mine(AT, order), theirs(AT.numpy(), order), rtol=1e-11, atol=1e-11)
    assert mine(AT.reshape(1, 41)).shape == (1, 41, 2) and mine(AT[0]).shape == (2,)
    assert spline(TS, XS[:, 0])(AT).shape == (41,) and spline(TS, XS[:, 0])(AT[0]).shape == ()
    assert torch.equal(mine.derivative(AT), mine(AT, 1))


def test_linear_and_hermite_are_scipys() -> None:
    mine = linear(TS, XS)
    np.testing.assert_allclose(mine(INSIDE)[:, 0], np.interp(INSIDE, TS, XS[:, 0]), rtol=1e-12)
    assert mine.breaks is not None and torch.equal(mine.breaks, TS[1:-1])
    h = torch.tensor(1e-6, dtype=torch.float64)
    slope = (mine(INSIDE + h) - mine(INSIDE - h)) / (2 * h)
    smooth = ((INSIDE[:, None] - TS).abs() > 1e-5).all(-1)
    np.testing.assert_allclose(mine(INSIDE, 1)[smooth], slope[smooth], rtol=1e-7)
    slopes = torch.stack([2 * torch.cos(2 * TS), 2 * TS], -1)
    theirs = interpolate.CubicHermiteSpline(TS.numpy(), XS.numpy(), slopes.numpy())
    for order in range(3):
        np.testing.assert_allclose(hermite(TS, XS, slopes)(AT, order), theirs(AT.numpy(), order), atol=1e-11)


@pytest.mark.parametrize("make", [linear, hermite, spline])
def test_arrays_that_change_later_leave_a_path_alone(make: Any) -> None:
    ts, xs = TS.numpy().copy(), XS.numpy().copy()
    X, wanted = make(ts, xs), make(TS, XS)(AT)
    ts += 1
    xs += 1
    assert torch.equal(X(AT), wanted) and torch.equal(X.breaks, TS[1:-1])


def test_backward_differences_do_not_look_ahead() -> None:
    """Up to the knot before a changed value, the control stays as it was."""
    other = XS.clone()
    other[4] += 1
    early = INSIDE[INSIDE < 1.1]
    assert torch.equal(hermite(TS, XS)(early, 1), hermite(TS, other)(early, 1))
    assert not torch.allclose(spline(TS, XS)(early, 1), spline(TS, other)(early, 1))


def test_a_family_has_one_path_for_each_member() -> None:
    many = torch.stack([XS, 2 * XS, XS**2])
    for make in (linear, hermite, spline):
        family = make(TS, many, family=True)
        each = torch.stack([make(TS, m)(AT) for m in many], 1)
        torch.testing.assert_close(family(AT), each, rtol=1e-13, atol=1e-13)
        at = torch.tensor([0.3, 1.7, 2.5], dtype=torch.float64)
        own = torch.stack([make(TS, m)(t) for m, t in zip(many, at)])
        torch.testing.assert_close(family(at), own, rtol=1e-13, atol=1e-13)
        rows = torch.tensor([2, 0])
        torch.testing.assert_close(family.select(rows)(AT), each[:, rows], rtol=1e-13, atol=1e-13)


def test_values_at_the_knots_have_gradients() -> None:
    def value(xs: Tensor) -> Tensor:
        return spline(TS, xs)(AT).square().sum() + hermite(TS, xs)(AT, 1).sum() + linear(TS, xs)(AT).sum()

    assert torch.autograd.gradcheck(value, (XS.clone().requires_grad_(),))
    t = AT.clone().requires_grad_()
    (by_t,) = torch.autograd.grad(spline(TS, XS)(t).sum(), t)
    torch.testing.assert_close(by_t, spline(TS, XS)(AT, 1).sum(-1))


def test_a_function_is_differentiated() -> None:
    p = path(lambda t: torch.stack([torch.sin(3 * t), t**2], -1))
    for t in (AT, AT[3], AT.reshape(41, 1)):
        torch.testing.assert_close(p(t, 1), torch.stack([3 * torch.cos(3 * t), 2 * t], -1))
        torch.testing.assert_close(p(t, 2), torch.stack([-9 * torch.sin(3 * t), 2 + 0 * t], -1))
    constant = path(lambda t: torch.tensor(2.0, dtype=torch.float64))
    assert constant(AT).shape == (41,) and constant(AT, 1).abs().max() == 0


@pytest.mark.parametrize(
    ("ts", "xs", "words"),
    [
        ([0, 1], [1, 2, 3], "2 times"),
        ([0, 0], [1, 2], "increase"),
        ([0], [1], "at least"),
        ([0, np.nan], [1, 2], "increase"),
    ],
)
def test_bad_knots_are_refused(ts: list[float], xs: list[float], words: str) -> None:
    for make in (linear, spline, hermite):
        with pytest.raises(DataError, match=words):
            make(ts, xs)


def test_a_time_within_rounding_of_a_knot_is_the_knot() -> None:
    """Where the next piece begins; a billionth before it the last one still counts."""
    X = linear(TS, XS)
    for k in (1, 3, 4):
        after = (XS[k + 1] - XS[k]) / (TS[k + 1] - TS[k])
        before = (XS[k] - XS[k - 1]) / (TS[k] - TS[k - 1])
        torch.testing.assert_close(X(TS[k] * (1 - 2e-16), 1), after)
        torch.testing.assert_close(X(TS[k].float(), 1), after)
        torch.testing.assert_close(X(TS[k] - 1e-9, 1), before)
