"""The covariance of a noise with components is symmetric and positive definite."""

from __future__ import annotations

import pytest
from ndl.compiler.check import check_file
from ndl.compiler.source import Source

MODEL = """
model Walk:
    param s = 1.0
    noise W: wiener[2](cov={})
    state x: R[2] = 0.0
    dx = -x*dt + dW
"""


@pytest.mark.parametrize(
    ("S", "words"),
    [
        ("[[1, 2], [2, 1]]", "the covariance of `W` is not positive definite: -1 is an eigenvalue"),
        ("[[1, 1], [1, 1]]", "0 is an eigenvalue"),
        ("[[1, 0.5], [0.2, 1]]", "is not symmetric: 0.5 in row 0, column 1, and 0.2 in row 1, column 0"),
    ],
)
def test_what_no_noise_has(S: str, words: str) -> None:
    (found,) = check_file(Source("w.ndl", MODEL.format(S)))[1]
    assert found.code == "NDL588" and found.span.text == S and words in found.message


@pytest.mark.parametrize("S", ["[[2, 1], [1, 2]]", "[[s, 0.5], [0.5, 1.0]]", "s*eye(2)"])
def test_what_one_has_or_may_have(S: str) -> None:
    assert check_file(Source("w.ndl", MODEL.format(S)))[1] == []
