"""Waves of fields: coefficients of known functions, weights on wavenumbers, nets that know no grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ndl

TEXT = """
domain Ring  = periodic(x in -1..3)
domain Torus = periodic(x in 0..2, y in 0..3)

operator Waves(v: R[c] on S; m = 3) -> C[c] on dual(S, m):
    return fft(v, m)

operator Again(v: R[c] on S; m = 3) -> R[c] on S:
    return ifft(fft(v, m))

operator Moved(v: R[c] on Ring; m = 3) -> R[c] on Ring:
    w = ifft(fft(v, m))
    return w(x - 0.3)

operator Layer(v: R[c] on S; modes = 4) -> R[c] on S:
    param K: C[c, c] on dual(S, modes) ~ complex_normal(1/c)
    param W: R[c, c] ~ glorot
    return tanh(W @ v + ifft(K @ fft(v, modes)))

operator Net(v: R[c] on S; modes = 4) -> R[d] on S:
    h = Layer(modes=modes)(Linear(Out=5)(v))
    return Linear()(Layer(modes=modes)(h))

net waves: R[1] on Ring -> C[1] on dual(Ring, 3) = Waves()
net plane: R[1] on Torus -> C[1] on dual(Torus, [1, 2]) = Waves(m=[1, 2])
net again: R[1] on Torus -> R[1] on Torus = Again(m=[2, 3])
net moved: R[1] on Ring -> R[1] on Ring = Moved(m=5)
net layer: R[2] on Torus -> R[2] on Torus = Layer(modes=[1, 2])
net F: R on Ring -> R on Ring = Net()
net G: R on Torus -> R on Torus = Net(modes=2)

model Moving:
    net f: R on Ring -> R on Ring = Net(modes=2)
    state u: R on Ring = cos(pi*x/2)
    u' = f(u)
    probe = f(u)(0.5)
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def points(*sizes: tuple[float, float, int]) -> list[torch.Tensor]:
    """The points of a ring or torus, an array for each coordinate."""
    axes = [a + (b - a) * torch.arange(n, dtype=torch.float64) / n for a, b, n in sizes]
    return list(torch.meshgrid(*axes, indexing="ij"))


def test_coefficients_are_those_of_textbooks(program: Any) -> None:
    (x,) = points((-1, 3, 12))
    k = torch.pi / 2  # one wave around the ring of length 4
    u = 0.7 + torch.cos(k * x) - 3 * torch.sin(2 * k * x) + torch.cos(3 * k * x + 0.4)
    found = program.nets["waves"](u[:, None])[:, 0]
    wanted = torch.tensor([0.7, 0.5, 1.5j, 0.5 * torch.exp(torch.tensor(0.4j))], dtype=torch.complex128)
    assert torch.allclose(found, wanted, atol=1e-14)
    # 5 points do not tell the third wave from the second: it is 0
    coarse = program.nets["waves"](torch.cos(k * points((-1, 3, 5))[0])[:, None])[:, 0]
    assert torch.allclose(coarse, torch.tensor([0, 0.5, 0, 0], dtype=torch.complex128), atol=1e-14)


def test_in_the_plane_one_of_two_opposite_waves_is_kept(program: Any) -> None:
    x, y = points((0, 2, 6), (0, 3, 8))
    found = program.nets["plane"](torch.sin(torch.pi * x - 4 * torch.pi / 3 * y)[..., None])[:, 0]
    numbers = [(k, q) for k in (-1, 0, 1) for q in (-2, -1, 0, 1, 2) if (q, k) >= (0, 0) and (q or k >= 0)]
    assert len(found) == len(numbers) == 8
    wanted = torch.tensor([0.5j if n == (-1, 2) else 0 for n in numbers], dtype=torch.complex128)
    assert torch.allclose(found, wanted, atol=1e-14)


def test_a_function_made_of_all_waves_is_the_field_and_can_be_moved(program: Any) -> None:
    u = torch.randn(4, 6, 1, dtype=torch.float64)
    assert torch.allclose(program.nets["again"](u), u, atol=1e-13)  # also the longest and shortest waves
    (x,) = points((-1, 3, 11))
    k = torch.pi / 2
    u = torch.sin(k * x) + torch.cos(5 * k * x)
    wanted = torch.sin(k * (x - 0.3)) + torch.cos(5 * k * (x - 0.3))
    assert torch.allclose(program.nets["moved"](u[:, None])[:, 0], wanted, atol=1e-13)


