"""`kl(p, q)` against integrals of log(p/q) by SciPy, and its gradients against torch's."""

from __future__ import annotations

import math

import pytest
import torch
from programs import check, refused
from scipy import integrate, stats
from torch import distributions as D

LAWS = [
    ("normal(0.3, 0.7)", "normal(-0.2, 1.3)", stats.norm(0.3, 0.7), stats.norm(-0.2, 1.3)),
    ("normal(0.3, 0.7)", "normal()", stats.norm(0.3, 0.7), stats.norm()),
    ("lognormal(0.3, 0.7)", "lognormal(-0.2, 1.3)", stats.lognorm(0.7, scale=math.exp(0.3)),
     stats.lognorm(1.3, scale=math.exp(-0.2))),
    ("exponential(2.0)", "exponential(0.7)", stats.expon(scale=0.5), stats.expon(scale=1 / 0.7)),
]  # fmt: skip


@pytest.mark.parametrize("p, q, a, b", LAWS, ids=[f"{p} {q}" for p, q, _, _ in LAWS])
def test_continuous_laws(p: str, q: str, a: object, b: object) -> None:
    low = 0 if p.split("(")[0] != "normal" else -12
    wanted = integrate.quad(
        lambda x: a.pdf(x) * (a.logpdf(x) - b.logpdf(x)) if a.pdf(x) > 0 else 0.0, low, 600, limit=800,
        points=[1e-3, 0.1, 1, 3, 10], epsabs=1e-12,
    )[0]  # fmt: skip
    check(f'test "kl":\n    assert abs(kl({p}, {q}) - {float(wanted)!r}) < 1e-8\n')


@pytest.mark.parametrize(
    "law, a, b",
    [
        ("bernoulli", stats.bernoulli(0.3), stats.bernoulli(0.6)),
        ("poisson", stats.poisson(0.3), stats.poisson(0.6)),
    ],
)
def test_laws_of_numbers(law: str, a: object, b: object) -> None:
    counts = range(2 if law == "bernoulli" else 40)
    wanted = sum(a.pmf(k) * (a.logpmf(k) - b.logpmf(k)) for k in counts)
    check(f'test "kl":\n    assert abs(kl({law}(0.3), {law}(0.6)) - {float(wanted)!r}) < 1e-12\n')


def test_a_sum_over_components_with_gradients() -> None:
    m = torch.tensor([0.4, -1.0], dtype=torch.float64, requires_grad=True)
    wanted = D.kl_divergence(
        D.Normal(m, torch.tensor([0.5, 2.0], dtype=torch.float64)),
        D.Normal(torch.zeros(2, dtype=torch.float64), 1.5),
    ).sum()
    (slope,) = torch.autograd.grad(wanted, m)
    check(f"""
model M:
    param m: R[2] = [0.4, -1.0]
    state x = 0.0
    x' = kl(normal(m, [0.5, 2.0]), normal(0, 1.5))

test "in a model":
    r = M()
    assert abs(solve(r, span=0..1, method=euler(h=1)).final.x - {float(wanted.detach())!r}) < 1e-12
    g = grad(solve(r, span=0..1, method=euler(h=1)).final.x, r.params)
    assert norm(g - {slope.tolist()}) < 1e-12
    assert abs(kl(normal(r.m, 1), normal(r.m, 1))) < 1e-15
""")


@pytest.mark.parametrize(
    "call, code", [("kl(normal(0, 1), exponential(1))", "NDL365"), ("kl(1.0, normal(0, 1))", "NDL328"),
    ("kl(student(3), student(3))", "NDL365")]
)  # fmt: skip
def test_what_has_no_closed_form(call: str, code: str) -> None:
    assert refused(f'test "t":\n    assert {call} >= 0\n').code == code
