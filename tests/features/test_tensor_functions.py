"""`cov`, `interpolate` and their kin, against numpy, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from programs import check, load, refused

import ndl
from ndl.host.losses import covariance, interpolated

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
PLACES = np.array([-1.0, 0.2, 0.5, 2.0])
VALUES = RNG.normal(size=(4, 2))
ASKED = np.array([[-3.0, -1.0, 0.0], [0.2, 1.7, 9.0]])


def double(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, requires_grad=True)


def test_covariances_are_those_of_numpy() -> None:
    joint = np.cov(X, Y, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(None, torch.tensor(X)), joint[:3, :3], rtol=1e-13)
    np.testing.assert_allclose(covariance(None, torch.tensor(X), torch.tensor(Y)), joint[:3, 3:], rtol=1e-13)
    z = torch.tensor(X + 1j * X[::-1])
    np.testing.assert_allclose(covariance(None, z), np.cov(z, rowvar=False, bias=True), rtol=1e-13)
    there = torch.tensor([True, True, False, True, False, True, True])
    kept = np.cov(X[there.numpy()], rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(there, torch.tensor(X)), kept, rtol=1e-13)


def test_interpolation_is_that_of_numpy() -> None:
    found = interpolated(*(torch.tensor(v) for v in (PLACES, VALUES, ASKED)))
    assert found.shape == (2, 3, 2)
    for k in range(2):
        np.testing.assert_allclose(found[..., k], np.interp(ASKED, PLACES, VALUES[:, k]), rtol=1e-14)


def test_their_gradients() -> None:
    there = torch.tensor([True, True, False, True, False, True, True])
    assert torch.autograd.gradcheck(lambda x, y: covariance(None, x, y), (double(X), double(Y)))
    assert torch.autograd.gradcheck(lambda x: covariance(there, x), (double(X),))
    inside = np.array([-0.9, 0.3, 1.5, 5.0])
    assert torch.autograd.gradcheck(interpolated, (double(PLACES), double(VALUES), double(inside)))


IN_TESTS = """
model Noisy:
    state x = 0.0
    noise W: wiener
    dx = -x*dt + dW

model Ramp:
    param k = 0.7
    state x = 0.0
    x' = k

const L = [[1.0, -2.0], [0.3, 0.1], [2.0, 5.0]]

test "of numbers":
    assert abs(cov([1, 2, 3], [2, 4, 7]) - 5/3) < 1e-15 and abs(cov([1, 2, 4]) - var([1, 2, 4])) < 1e-15
    assert abs(cov(L)[0, 1] - cov([L[i, 0] for i], [L[i, 1] for i])) < 1e-15
    assert max(abs([cov(L[i]) - var(L[i]) for i])) < 1e-15
    assert interpolate([0, 1, 2], [1, 2, 4], 1.5) == 3 and interpolate([0, 1], [3, 5], 9) == 5
    assert max(abs([interpolate([0, 1], L[i], 0.5) - mean(L[i]) for i])) < 1e-15
    assert quantile([1, 2, 3], [0, 0.5])[1] == 2

test "of a run":
    s = solve(Noisy, span=0..1, method=euler_maruyama(h=0.25), save=every 0.25, ensemble=20)
    C = cov(s.x)
    assert abs(C[2, 4] - cov([s.x[m, 2] for m in 0..19], [s.x[m, 4] for m in 0..19])) < 1e-14
    assert abs(C[3, 3] - var(s.final.x*0 + [s.x[m, 3] for m in 0..19])) < 1e-14

test "gradients through a run":
    t = [0, 0.5, 1, 1.5, 2]
    g = grad(interpolate(t, solve(Ramp, span=0..2, method=rk4(h=0.5), save=every 0.5).x, 1.3), Ramp.params)
    v = grad(cov(solve(Ramp, span=0..2, method=rk4(h=0.5), save=every 0.5).x, t), Ramp.params)
    assert abs(g[0] - 1.3) < 1e-12 and abs(v[0] - var(t)) < 1e-12
"""


def test_they_stand_in_tests() -> None:
    check(IN_TESTS)


TRAINING = """
model Line:
    param k = 0.0, b = 1.0
    state x = 0.0
    x' = k
    y = b*x

train Line:
    data   = table("line.csv", time="t", y="y")
    method = rk4(h=0.25)
    at     = interpolate(data.t, data.y, 0.6)
    loss   = (cov(y, data.y) - 1)^2 + (cov(y) - 0.5)^2 + (interpolate(data.t, y, 0.6) - at)^2
    fit    = k
    optimizer = lbfgs()
    steps  = 20
"""


def test_they_are_losses(tmp_path) -> None:
    """A loss of one parameter with a closed form: y = k t, and data 2 t + t^2."""
    t = np.linspace(0, 1, 5)
    data = 2 * t + t**2
    (tmp_path / "line.csv").write_text(
        "t,y\n" + "\n".join(f"{a!r},{b!r}" for a, b in zip(t.tolist(), data.tolist()))
    )
    at = np.interp(0.6, t, data)

    def loss(k: float) -> float:
        c = np.cov(k * t, data, bias=True)
        return float((c[0, 1] - 1) ** 2 + (c[0, 0] - 0.5) ** 2 + (0.6 * k - at) ** 2)

    path = tmp_path / "line.ndl"
    path.write_text(TRAINING)
    trained = ndl.train(ndl.load(path), "Line", progress=False)
    k = float(trained.model.k.detach())
    assert trained.loss == pytest.approx(loss(k), rel=1e-10)
    assert all(loss(k) <= loss(k + d) + 1e-12 for d in (-1e-3, 1e-3))


REFUSED = [
    ("quantile([1, 2], [0, 1.5])", "NDL343", "shares from 0 to 1"),
    ("interpolate([0, 1, 1], [1, 2, 3], 0)", "NDL343", "increase"),
    ("interpolate(0.5, [0, 1], [1, 2])", "NDL301", "`interpolate`"),
    ("cross_entropy([0, 1], 2)", "NDL343", "from 0 to 1"),
    ("cross_entropy([0, 1], [0, 1])", "NDL301", "`cross_entropy`"),
    ("cov([1, 2, 3], [2, 4])", "NDL301", "`cov`"),
    ("smooth_l1([1, 2, 3], [2, 4])", "NDL301", "`smooth_l1`"),
    ("quantile([1, 2])", "NDL322", "2 arguments, 1 given"),
    ("median()", "NDL322", "1 argument, none given"),
]


@pytest.mark.parametrize(("call", "code", "words"), REFUSED, ids=[c[0] for c in REFUSED])
def test_what_they_cannot_take(call: str, code: str, words: str) -> None:
    told = refused(f'test "t":\n    x = {call}\n    assert max(x) > 0\n')
    assert told.code == code and words in told.message and told.span.text == call


def test_a_model_is_told_of_paths() -> None:
    program = load("model M:\n    state x = 0.0\n    x' = interpolate([0, 1], [1, 2], t)\n")
    with pytest.raises(NDLError) as caught:
        ndl.solve(program.models["M"], span=(0, 1))
    (told,) = caught.value.diagnostics
    assert told.code == "NDL490" and "`M(u=linear(ts, us))`" in str(told.help)