def test_a_layer_is_that_of_torch(program: Any) -> None:
    """K v by torch's transform, for weights that are the same on k and -k up to conjugation."""
    layer = program.nets["layer"]
    v = torch.randn(7, 6, 8, 2, dtype=torch.float64)  # seven samples
    K = torch.view_as_complex(layer.K.detach())
    full = torch.zeros(6, 8, 2, 2, dtype=torch.complex128)
    numbers = [(k, q) for k in (-1, 0, 1) for q in (-2, -1, 0, 1, 2) if q > 0 or (q == 0 and k >= 0)]
    for (k, q), matrix in zip(numbers, K):
        full[-k, -q] = matrix.conj()
        full[k, q] = matrix
    full[0, 0] = K[numbers.index((0, 0))].real  # of a mean there is no phase
    modes = torch.fft.fftn(v, dim=(1, 2))
    spectral = torch.fft.ifftn(torch.einsum("xyab,nxyb->nxya", full, modes), dim=(1, 2))
    assert float(spectral.imag.abs().max()) < 1e-13
    wanted = torch.tanh(torch.einsum("ab,nxyb->nxya", layer.W, v) + spectral.real)
    assert torch.allclose(layer(v), wanted, atol=1e-13)


def test_a_net_knows_no_resolution(program: Any) -> None:
    """Made of functions with few waves it would be exact; tanh makes more, which die out fast."""
    k = torch.pi / 2
    made = {}
    for n in (64, 128):
        (x,) = points((-1, 3, n))
        made[n] = program.nets["F"](torch.cos(k * x) + 0.5 * torch.sin(3 * k * x))
    assert float((made[128][::2] - made[64]).detach().abs().max()) < 1e-12
    assert float(made[64].detach().std()) > 1e-2
    x, y = points((0, 2, 32), (0, 3, 24))
    u = torch.cos(torch.pi * x + 2 * torch.pi / 3 * y)
    G = program.nets["G"]
    assert float((G(u)[::2, ::2] - G(u[::2, ::2])).detach().abs().max()) < 1e-5


def test_gradients_by_complex_weights(program: Any) -> None:
    layer = program.nets["layer"]
    v = torch.randn(5, 4, 2, dtype=torch.float64)

    def loss(K: torch.Tensor) -> torch.Tensor:
        return (torch.func.functional_call(layer, {"K": K}, (v,)) ** 2).sum()

    assert torch.autograd.gradcheck(loss, (layer.K.detach().clone().requires_grad_(),))


def test_a_net_of_fields_in_a_model(program: Any) -> None:
    found = {}
    for n in (32, 64):
        s = ndl.solve(program.Moving, grid=f"fourier({n})", span="0..1", method="rk4(h=0.1)", save="end")
        found[n] = s
    u = found[64].final["u"]
    assert float((u[::2] - found[32].final["u"]).abs().max()) < 1e-9
    assert float((found[64].final["probe"] - found[32].final["probe"]).abs()) < 1e-9


@pytest.mark.parametrize(
    "old, new, code, words",
    [
        ("ifft(fft(v, m))", "ifft(v)", "NDL492", "on wavenumbers"),
        ("return fft(v, m)", "return fft(v, m + 1)", "NDL309", "dual"),
        ("periodic(x in -1..3)", "interval(x in -1..3)", "NDL491", "not periodic"),
        ("fft(v, modes)", "fft(W, modes)", "NDL492", "is of a field"),
        ("fft(v, modes)", "fft(v, modes - 1)", "NDL302", "dual(S, 3)"),
        ("fft(v, modes)", "fft(v, 0.5)", "NDL491", "whole number"),
    ],
)
def test_mistakes(old: str, new: str, code: str, words: str) -> None:
    with pytest.raises(ndl.NDLError, match=code) as problem:
        loaded = ndl.loads(TEXT.replace(old, new))
        loaded.nets["waves"](torch.zeros(12, 1, dtype=torch.float64))
    assert words in str(problem.value)
