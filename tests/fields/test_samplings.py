"""Samplings of fields: values at points, other numbers of points, stencils of weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

import ndl

TEXT = """
domain Ring   = periodic(x in 0..1)
domain Rod    = interval(x in 0..1)
domain Torus  = periodic(x in 0..2, y in 0..3)
domain Square = interval(x in 0..1, y in 0..1)

operator Conv(v: R[c] on S; stride = 1) -> R[d] on S:
    param K: R[d, c, 3, 3] ~ normal(0, 1)
    return convolve(K, v, stride=stride)

operator Replicated(v: R[c] on S) -> R[d] on S:
    param K: R[d, c, 4, 3] ~ normal(0, 1)
    return convolve(K, v, border=replicate)

operator Half(v: R[c] on S) -> R[c] on S:
    return resample(v, 1/2)

operator Twice(v: R[c] on S) -> R[c] on S:
    return resample(v, 2)

operator Fine(v: R[c] on S) -> R[c] on S:
    return resample(ifft(fft(v, 3)), 2)

operator Levels(v: R[c] on S) -> R[c] on S:
    return v + resample(resample(v, 2), 1/2)

operator Turned(v: R[c] on Square) -> R[c] on Square:
    T = values(v)
    return field([T[a, j, i] for a, i, j], Square)

operator Lord(v: R[c] on Square; rank = 4) -> R[Out] on Square:
    param M: R[rank, c] ~ glorot, P: R[Out, rank] ~ glorot
    param L: R[rank, n, n] ~ normal(0, 1/n), T: R[rank, m, m] ~ normal(0, 1/m)
    y = values(M @ v)
    return P @ field([sum(L[r, i, a]*y[r, a, b]*T[r, j, b], a, b) for r, i, j], Square)

net around: R[2] on Torus -> R[3] on Torus = Conv()
net strided: R[2] on Torus -> R[3] on Torus = Conv(stride=2)
net beyond: R[2] on Square -> R[3] on Square = Conv()
net replicated: R[2] on Square -> R[3] on Square = Replicated()
net half: R on Ring -> R on Ring = Half()
net twice: R on Ring -> R on Ring = Twice()
net fine: R on Ring -> R on Ring = Fine()
net polynomials: R on Rod -> R on Rod = Twice()
net levels: R on Rod -> R on Rod = Levels()
net turned: R[1] on Square -> R[1] on Square = Turned()
net lord: R on Square -> R[2] on Square = Lord()
"""


@pytest.fixture(scope="module")
def nets() -> Any:
    return ndl.loads(TEXT).nets


def front(v: torch.Tensor) -> torch.Tensor:
    """A batch of one with components first."""
    return v.movedim(-1, 0)[None]


def conv(v: torch.Tensor, K: torch.Tensor, mode: str, pads: Any = (1, 1, 1, 1), **more: Any) -> torch.Tensor:
    wide = functional.pad(front(v), pads, mode=mode)
    return functional.conv2d(wide, K, **more)[0].movedim(0, -1)


def test_convolutions_are_those_of_torch(nets: Any) -> None:
    v = torch.randn(6, 8, 2, dtype=torch.float64)
    for name, mode, more in (
        ("around", "circular", {}),
        ("strided", "circular", {"stride": 2}),
        ("beyond", "constant", {}),
    ):
        assert torch.allclose(nets[name](v), conv(v, nets[name].K, mode, **more), atol=1e-13), name
    K = nets["replicated"].K
    assert torch.allclose(nets["replicated"](v), conv(v, K, "replicate", (1, 1, 1, 2)), atol=1e-13)


def test_another_sampling_is_of_the_same_function(nets: Any) -> None:
    x, y = (torch.arange(n, dtype=torch.float64) / n for n in (12, 24))

    def wave(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * torch.pi * x) + torch.cos(6 * torch.pi * x)

    assert torch.allclose(nets["half"](wave(y)), wave(x), atol=1e-14)
    assert torch.allclose(nets["twice"](wave(x)), wave(y), atol=1e-14)
    assert torch.allclose(nets["fine"](wave(x)), wave(y), atol=1e-14)
    x, y = (torch.linspace(0, 1, n, dtype=torch.float64) for n in (17, 33))
    assert torch.allclose(nets["polynomials"](x**3), y**3, atol=1e-14)
    assert torch.allclose(nets["levels"](x**5), 2 * x**5, atol=1e-14)


def test_values_and_back(nets: Any) -> None:
    v = torch.randn(5, 5, 1, dtype=torch.float64)
    assert torch.equal(nets["turned"](v), v.transpose(0, 1))


def test_weights_of_rows_and_columns(nets: Any) -> None:
    lord = nets["lord"]
    assert lord.L.shape == (4, 16, 16)  # told by the values that they multiply
    v = torch.randn(3, 16, 16, dtype=torch.float64)
    y = torch.einsum("rc,nabc->nrab", lord.M, v[..., None])
    z = torch.einsum("ria,nrab,rjb->nijr", lord.L, y, lord.T)
    assert torch.allclose(lord(v), z @ lord.P.T, atol=1e-13)
    with pytest.raises(ndl.NDLError, match="NDL494"):
        lord(v[:, :9, :9])


def test_two_samplings_do_not_meet() -> None:
    text = TEXT.replace("resample(resample(v, 2), 1/2)", "resample(v, 2)")
    with pytest.raises(ndl.NDLError, match="NDL493") as problem:
        _ = ndl.loads(text).nets
    assert "1 and 2 times the points of `v`" in str(problem.value) and "resample" in str(problem.value)


CHECKED = """
operator Down(v: R[c] on S; s = 2) -> R[d] on S:
    param K: R[d, c, 3] ~ he
    return relu(convolve(K, v, stride=s))

