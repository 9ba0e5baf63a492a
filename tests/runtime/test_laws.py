"""Distributions against SciPy: samples by Kolmogorov–Smirnov, densities, gradients by differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from ndl.runtime.errors import SettingError
from ndl.runtime.laws import Law
from scipy import stats

CASES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("uniform", (-1.0, 3.0), stats.uniform(-1, 4)),
    ("normal", (1.0, 2.0), stats.norm(1, 2)),
    ("lognormal", (0.3, 0.5), stats.lognorm(0.5, scale=math.exp(0.3))),
    ("loguniform", (0.1, 10.0), stats.loguniform(0.1, 10)),
    ("exponential", (2.0,), stats.expon(scale=0.5)),
    ("laplace", (1.0, 0.5), stats.laplace(1, 0.5)),
    ("cauchy", (1.0, 0.5), stats.cauchy(1, 0.5)),
    ("gamma", (0.4, 2.0), stats.gamma(0.4, scale=0.5)),
    ("student", (2.5, 1.0, 0.5), stats.t(2.5, 1, 0.5)),
    ("gamma", (30.0,), stats.gamma(30)),
    ("beta", (2.0, 0.7), stats.beta(2, 0.7)),
]
DISCRETE: list[tuple[str, tuple[Any, ...], Any]] = [
    ("bernoulli", (0.3,), stats.bernoulli(0.3)),
    ("poisson_law", (0.7,), stats.poisson(0.7)),
    ("poisson_law", (250.0,), stats.poisson(250)),
    ("categorical", ([1.0, 2.0, 1.0],), stats.rv_discrete(values=([0, 1, 2], [0.25, 0.5, 0.25]))),
    ("choice", ([5.0, 7.0],), stats.rv_discrete(values=([5, 7], [0.5, 0.5]))),
]


@pytest.mark.parametrize(("name", "arguments", "reference"), CASES)
def test_continuous_laws(name: str, arguments: tuple[Any, ...], reference: Any) -> None:
    x = Law(name, arguments).sample(4000, seed=1, stream="rho").numpy()
    assert stats.kstest(x, reference.cdf).pvalue > 1e-3
    at = np.concatenate([x[:50], [-50.0]])
    density = Law(name, arguments).log_density(torch.as_tensor(at)).numpy()
    np.testing.assert_allclose(density, reference.logpdf(at), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "arguments", "reference"), DISCRETE)
def test_discrete_laws(name: str, arguments: tuple[Any, ...], reference: Any) -> None:
    x = Law(name, arguments).sample(4000, seed=2).numpy()
    values, counts = np.unique(x, return_counts=True)
    assert reference.pmf(values).sum() > 0.98
    for value, count in zip(values, counts):
        p = reference.pmf(value)
        assert abs(count - 4000 * p) < 5 * math.sqrt(4000 * p * (1 - p)) + 1
    density = Law(name, arguments).log_density(torch.as_tensor(values)).exp().numpy()
    np.testing.assert_allclose(density, reference.pmf(values), rtol=1e-9)
    assert float(Law(name, arguments).log_density(torch.tensor(0.5, dtype=torch.float64))) == -math.inf


def test_a_member_does_not_depend_on_the_size_of_its_ensemble() -> None:
    law = Law("normal", (0.0, 1.0))
    many = law.sample(9, (2, 3), seed=4, stream="k")
    assert many.shape == (9, 2, 3)
    assert torch.equal(law.sample(3, (2, 3), seed=4, stream="k", first=5), many[5:8])
    assert not torch.equal(law.sample(9, (2, 3), seed=4, stream="l"), many)
    assert not torch.equal(law.sample(9, (2, 3), seed=5, stream="k"), many)
    assert abs(float(np.corrcoef(law.sample(4000, (2,), seed=0).T.numpy())[0, 1])) < 0.06


@pytest.mark.parametrize(
    ("name", "arguments"), [("uniform", (1.0, 2.0)), ("normal", (1.0, 2.0)), ("gamma", (1.3, 2.0))]
)
def test_samples_are_differentiable_by_the_arguments(name: str, arguments: tuple[float, ...]) -> None:
    given = torch.tensor(arguments, dtype=torch.float64, requires_grad=True)

    def mean(values: Any) -> Any:
        return Law(name, tuple(values)).sample(20, seed=3).square().sum()

    (gradient,) = torch.autograd.grad(mean(given), given)
    for k in range(len(arguments)):
        step = torch.zeros_like(given).index_fill_(0, torch.tensor(k), 1e-6)
        with torch.no_grad():
            difference = (mean(given + step) - mean(given - step)) / 2e-6
        assert abs(difference / gradient[k] - 1) < 1e-6


def test_bad_laws_are_refused() -> None:
    for law, words in [
        (("unifrom", (0, 1)), "`uniform`"),
        (("uniform", (2, 1)), "not below"),
        (("normal", (0, -1)), "negative"),
        (("loguniform", (0, 1)), "above 0"),
        (("loguniform", (1,)), "loguniform"),
        (("bernoulli", (1.5,)), "0..1"),
    ]:
        with pytest.raises(SettingError) as caught:
            Law(*law)
        assert words in str(caught.value)
