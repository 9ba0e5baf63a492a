"""Missing and padded values: what a formula makes of them, and that they have exactly no influence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ndl.compiler.diagnostics import NDLError
from torch import Tensor

from ndl.session import Program

TEXT = """
model Free:
    param p: R[5] = [0.3, -0.8, 1.1, 0.4, -0.2]
    param W: R[5, 3] = [[1, 0, 2], [0, 1, 0], [3, 0, 1], [0, 2, 0], [1, 1, 0]]

train Free:
    data      = table("d.npz", time=0..1, length="n", x="x", y="y", c="c")
    loss      = {loss}
    optimizer = sgd(lr=1)
    steps     = 1
"""
LENGTHS = [5, 3, 4, 1]


def write(folder: Path, padding: float) -> dict[str, np.ndarray]:
    """Four series of five values with a length; after it, and at one place inside, there is `padding`."""
    g = np.random.default_rng(0)
    x, y, c = g.normal(size=(4, 5)), g.normal(size=(4, 5, 2)), g.integers(0, 3, (4, 5)).astype(float)
    for k, n in enumerate(LENGTHS):
        x[k, n:] = y[k, n:] = c[k, n:] = padding
    x[0, 2] = np.nan
    y[2, 1, 0] = np.nan
    np.savez(folder / "d.npz", x=x, y=y, c=c, n=np.array(LENGTHS))
    return {"x": x, "y": y, "c": c}


def gradient(folder: Path, loss: str) -> tuple[float, Tensor, Tensor]:
    """The loss at the start, and the gradient by p and W from one step of size 1."""
    (folder / "m.ndl").write_text(TEXT.format(loss=loss), encoding="utf-8")
    program = Program.load(folder / "m.ndl")
    (result,) = program.run()
    p = torch.tensor([0.3, -0.8, 1.1, 0.4, -0.2], dtype=torch.float64)
    W = torch.tensor([[1, 0, 2], [0, 1, 0], [3, 0, 1], [0, 2, 0], [1, 1, 0]], dtype=torch.float64)
    model: Any = result.model
    return float(result.history.loss[0]), p - model.p.detach(), W - model.W.detach()


def known(d: dict[str, np.ndarray], name: str, k: int) -> tuple[Tensor, Tensor]:
    """Sample k without what is missing or padded, and where that stood, `[m, axes]`."""
    v = torch.from_numpy(d[name][k]).clone()
    v[LENGTHS[k] :] = torch.nan
    there = torch.nonzero(~torch.isnan(v))
    return v[tuple(there.T)], there


# the same for one sample: from the parameters, the values that are there and their places
FORMULAS: dict[str, tuple[str, Any]] = {
    "mean((p - data.x)^2)": ("x", lambda p, W, v, at: ((p[at[:, 0]] - v) ** 2).mean()),
    "sum(abs(p - data.x))": ("x", lambda p, W, v, at: (p[at[:, 0]] - v).abs().sum()),
    "max(p*data.x)": ("x", lambda p, W, v, at: (p[at[:, 0]] * v).max()),
    "min(p - data.x)": ("x", lambda p, W, v, at: (p[at[:, 0]] - v).min()),
    "var(p*data.x)": ("x", lambda p, W, v, at: (p[at[:, 0]] * v).var(correction=0)),
    "prod(2 + p*data.x)": ("x", lambda p, W, v, at: (2 + p[at[:, 0]] * v).prod()),
    "mean((p[i] - data.x[i])^2, i)": ("x", lambda p, W, v, at: ((p[at[:, 0]] - v) ** 2).mean()),
    "sum(p[i]*data.y[i, j]^2, i, j)": ("y", lambda p, W, v, at: (p[at[:, 0]] * v**2).sum()),
    "mean([p[i] - data.y[i, j] for i, j]^2)": ("y", lambda p, W, v, at: ((p[at[:, 0]] - v) ** 2).mean()),
    "norm(p - data.x)": ("x", lambda p, W, v, at: (p[at[:, 0]] - v).norm()),
    "rms(p - data.x)": ("x", lambda p, W, v, at: ((p[at[:, 0]] - v) ** 2).mean().sqrt()),
    "smooth_l1(p, data.x)": (
        "x",
        lambda p, W, v, at: torch.nn.functional.smooth_l1_loss(p[at[:, 0]], v),
    ),
    "rel_l2(p, data.x)": ("x", lambda p, W, v, at: (p[at[:, 0]] - v).norm() / v.norm()),
    "cross_entropy(W, data.c)": (
        "c",
        lambda p, W, v, at: torch.nn.functional.cross_entropy(W[at[:, 0]], v.long()),
    ),
    "sum(p*(if isnan(data.x) then 0 else data.x))": ("x", lambda p, W, v, at: (p[at[:, 0]] * v).sum()),
    "sum(if isnan(data.x) then 0 else p)": ("x", lambda p, W, v, at: p[at[:, 0]].sum()),
    "mean(exp(0.1*p*data.x) + data.x)": ("x", lambda p, W, v, at: ((0.1 * p[at[:, 0]] * v).exp() + v).mean()),
}


@pytest.mark.parametrize("loss", list(FORMULAS))
def test_a_formula_is_of_what_is_there(loss: str, tmp_path: Path) -> None:
    d = write(tmp_path, np.nan)
    name, formula = FORMULAS[loss]
    value, by_p, by_W = gradient(tmp_path, loss)
    p = torch.tensor([0.3, -0.8, 1.1, 0.4, -0.2], dtype=torch.float64, requires_grad=True)
    W = torch.tensor([[1, 0, 2], [0, 1, 0], [3, 0, 1], [0, 2, 0], [1, 1, 0]], dtype=torch.float64)
    W.requires_grad_()
    expected = torch.stack([formula(p, W, *known(d, name, k)) for k in range(4)]).mean()
    g, h = torch.autograd.grad(expected + 0 * (p.sum() + W.sum()), (p, W))
    assert value == pytest.approx(float(expected.detach()), abs=1e-12)
    assert torch.allclose(by_p, g, atol=1e-12) and torch.allclose(by_W, h, atol=1e-12)


@pytest.mark.parametrize("loss", list(FORMULAS))
def test_padding_has_no_influence_to_the_last_bit(loss: str, tmp_path: Path) -> None:
    """Whatever stands after a series's length, the loss and every gradient are the same numbers."""
    found = []
    for padding in (np.nan, 0.0, 1e30, -7.5):
        write(tmp_path, padding)
        found.append(gradient(tmp_path, loss))
    for value, by_p, by_W in found[1:]:
        assert value == found[0][0]
        assert torch.equal(by_p, found[0][1]) and torch.equal(by_W, found[0][2])


