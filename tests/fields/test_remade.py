"""`remake(N, modes=…)`: nets with other options that begin with the weights of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ndl

TEXT = """
operator Layer(v: R[c] on S; modes = 3, width = 4) -> R[d] on S:
    param K: C[width, c] on dual(S, modes) ~ complex_normal(1)
    param b > 0: R[width] = 2
    param g > 0: R on dual(S, modes) ~ uniform(1, 2)
    return Linear(Out=d)(tanh(ifft(g*(K @ fft(v, modes))) + b))

domain Ring  = periodic(x in 0..1)
domain Torus = periodic(x in 0..1, y in 0..1)

net N: R on Ring -> R on Ring = Layer(modes=3)
net fine = remake(N, modes=7)
net plane: R on Torus -> R on Torus = Layer(modes=[3, 2])

train N as begun:
    a: R on Ring ~ normal(0, (identity - 0.01*lap)^-2)
    grid  = fourier(16)
    loss  = mean((N(a) - a)^2)
    steps = 2

net after = remake(begun.model, modes=5)
net back  = remake(after, modes=3)

fn wave(k) = 0.3 + sin(2*pi*k/16) + cos(6*pi*k/16 + 1)

test "waves that the net did not have change nothing, those left out do":
    u = [wave(k) for k in 0..15]
    assert max(abs(fine(u) - N(u))) < 1e-12
    assert max(abs(remake(N, modes=2)(u) - N(u))) > 1e-3

test "a trained net, and there and back":
    u = [wave(k) for k in 0..15]
    assert max(abs(after(u) - begun.model(u))) < 1e-6
    assert max(abs(back(u) - begun.model(u))) < 1e-6

test "waves of the plane keep their places":
    u = [[wave(j)*wave(k) for k in 0..15] for j in 0..15]
    assert max(abs(remake(plane, modes=[5, 6])(u) - plane(u))) < 1e-12
    assert max(abs(remake(plane, modes=[2, 3])(u) - plane(u))) > 1e-4
    assert max(abs(remake(remake(plane, modes=[4, 5]), modes=[3, 2])(u) - plane(u))) < 1e-12
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def test_the_function_stays(program: Any) -> None:
    assert [(o.name, o.message) for o in program.test() if not o.passed] == []


def test_from_python_and_by_wavenumber(program: Any) -> None:
    N, made = program.nets["plane"], program.remake("plane", modes=[1, 2])
    from ndl.runtime.duals import wavenumbers

    old, new = wavenumbers((3, 2)), wavenumbers((1, 2))
    assert made.K.shape[0] == len(new) == 8
    for row, k in enumerate(new):
        assert torch.equal(made.K[row], N.K[old.index(k)])
    assert torch.equal(made.b, N.b) and made.K is not N.K


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"moods": 3}, "NDL323", "modes"),
        ({"width": 9}, "NDL478", "the weight `K` is"),
        ({"modes": 0.5}, "NDL491", "whole number"),
    ],
)
def test_what_cannot_be_carried(program: Any, options: Any, code: str, words: str) -> None:
    with pytest.raises(ndl.NDLError, match=code) as problem:
        program.remake("N", **options)
    assert words in str(problem.value)


def test_what_is_no_net(program: Any) -> None:
    with pytest.raises(ndl.NDLError, match="NDL477"):
        program.remake("Ring", modes=3)
    with pytest.raises(ndl.NDLError, match="NDL477"):
        ndl.loads(TEXT + "\nnet other = remake(wave, modes=3)\n")
