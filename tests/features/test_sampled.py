"""`when sample(X)`: events at the times of an input's data, for each member its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ndl.runtime.paths_in_time import linear
from programs import check, load, refused

import ndl

MODEL = """
model Count:
    input X: R[2] on time
    param rate = 0.5
    state n = 0.0
    state h: R[2] = 0
    h' = -rate*h
    when sample(X):
        n <- n + 1
        h <- h + X
    now = X
"""

TESTS = """
const ts = [0, 1, 2, 3]
const xs = [[1, 2], [3, nan], [nan, nan], [4, 1]]

test "an event at each time where something is known":
    s = solve(Count(X=linear(ts, xs)), span=0..3, method=tsit5(rtol=1e-11, atol=1e-12))
    assert s.events.t == [0, 1, 3]
    assert s.final.n == 3
    assert abs(s.final.h[0] - (exp(-1.5) + 3*exp(-1) + 4)) < 1e-9

test "backwards the data come in the other order":
    s = solve(Count(X=linear(ts, xs)), span=3..0, method=rk4(h=0.01))
    assert s.events.t == [3, 1, 0]
    assert abs(s.final.h[0] - (4*exp(1.5) + 3*exp(0.5) + 1)) < 1e-7

test "between its data an input keeps its last value":
    X = linear([0, 1, 3], [[1, 2], [3, 0], [4, 1]])
    s = solve(Count(X=X), span=0..3, method=rk4(h=0.5), save=[0, 0.5, 1, 2.5, 3])
    assert s.now[:, 0] == [1, 1, 3, 3, 4]
    b = solve(Count(X=X), span=3..0, method=rk4(h=0.5), save=[0, 0.5, 1, 2.5, 3])
    assert max(b.now[:, 0]) == 4 and min(b.now[:, 0]) == 1 and sum(b.now[:, 0]) == 1 + 3 + 3 + 4 + 4

test "a part has its own":
    s = solve(Whole(X=linear(ts, xs)), span=0..3, method=rk4(h=0.5))
    assert s.final.leg.n == 3

model Whole:
    input X: R[2] on time
    leg = Count(X=X)
    state y = 0.0
    y' = leg.n
"""


def test_an_input_sets_off_events() -> None:
    check(MODEL + TESTS)


def family(ts: torch.Tensor) -> torch.Tensor:
    xs = torch.from_numpy(np.random.default_rng(3).normal(size=(3, len(ts), 2)))
    xs[0, 1:3] = torch.nan
    xs[1, 0] = torch.nan
    xs[2, 4, 0] = torch.nan
    return xs


@pytest.mark.parametrize("method", ["rk4(h=0.25)", "tsit5(rtol=1e-9, atol=1e-9)"])
@pytest.mark.parametrize("span", [(0, 2), (2, 0)])
def test_each_member_has_its_own_times(method: str, span: tuple[float, float]) -> None:
    program = load(MODEL)
    ts = torch.tensor([0.0, 0.3, 0.7, 1.1, 2.0], dtype=torch.float64)
    xs = family(ts)
    whole = program.models["Count"]().bind(X=linear(ts, xs, family=True))
    s = ndl.solve(whole, span=span, method=method, gradient="discrete")
    assert s.final["n"].tolist() == [3, 4, 5]
    s.final["h"].sum().backward()
    together = whole.rate.grad.clone()
    alone = torch.zeros(())
    for k in range(3):
        one = program.models["Count"]()
        r = ndl.solve(one.bind(X=linear(ts, xs[k])), span=span, method=method, gradient="discrete")
        assert torch.allclose(r.final["h"], s.final["h"][k], rtol=1e-9)
        r.final["h"].sum().backward()
        alone = alone + one.rate.grad
    assert together.abs() > 0.1 and torch.allclose(together, alone, rtol=1e-8)


def test_what_has_no_data_is_refused() -> None:
    found = refused(
        MODEL + '\ntest "t":\n    s = solve(Count(X=path(t -> [t, t])), span=0..1, method=rk4(h=0.5))\n'
        "    assert s.final.n == 0\n"
    )
    assert "`sample(X)` fires at the times of the data `X`, and there are none" in found.message


def test_a_rate_that_reads_it_is_refused_with_the_remedy() -> None:
    text = MODEL.replace("h' = -rate*h", "h' = X - h")
    found = refused(
        text + '\ntest "t":\n    X = linear([0, 1], [[0, 1], [1, 2]])\n'
        "    s = solve(Count(X=X), span=0..1, method=rk4(h=0.5))\n"
        "    assert s.final.n == 0\n"
    )
    assert found.code == "NDL490" and "`state last = X(0)`" in (found.help or "")
