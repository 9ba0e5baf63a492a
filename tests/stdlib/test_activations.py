"""Activations and starting laws of weights beside their counterparts in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import close
from torch import Tensor, nn
from torch.nn import functional as F

import ndl

TWINS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "leaky_relu": F.leaky_relu,
    "selu": F.selu,
    "relu6": F.relu6,
    "celu": F.celu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hard_tanh": F.hardtanh,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "log_sigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "tanh_shrink": F.tanhshrink,
    "glu": F.glu,
    "lipswish": lambda x: 0.909 * F.silu(x),
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
    "snake": lambda x: x + torch.sin(x) ** 2,
    "gaussian": lambda x: torch.exp(-x * x),
}
LANGUAGE = ("tanh", "relu", "sigmoid", "softplus", "elu", "gelu", "silu")
X = torch.linspace(-7.3, 7.1, 90, dtype=torch.float64)


def program() -> Any:
    used = ", ".join(name for name in TWINS if name not in LANGUAGE)
    lines = [f"use std.nets: {used}", "operator Act(x; f = tanh):", "    return f(x)"]
    lines += [f"net _{name}: R[90] -> R[{45 if name == 'glu' else 90}] = Act(f={name})" for name in TWINS]
    return ndl.loads("\n".join(lines) + "\n").nets


def test_activations() -> None:
    """Values and slopes; the numbers avoid the corners."""
    nets = program()
    for name, twin in TWINS.items():
        ours, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
        y, z = nets[f"_{name}"].double()(ours), twin(theirs)
        close(y, z)
        y.sum().backward(), z.sum().backward()
        # torch's slopes of hard_sigmoid and hard_swish have 1/6 in single precision
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-7)


LAWS: dict[str, Callable[[Tensor], Any]] = {
    "glorot": nn.init.xavier_uniform_,
    "glorot_normal": nn.init.xavier_normal_,
    "he_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "lecun_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="linear"),
    "lecun": lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"),
    "fan_uniform": lambda w: nn.init.kaiming_uniform_(w, a=5**0.5),  # as `nn.Linear` starts
    "orthogonal(2)": lambda w: nn.init.orthogonal_(w, 2),
    "truncated_normal(0.1, 0.3)": lambda w: nn.init.trunc_normal_(w, 0.1, 0.3, -0.5, 0.7),
}


@pytest.mark.parametrize("shape", [(60, 80), (40, 24, 5)], ids=["matrix", "kernel"])
def test_laws_of_weights(shape: tuple[int, ...]) -> None:
    """The same mean, deviation and largest entry as torch's, within the scatter of 4800 numbers."""
    torch.manual_seed(1)
    wanted = dict(LAWS) if len(shape) == 2 else {n: f for n, f in LAWS.items() if "orthogonal" not in n}
    size = ", ".join(map(str, shape))
    lines = [
        f"model M:\n    state x = 0.0\n    x' = {' + '.join(f'0*sum(w{k})' for k in range(len(wanted)))}"
    ]
    lines += [f"    param w{k}: R[{size}] ~ {law}" for k, law in enumerate(wanted)]
    made = ndl.loads("\n".join(lines) + "\n").M()
    for k, (law, init) in enumerate(wanted.items()):
        ours = getattr(made, f"w{k}").detach()
        theirs = torch.empty(shape, dtype=torch.float64)
        init(theirs)
        spread = float(theirs.std())
        assert abs(float(ours.mean() - theirs.mean())) < 0.06 * spread, law
        assert abs(float(ours.std()) / spread - 1) < 0.04, law
        bounded = "uniform" in law or "truncated" in law or law == "glorot"
        assert abs(float(ours.abs().max() / theirs.abs().max()) - 1) < (0.01 if bounded else 0.25), law
        if "orthogonal" in law:
            close(ours @ ours.T, 4 * torch.eye(len(ours), dtype=torch.float64))