operator Merge(fine: R[c] on S, coarse: R[c] on S) -> R[c] on S:
    return fine + resample(coarse, 2)

operator Block(v: R[c] on S) -> R[c] on S:
    h = Down(d=c)(v)
    for k in 1..2:
        h = h + Down(d=c, s=1)(h) + ifft(fft(h, 2)) + mean(v, S)
    return Merge()(v, h)*v + Linear()(FIRST)

domain Ring = periodic(x in 0..1)
net N: R on Ring -> R on Ring = Down(d=1)

model M:
    state u: R on Ring = 0
    fine = resample(u, 2)
    half = N(u)
    u' = resample(fine*fine, 1/2) + sin(2*pi*x) + SECOND
"""


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ("v", "u", ""),
        ("resample(h, [2])", "resample(half, 2)", ""),
        ("h", "u", "1 and 1/2 times the points of `v`"),
        ("v", "tanh(half)", "1 and 1/2 times the points of `Ring`"),
        ("v", "fine", "1 and 2 times the points of `Ring`"),
    ],
)
def test_the_checker_sees_what_meets(here: str, there: str, words: str) -> None:
    text = CHECKED.replace("FIRST", here).replace("SECOND", there)
    if not words:
        ndl.loads(text)
        return
    with pytest.raises(ndl.NDLError, match="NDL493") as problem:
        ndl.loads(text)
    assert words in str(problem.value)


def test_the_lowering_has_the_last_word() -> None:
    text = TEXT.replace("resample(resample(v, 2), 1/2)", "field(values(resample(v, 2)), S)")
    with pytest.raises(ndl.NDLError, match="NDL493") as problem:
        _ = ndl.loads(text).nets
    assert "16 and 31 points along `x`" in str(problem.value)


@pytest.mark.parametrize(
    "old, new, code, words",
    [
        ("resample(v, 1/2)", "resample(v, 1/3)", "NDL493", "no grid"),
        ("resample(v, 1/2)", "resample(v, 0)", "NDL493", "above 0"),
        ("b]*T[r, j, b], a, b)", "j]*T[r, 0, 0], a)", "NDL308", "the dimension `m`"),
        ("T = values(v)", "T = values([1, 2])", "NDL492", "is of a field"),
        ("field([T[a, j, i] for a, i, j], Square)", "field([1, 2], Square)", "NDL492", "last 2 axes"),
        ("stride=stride", "stride=3", "NDL493", "without rest"),
        ("stride=stride", "pad=1", "NDL345", "`pad` is not taken"),
        ("R[d, c, 3, 3]", "R[d, c, 3]", "NDL301", "2 sizes"),
    ],
)
def test_mistakes(old: str, new: str, code: str, words: str) -> None:
    with pytest.raises(ndl.NDLError, match=code) as problem:
        _ = ndl.loads(TEXT.replace(old, new)).nets
    assert words in str(problem.value)
