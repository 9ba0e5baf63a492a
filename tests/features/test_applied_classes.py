"""From Python, the class of `model X = M(k=3)` or of a reduction begins with the values of the file."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ndl.runtime.paths_in_time import path

import ndl

TEXT = """
model M:
    input push: R on time
    param k = 1.0
    state x = 1.0
    x' = -k*x + push

model Three = M(k=3.0, x=2.0, push=path(t -> sin(t)))

model Ring:
    param A: R[8, 8] = 0
    net f: R[8] -> R[8] = MLP(width=4)
    state x: R[8] = linspace(0, 1, 8)
    x' = tanh(A @ x) + f(x)

const A: R[8, 8] ~ normal(0, 0.3)

solve Ring(A=A) as full:
    span   = 0..1
    method = rk4(h=0.1)

model Fast = reduce(Ring(A=A), pod(rank=8), deim(points=8), snapshots=full)
model Thin = truncate(Ring(A=A), rank=8)
"""


@pytest.fixture(scope="module")
def program() -> Any:
    return ndl.loads(TEXT)


def final(model: Any) -> torch.Tensor:
    return ndl.solve(model, span=(0, 1), method="rk4(h=0.1)").final["x"].detach()


def test_values_of_an_application(program: Any) -> None:
    three = program.models["Three"]
    plain = program.models["M"](k=3.0, x=2.0).bind(push=path(torch.sin))
    assert float(final(three())) == pytest.approx(float(final(plain)), abs=1e-12)
    assert three(k=2.0).k.item() == 2 and three().k.item() == 3 and program.models["M"]().k.item() == 1
    first, second = three(), three()
    with torch.no_grad():
        first.k.fill_(7)
    assert second.k.item() == 3 and three().k.item() == 3


@pytest.mark.parametrize("name", ["Fast", "Thin"])
def test_smaller_models_have_their_operators(program: Any, name: str) -> None:
    """Of full rank, they are the model that they come from."""
    (full,) = program.run("full")
    assert float((final(program.models[name]()) - full.final["x"]).abs().max().detach()) < 1e-12
