"""The Fourier neural operator against torch, and with weights for which it is known what it does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

import ndl

TEXT = """
use std.operators: FNO, FourierLayer

domain Ring = periodic(x in 0..1)

net layer: R[2] on Ring -> R[2] on Ring = FourierLayer(modes=3, act=(z -> z))
net N: R[2] on Ring -> R on Ring = FNO(width=5, modes=4, layers=3, hidden=7)

operator Near(v: R[c] on S) -> R[c] on S:
    param K: R[c, c, 3] ~ normal(0, 1)
    return FourierLayer(d=c)(convolve(K, v))

model Flow:
    net N: R on Ring -> R on Ring = FNO(width=3, modes=2, layers=1, hidden=4)
    state u: R on Ring = sin(2*pi*x)
    u' = N(u)
    size = integral(u^2)
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def test_with_the_identity_on_each_wave_and_no_other_weights_a_layer_is_a_projection(program: Any) -> None:
    layer = program.nets["layer"]
    x = torch.arange(16, dtype=torch.float64)[:, None] / 16
    low = torch.cat([torch.cos(6 * torch.pi * x) + 1, torch.sin(4 * torch.pi * x)], 1)
    high = torch.cat([torch.cos(8 * torch.pi * x), torch.sin(14 * torch.pi * x)], 1)
    spectral = layer.spectralConv
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
        spectral.K[..., 0] = torch.eye(2, dtype=torch.float64)
        assert torch.allclose(layer(low + high), low, atol=1e-14)
        layer.linear.W.copy_(torch.eye(2, dtype=torch.float64))
        assert torch.allclose(layer(low + high), 2 * low + high, atol=1e-14)


def test_the_net_is_that_of_the_paper(program: Any) -> None:
    """Lifting, layers act(W v + b + K v), the last without act, and a projection by two matrices: in torch's
    transforms, with the same weights."""
    net = program.nets["N"]
    a = torch.randn(4, 20, 2, dtype=torch.float64)
    parts = dict(net.named_modules())
    v = a @ net.linear.W.T + net.linear.b
    layers = [m for n, m in parts.items() if n.startswith("fourierLayer") and "." not in n]
    assert len(layers) == 3
    for k, layer in enumerate(layers):
        modes = torch.fft.rfft(v, dim=1)[:, :5]
        K = torch.view_as_complex(layer.spectralConv.K.detach())
        spectral = torch.fft.irfft(torch.einsum("kab,nkb->nka", K, modes), n=20, dim=1)
        v = spectral + v @ layer.linear.W.T + layer.linear.b
        v = functional.gelu(v) if k < 2 else v
    first, second = net.mlp.linear, net.mlp.linear_2
    wanted = functional.gelu(v @ first.W.T + first.b) @ second.W.T + second.b
    assert torch.allclose(net(a), wanted[..., 0], atol=1e-12)


def test_gradients_of_a_run_with_a_net_of_fields(program: Any) -> None:
    """By a matrix of the waves, against differences in float64."""
    M = program.Flow.on("fourier(16)")

    def size(K: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        m = M()
        weight = dict(m.named_parameters())["N.fourierLayer.spectralConv.K"]
        if K is not None:
            with torch.no_grad():
                weight.copy_(K)
        s = ndl.solve(m, span="0..0.5", method="rk4(h=0.1)", save="end", gradient="discrete")
        return s.final["size"], weight

    loss, weight = size(None)
    loss.backward()
    way = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    K, h = weight.detach().clone(), 1e-5
    slope = (size(K + h * way)[0] - size(K - h * way)[0]).detach() / (2 * h)
    assert weight.grad is not None and float(slope.abs()) > 1e-4
    assert torch.allclose((weight.grad * way).sum(), slope, rtol=1e-7)


def test_what_depends_on_points_is_told(program: Any) -> None:
    (found,) = program.operator_facts()["Near"]
    assert found[1].splitlines() == [
        "depends on the points of its fields",
        "line 11: `convolve` reads neighbouring points",
    ]
    library = ndl.loads(
        "use std.operators: FNO\noperator F(v: R[c] on S) -> R[d] on S:\n    return FNO()(v)\n"
    )
    assert library.operator_facts() == {"F": [("resolution", "the same function at every resolution")]}
