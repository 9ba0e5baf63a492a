"""Dimensions that a model leaves open: told by a training's data, by values, from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from programs import check, refused

import ndl
from ndl.session import Program, solve_model

MODEL = """
model M:
    input x: R[n]
    param A: R[m, n] = 0.1
    state z: R[n] = x
    state w: R[m] = 0
    z' = -z
    w' = A @ z
    size = n + 10*m
"""
SERIES = """
model Reads:
    input X: R[c] on time
    param W: R[2, c] = 0.3
    state z: R[2] = 0
    dz = W @ dX

train Reads:
    data   = table("s.npz", time=0..1, X="x", y="y")
    method = euler(h=0.25)
    {line}
    loss   = (final.z[0] - data.y)^2
    steps  = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=g.normal(size=(6, 3)), w=g.normal(size=(6, 2)))
    np.savez(tmp_path / "s.npz", x=g.normal(size=(6, 5, 3)), y=g.normal(size=6))
    np.savez(tmp_path / "p.npz", t=np.linspace(0, 1, 5), z=g.normal(size=(5, 4)))
    return tmp_path


def load(folder: Path, text: str) -> Program:
    (folder / "m.ndl").write_text(text, encoding="utf-8")
    return Program.load(folder / "m.ndl")


def test_dimensions_follow_from_values_or_are_set() -> None:
    check(
        MODEL
        + """
test "by the shape of a value and by number":
    s = solve(M(x=[1, 2, 3], m=2), span=0..1, method=dopri5(rtol=1e-10, atol=1e-10))
    assert s.final.size == 23
    assert norm(s.final.w - 0.6*(1 - exp(-1))*[1, 1]) < 1e-8

test "by an initial value and a parameter":
    assert solve(M(x=[1, 2], w=[1, 2, 3, 4]), span=0..1, method=rk4(h=0.1)).final.size == 42
    assert solve(M(A=[[1, 2], [3, 4], [5, 6]], x=[1, 1]), span=0..1, method=rk4(h=0.1)).final.size == 32
"""
    )


def test_a_dimension_of_a_state_that_nothing_tells() -> None:
    error = refused(
        "model M:\n    state z: R[n] = 1\n    z' = -z\n"
        'test "a":\n    assert solve(M, span=0..1, method=rk4(h=0.1)).final.z[0] == 0\n'
    )
    assert error.code == "NDL308" and "`n`" in error.message and error.help


def test_a_training_takes_them_from_its_data(folder: Path) -> None:
    text = MODEL + (
        'train M:\n    data = table("d.npz", x="x", w="w")\n    span = 0..1\n    method = euler(h=0.5)\n'
        "    loss = mean((final.w - data.w)^2)\n    steps = 3\n"
    )
    (result,) = load(folder, text).run()
    assert tuple(result.model.A.shape) == (2, 3)
    assert float(result.loss) < float(result.history.loss[0])


LINES = ["", "X = hermite(data.t, 2*data.X)", "X = linear(data.t, concat(data.X, data.X, axis=1))"]


@pytest.mark.parametrize("line", LINES)
def test_channels_of_series_and_of_definitions(folder: Path, line: str) -> None:
    (result,) = load(folder, SERIES.format(line=line)).run()
    assert tuple(result.model.W.shape) == (2, 6 if "concat" in line else 3)


def test_components_of_one_path(folder: Path) -> None:
    text = (
        "model P:\n    param k = 1.0\n    state z: R[n] = 1\n    z' = -k*z\n"
        'train P:\n    data = table("p.npz", time="t", z="z")\n    method = rk4(h=0.25)\n'
        "    loss = mean((z - data.z)^2)\n    steps = 2\n"
    )
    program = load(folder, text)
    (result,) = program.run()
    assert tuple(result.model.STATES[0].shape) == (4,)


def test_a_draw_tells_by_its_type(folder: Path) -> None:
    text = MODEL + (
        "train M:\n    x: R[5] ~ normal(0, 1)\n    w: R[2] ~ normal(0, 1)\n    batch = 3\n    span = 0..1\n"
        "    method = euler(h=0.5)\n    loss = mean((final.w - w)^2)\n    steps = 1\n"
    )
    (result,) = load(folder, text).run()
    assert tuple(result.model.A.shape) == (2, 5)


def test_from_python(folder: Path) -> None:
    program = load(folder, MODEL)
    M = program.models["M"]
    assert "open dimensions m, n" in repr(M)
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    model = M(x=x, m=2)
    assert isinstance(model, torch.nn.Module) and tuple(model.A.shape) == (2, 3)
    s = solve_model(model, {"span": "0..1", "method": "dopri5(rtol=1e-10, atol=1e-10)"})
    assert torch.allclose(s.final["z"], x * np.exp(-1), atol=1e-8)
    assert tuple(M(n=4, w=[1.0, 2.0]).A.shape) == (2, 4)
    assert type(M(n=4, m=2)) is type(M(m=2, n=4)) is not type(M(n=4, m=3))
    with pytest.raises(NDLError, match=r"nothing here tells the dimension `m` of `M`"):
        M(x=x)


def test_a_path_tells_from_python(folder: Path) -> None:
    Reads = load(folder, SERIES.partition("train")[0]).models["Reads"]
    model = Reads(X=ndl.runtime.paths_in_time.path(lambda t: torch.stack([t, t**2, t**3, 1 + t], -1)))
    assert tuple(model.W.shape) == (2, 4)


NET = """
net F: R[n] -> R[{out}] = {net}

train F:
    data  = table("d.npz", x="x", w="w")
    both  = concat(data.x, data.x)
    loss  = mean((F({given}) - data.w)^2)
    steps = 1
"""


@pytest.mark.parametrize(("given", "size"), [("data.x", 3), ("both", 6)])
@pytest.mark.parametrize(("net", "rows"), [("MLP(width=4)", 4), ("Linear()", 2)])
def test_a_net_takes_them_from_what_it_is_given(
    folder: Path, given: str, size: int, net: str, rows: int
) -> None:
    text = NET.format(out=2, given=given, net=net) + "    metrics = mean(both)\n"
    program = load(folder, text)
    program.run()
    (found,) = program.host.named.values()
    assert next(found.model.module.parameters()).shape == (rows, size)


def test_a_net_whose_result_nothing_tells_is_refused(folder: Path) -> None:
    with pytest.raises(NDLError, match="nothing here tells the dimension `k` of `F`") as caught:
        load(folder, NET.format(out="k", given="both", net="Linear()")).run()
    assert caught.value.diagnostics[0].help
