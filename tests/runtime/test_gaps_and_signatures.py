"""Paths through series with gaps against SciPy channel by channel; log-signatures against their iterated
integrals and the identities of Chen and of shuffles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ndl.runtime.errors import DataError
from ndl.runtime.gaps import held
from ndl.runtime.paths_in_time import hermite, linear, log_signature, rectilinear, spline
from ndl.runtime.signatures import log_signature as over
from ndl.runtime.signatures import lyndon_words
from scipy import interpolate
from torch import Tensor

NAN = float("nan")
TS = torch.tensor([0.0, 0.4, 1.0, 1.1, 2.0, 3.0, 3.5], dtype=torch.float64)
COLUMNS = [
    [1.0, NAN, 2.0, NAN, NAN, -1.0, 0.5],
    [NAN, NAN, 1.0, 3.0, NAN, 2.0, NAN],
    [NAN] * 7,
    [0.0, 1.0, 4.0, 2.0, 2.0, 1.0, 0.0],
]
XS = torch.tensor(COLUMNS, dtype=torch.float64).T
AT = torch.linspace(0.01, 3.49, 60, dtype=torch.float64)


def known(column: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a channel, with its first and last entry at the times beyond them."""
    x = np.array(column)
    there = np.flatnonzero(~np.isnan(x))
    if not len(there):
        return TS.numpy(), np.zeros(len(x))
    x[: there[0]], x[there[-1] + 1 :] = x[there[0]], x[there[-1]]
    there = np.flatnonzero(~np.isnan(x))
    return TS.numpy()[there], x[there]


def test_gaps_are_filled_channel_by_channel() -> None:
    straight = np.stack([np.interp(TS, *known(c)) for c in COLUMNS], -1)
    np.testing.assert_allclose(linear(TS, XS)(TS), straight, atol=1e-14)
    torch.testing.assert_close(hermite(TS, XS)(AT, 1), hermite(TS, straight)(AT, 1), rtol=1e-12, atol=1e-12)
    for k, column in enumerate(COLUMNS):
        theirs = interpolate.CubicSpline(*known(column), bc_type="natural")
        for order in range(3):
            np.testing.assert_allclose(spline(TS, XS)(AT, order)[:, k], theirs(AT, order), atol=1e-12)


def test_members_have_gaps_of_their_own() -> None:
    other = XS.roll(1, 1).clone()
    for make in (linear, hermite, spline):
        found = make(TS, torch.stack([XS, other]), family=True)(AT)
        torch.testing.assert_close(found[:, 0], make(TS, XS)(AT))
        torch.testing.assert_close(found[:, 1], make(TS, other)(AT))


def test_gradients_reach_what_is_there() -> None:
    there = ~torch.isnan(XS)

    def value(v: Tensor) -> Tensor:
        xs = XS.clone().masked_scatter(there, v)
        return (spline(TS, xs)(AT) ** 2).sum() + linear(TS, xs)(AT).sum() + hermite(TS, xs)(AT, 1).sum()

    assert torch.autograd.gradcheck(value, (XS[there].clone().requires_grad_(),))


def test_a_rectilinear_path_holds_and_jumps() -> None:
    xs = torch.stack([TS, XS[:, 0]], -1)
    stream = rectilinear(xs)
    values = held(xs[None])[0]
    for k in range(len(TS)):
        torch.testing.assert_close(stream(torch.tensor(2.0 * k)), values[k])
    for k in range(len(TS) - 1):  # the time has moved on, the others have not
        torch.testing.assert_close(stream(torch.tensor(2.0 * k + 1)), torch.stack([TS[k + 1], values[k, 1]]))
    with pytest.raises(DataError, match="channel"):
        rectilinear(xs, 2)


def test_lyndon_words_are_as_many_as_necklaces() -> None:
    """Witt's formula: 1/n sum over d | n of mu(d) v^(n/d)."""
    for v, n, count in [(3, 1, 3), (3, 2, 3), (3, 3, 8), (2, 4, 3), (4, 3, 20)]:
        assert sum(len(w) == n for w in lyndon_words(v, n)) == count


def test_areas_are_iterated_integrals() -> None:
    """Of t -> (cos t, sin t, t) over a turn; that of the first two is the disc's area, pi."""
    t = torch.linspace(0, 2 * torch.pi, 4001, dtype=torch.float64)
    X = torch.stack([torch.cos(t), torch.sin(t), t], -1)
    found = over(X, 2)
    middle, step = (X[1:] + X[:-1]) / 2 - X[0], X.diff(dim=0)
    areas = {
        (i, j): 0.5 * (middle[:, i] @ step[:, j] - middle[:, j] @ step[:, i])
        for i, j in [(0, 1), (0, 2), (1, 2)]
    }
    for word, value in zip(lyndon_words(3, 2), found):
        expected = areas[word] if len(word) == 2 else X[-1, word[0]] - X[0, word[0]]
        assert abs(float(value - expected)) < 1e-12, word
    assert abs(float(areas[0, 1]) - torch.pi) < 1e-4


def test_a_straight_path_has_no_higher_terms_and_a_return_undoes() -> None:
    torch.manual_seed(0)
    v = torch.randn(3, dtype=torch.float64)
    line = torch.arange(5.0, dtype=torch.float64)[:, None] * v
    found = over(line, 3)
    torch.testing.assert_close(found[:3], 4 * v)
    assert found[3:].abs().max() < 1e-13
    x = torch.randn(6, 3, dtype=torch.float64)
    assert over(torch.cat([x, x.flip(0)[1:]]), 4).abs().max() < 1e-12


def test_third_level_by_baker_campbell_hausdorff() -> None:
    """log(exp a exp b) = a + b + [a, b]/2 + [a, [a, b]]/12 + [b, [b, a]]/12 + …, letters a = 0, b = 1."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    found = dict(zip(lyndon_words(2, 3), over(corners, 3).tolist()))
    # the coefficient of the word 01 in [a, b] is 1; of 001 in [a, [a, b]] 1; of 011 in [b, [b, a]] 1
    expected = {(0,): 1, (1,): 1, (0, 1): 1 / 2, (0, 0, 1): 1 / 12, (0, 1, 1): 1 / 12}
    assert all(abs(found[w] - e) < 1e-15 for w, e in expected.items())


def test_windows_add_up() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 8, 2, dtype=torch.float64)
    ts = torch.arange(8.0, dtype=torch.float64)
    P = log_signature(ts, x, 2, 3, family=True)
    assert P.ts.tolist() == [0, 3, 6, 7]
    rate = P(torch.tensor(4.0, dtype=torch.float64), 1)
    torch.testing.assert_close(3 * rate, over(x[:, 3:7], 2))
