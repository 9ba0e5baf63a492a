"""Nets that come from Python."""

from __future__ import annotations

import math

import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from programs import load, refused
from torch import nn

import ndl

PROGRAM = """
extern net f: R[2] -> R[2]

model Flow:
    state x: R[2] = [1, 2]
    x' = f(x)

model Pair:
    a = Flow()
    b = Flow(x=2)

test "an exponential":
    s = solve(Flow, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert max(abs(s.final.x - exp(-1)*[1.0, 2.0])) < 1e-8
    p = solve(Pair, span=0..1, method=tsit5(rtol=1e-10, atol=1e-12))
    assert max(abs(p.final.b.x - 2*exp(-1))) < 1e-8
    assert max(abs(f([1.0, 3.0]) + [1.0, 3.0])) < 1e-12

test "in a loss":
    g = grad(sum(solve(Flow, span=0..1, method=rk4(h=0.1)).final.x), Flow.params)
    assert abs(g[0] - 3*exp(-1)) < 1e-5
"""


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rate * x


def test_a_module_takes_the_place_of_an_extern_net() -> None:
    for result in load(PROGRAM, bind={"f": Scale()}).test():
        assert result.passed, result.message


def test_gradients_reach_the_module(tmp_path) -> None:
    file = tmp_path / "flow.ndl"
    file.write_text(PROGRAM, encoding="utf-8")
    module = Scale()
    program = ndl.load(file, bind={"f": module})
    solution = ndl.solve(program.Flow, span="0..1", method="rk4(h=0.05)", gradient="discrete")
    solution.final.x.sum().backward()
    assert float(module.rate.grad) == pytest.approx(3 * math.exp(-1), abs=1e-5)


def test_a_missing_module_is_named() -> None:
    missing = refused(PROGRAM)
    assert missing.code == "NDL355"
    assert "`extern net f`" in missing.message and "bind" in (missing.help or "")


def test_a_name_that_is_no_extern_net_is_refused() -> None:
    with pytest.raises(NDLError, match="no `extern net g`"):
        load(PROGRAM, bind={"f": Scale(), "g": Scale()})


def test_kernels_do_not_know_the_module() -> None:
    """An ensemble that a kernel would take goes by torch; a kernel that is asked for is refused."""
    model = load(PROGRAM, bind={"f": Scale()}).models["Flow"]().bind(x=torch.ones(64, 2, dtype=torch.float64))
    s = ndl.solve(model, span=(0, 1), method="tsit5(rtol=1e-9, atol=1e-9)")
    assert torch.allclose(s.final["x"], torch.full((64, 2), math.exp(-1), dtype=torch.float64), atol=1e-7)
    with pytest.raises(NDLError, match="a net comes from Python"):
        ndl.solve(model, span=(0, 1), method="tsit5()", backend="cpu")