def test_what_only_missing_values_meet_has_no_gradient(tmp_path: Path) -> None:
    write(tmp_path, 3.0)
    raw = dict(np.load(tmp_path / "d.npz"))
    raw["n"] = np.array([3, 3, 2, 1])
    raw["x"][:, 1] = np.nan
    np.savez(tmp_path / "d.npz", **raw)
    _, by_p, _ = gradient(tmp_path, "mean((p - data.x)^2) + max(p*data.x)")
    assert by_p[1:2].tolist() == [0.0] and by_p[3:].tolist() == [0.0, 0.0]
    assert float(by_p[0]) != 0 and float(by_p[0]) == float(by_p[0])


REFUSED = ["data.y @ [1, 2]", "median(data.x)", "softmax(data.x)", "sum(sort(data.x))"]


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_count_missing_values_is_refused(what: str, tmp_path: Path) -> None:
    write(tmp_path, np.nan)
    with pytest.raises(NDLError, match=r"if isnan\(v\) then 0 else v") as caught:
        gradient(tmp_path, f"mean(p) + mean({what})")
    assert caught.value.diagnostics[0].code == "NDL615"


def test_a_net_refuses_missing_values(tmp_path: Path) -> None:
    write(tmp_path, np.nan)
    text = """
net F: R[5] -> R[1] = Linear()

train F:
    data  = table("d.npz", time=0..1, x="x")
    loss  = mean(F({x}))
    steps = 1
"""
    (tmp_path / "m.ndl").write_text(text.format(x="data.x"), encoding="utf-8")
    with pytest.raises(NDLError, match="a net would count missing values"):
        Program.load(tmp_path / "m.ndl").run()
    (tmp_path / "m.ndl").write_text(text.format(x="if isnan(data.x) then 0 else data.x"), encoding="utf-8")
    (result,) = Program.load(tmp_path / "m.ndl").run()
    assert bool(torch.isfinite(result.loss))
